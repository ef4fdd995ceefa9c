"""The token request: judged by xmlsec and signxml, which share no code with what writes it."""

import base64
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import xmlsec
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree
from signxml.algorithms import DigestAlgorithm, SignatureMethod
from signxml.exceptions import InvalidInput
from signxml.verifier import SignatureConfiguration, XMLVerifier

from pipeline.protocol.algorithms import Algorithm, TokenProfile
from pipeline.protocol.namespaces import Ns
from pipeline.protocol.suites import V1_2_LEGACY
from pipeline.protocol.wstrust import Claim, Relationship, RelationshipId, TokenRequest, WsTrustError
from pipeline.protocol.wstrust_request import signed_request
from tests.doubles.synthetic_credentials import AGENT_ABN, CLIENT_ABN, credential

NOW = datetime(2026, 11, 23, 4, 5, 6, 789123, tzinfo=UTC)
STS = "https://sts.invalid/R3.0/S007v1.3/service.svc?a=1&b=2"
CLAIMS = (Claim("urn:claim:abn"), Claim("urn:claim:surname", optional=True))
REQUEST = TokenRequest("https://agency.invalid", CLAIMS, key_size=512)
ACT_AS = Relationship("_r1", AGENT_ABN, CLIENT_ABN, "0000123400")


def message(request: TokenRequest = REQUEST, *, sts: str = STS, nonce: str = "n1") -> etree._Element:
    return etree.fromstring(signed_request(request, credential(), sts, "urn:uuid:1", NOW, nonce))


def verify(root: etree._Element) -> None:
    """Raises what xmlsec raises when the signature does not hold over Timestamp and To."""
    context = xmlsec.SignatureContext()
    for element in root.iter("*"):
        if Ns.WSU("Id") in element.attrib:
            context.register_id(element, "Id", Ns.WSU)
    pem = credential().certificate.public_bytes(Encoding.PEM)
    context.key = xmlsec.Key.from_memory(pem, xmlsec.constants.KeyDataFormatCertPem)
    context.verify(only(root, Ns.DS("Signature")))


def only(root: etree._Element, name: str) -> etree._Element:
    (element,) = root.iter(name)
    return element


def test_xmlsec_verifies_the_signature_and_refuses_a_changed_time_or_address() -> None:
    verify(message())
    for name in (Ns.WSA("To"), Ns.WSU("Expires")):
        tampered = message()
        next(tampered.iter(name)).text = "https://other.invalid/"
        with pytest.raises(xmlsec.Error):
            verify(tampered)


def test_signxml_verifies_that_timestamp_and_address_are_what_was_signed() -> None:
    expected = SignatureConfiguration(location=".//", expect_references=2, verification_time=NOW)
    verified = XMLVerifier().verify(
        etree.tostring(message()), x509_cert=credential().certificate, expect_config=expected, id_attribute="Id"
    )
    assert isinstance(verified, list)
    timestamp, to = (etree.fromstring(result.signed_data) for result in verified)
    assert timestamp.tag == Ns.WSU("Timestamp")
    assert (to.tag, to.text) == (Ns.WSA("To"), STS)


@settings(deadline=None)
@given(path=st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), max_size=30))
def test_any_address_is_signed_as_it_is_sent(path: str) -> None:
    root = message(sts=f"https://sts.invalid/{path}")
    verify(root)
    assert only(root, Ns.WSA("To")).text == f"https://sts.invalid/{path}"


def test_emits_sha_256_and_exclusive_canonicalization_only() -> None:
    root = message()
    algorithms = {element.get("Algorithm") for element in root.iter() if element.get("Algorithm")}
    assert algorithms == {Algorithm.EXCLUSIVE_C14N, Algorithm.SHA256, Algorithm.RSA_SHA256}


def test_headers_stand_in_the_order_of_the_working_clients() -> None:
    header = only(message(), Ns.SOAP("Header"))
    assert [child.tag for child in header] == [
        Ns.WSA("Action"),
        Ns.WSA("MessageID"),
        Ns.WSA("ReplyTo"),
        Ns.WSA("To"),
        Ns.WSSE("Security"),
    ]
    assert [child.tag for child in header[4]] == [
        Ns.WSU("Timestamp"),
        Ns.WSSE("BinarySecurityToken"),
        Ns.DS("Signature"),
    ]
    assert header[0].text == f"{Ns.WST}/RST/Issue"
    assert header[1].text == "urn:uuid:1"
    assert only(header[2], Ns.WSA("Address")).text == f"{Ns.WSA}/anonymous"
    assert {child.get(Ns.SOAP("mustUnderstand")) for child in (header[0], header[3], header[4])} == {"1"}


def test_the_token_is_the_leaf_alone_and_the_key_info_refers_to_it() -> None:
    root = message()
    token = only(root, Ns.WSSE("BinarySecurityToken"))
    assert base64.b64decode(token.text or "") == credential().certificate_der
    assert (token.get("EncodingType"), token.get("ValueType")) == (TokenProfile.BASE64, TokenProfile.X509V3)
    assert only(root, Ns.WSSE("Reference")).get("URI") == f"#{token.get(Ns.WSU('Id'))}"


def test_the_message_lives_five_minutes_and_times_have_three_fraction_digits() -> None:
    timestamp = only(message(), Ns.WSU("Timestamp"))
    assert [child.text for child in timestamp] == ["2026-11-23T04:05:06.789Z", "2026-11-23T04:10:06.789Z"]


def test_the_body_asks_for_what_the_request_says() -> None:
    rst = only(message(replace(REQUEST, context="urn:request:1")), Ns.WST("RequestSecurityToken"))
    assert rst.get("Context") == "urn:request:1"
    texts = {etree.QName(child).localname: child.text for child in rst if child.text}
    assert texts == {
        "RequestType": f"{Ns.WST}/Issue",
        "TokenType": TokenProfile.SAML20,
        "KeyType": f"{Ns.WST}/SymmetricKey",
        "KeySize": "512",
    }
    address = rst.findtext(f"{Ns.WSP('AppliesTo')}/{Ns.WSA('EndpointReference')}/{Ns.WSA('Address')}")
    assert address == "https://agency.invalid"
    assert [time.text for time in only(rst, Ns.WST("Lifetime"))] == [
        "2026-11-23T04:05:06.789Z",
        "2026-11-23T04:35:06.789Z",
    ]
    claims = only(rst, Ns.WST("Claims"))
    assert claims.get("Dialect") == Ns.IDENTITY
    assert [(one.tag, dict(one.attrib)) for one in claims] == [
        (Ns.IDENTITY("ClaimType"), {"Uri": "urn:claim:abn", "Optional": "false"}),
        (Ns.IDENTITY("ClaimType"), {"Uri": "urn:claim:surname", "Optional": "true"}),
    ]


def test_leaves_out_what_is_not_asked_for() -> None:
    rst = only(message(TokenRequest("https://agency.invalid")), Ns.WST("RequestSecurityToken"))
    names = {etree.QName(child).localname for child in rst}
    assert names == {"RequestType", "AppliesTo", "TokenType", "Lifetime", "KeyType"}
    assert rst.get("Context") is None


def test_acts_for_a_client_in_the_namespace_of_ws_trust_1_4_with_qualified_attributes() -> None:
    v13 = Ns.VANGUARD_RELATIONSHIP
    act_as = only(message(replace(REQUEST, relationship=ACT_AS)), Ns.WST14("ActAs"))
    seen = [(etree.QName(element).localname, dict(element.attrib)) for element in act_as.iterdescendants("*")]
    scheme = "uri://abr.gov.au/ABN"
    assert seen == [
        ("RelationshipToken", {v13("ID"): "_r1"}),
        ("Relationship", {v13("Type"): "OSPfor"}),
        ("Attribute", {v13("Name"): "SSID", v13("Value"): "0000123400"}),
        ("FirstParty", {v13("Scheme"): scheme, v13("Value"): AGENT_ABN}),
        ("SecondParty", {v13("Scheme"): scheme, v13("Value"): CLIENT_ABN}),
    ]


@pytest.mark.parametrize(
    ("form", "name"),
    [
        (RelationshipId.QUALIFIED, Ns.VANGUARD_RELATIONSHIP("ID")),
        (RelationshipId.UNQUALIFIED, "ID"),
        (RelationshipId.WSU, Ns.WSU("Id")),
    ],
)
def test_writes_the_relationship_s_id_as_it_is_told(form: RelationshipId, name: str) -> None:
    root = message(replace(REQUEST, relationship=replace(ACT_AS, id_attribute=form)))
    attributes = only(root, Ns.VANGUARD_RELATIONSHIP("RelationshipToken")).attrib
    assert (len(attributes), attributes.get(name)) == (1, "_r1")
    verify(root)


def test_writes_the_value_of_a_claim_where_one_is_given() -> None:
    root = message(replace(REQUEST, claims=(Claim("urn:claim:abn", value=CLIENT_ABN), Claim("urn:claim:surname"))))
    first, second = root.iter(Ns.IDENTITY("ClaimType"))
    assert [(child.tag, child.text) for child in first] == [(Ns.IDENTITY("Value"), CLIENT_ABN)]
    assert len(second) == 0


def test_contributes_entropy_with_the_algorithm_that_uses_it() -> None:
    rst = only(message(replace(REQUEST, entropy=bytes(range(32)))), Ns.WST("RequestSecurityToken"))
    secret = only(rst, Ns.WST("BinarySecret"))
    assert secret.getparent() is rst.find(Ns.WST("Entropy"))
    assert base64.b64decode(secret.text or "") == bytes(range(32))
    assert secret.get("Type") == f"{Ns.WST}/Nonce"
    assert rst.findtext(Ns.WST("ComputedKeyAlgorithm")) == f"{Ns.WST}/CK/PSHA1"


def test_a_back_dated_message_lives_as_long_and_its_token_is_not_asked_for_the_past() -> None:
    back = timedelta(seconds=9)
    document = signed_request(REQUEST, credential(), STS, "urn:uuid:1", NOW, "n1", back_date=back)
    root = etree.fromstring(document)
    verify(root)
    assert [time.text for time in only(root, Ns.WSU("Timestamp"))] == [
        "2026-11-23T04:04:57.789Z",
        "2026-11-23T04:09:57.789Z",
    ]
    assert [time.text for time in only(root, Ns.WST("Lifetime"))][1] == "2026-11-23T04:35:06.789Z"


class TestTheLegacyContract:
    SHA1 = f"{Ns.DS}sha1"
    RSA_SHA1 = f"{Ns.DS}rsa-sha1"

    def document(self) -> bytes:
        return signed_request(REQUEST, credential(), STS, "urn:uuid:1", NOW, "n1", suite=V1_2_LEGACY)

    def test_signs_the_same_parts_with_sha_1_and_xmlsec_verifies_it(self) -> None:
        root = etree.fromstring(self.document())
        verify(root)
        algorithms = {element.get("Algorithm") for element in root.iter() if element.get("Algorithm")}
        assert algorithms == {Algorithm.EXCLUSIVE_C14N, self.SHA1, self.RSA_SHA1}
        references = [one.get("URI") for one in root.iter(Ns.DS("Reference"))]
        assert references == ["#TS-n1", "#To-n1"]

    def test_is_refused_by_signxml_unless_it_is_told_to_take_sha_1(self) -> None:
        def judge(config: SignatureConfiguration) -> None:
            XMLVerifier().verify(
                self.document(), x509_cert=credential().certificate, expect_config=config, id_attribute="Id"
            )

        usual = SignatureConfiguration(location=".//", expect_references=2)
        with pytest.raises(InvalidInput, match="RSA_SHA1"):
            judge(usual)
        judge(
            replace(
                usual,
                signature_methods=frozenset({SignatureMethod.RSA_SHA1}),
                digest_algorithms=frozenset({DigestAlgorithm.SHA1}),
            )
        )

    def test_differs_from_the_usual_one_in_nothing_but_the_signature(self) -> None:
        usual, legacy = message(), etree.fromstring(self.document())
        for root in (usual, legacy):
            signature = only(root, Ns.DS("Signature"))
            for element in [*signature.iter(Ns.DS("SignatureValue")), *signature.iter(Ns.DS("DigestValue"))]:
                element.text = ""
            for element in signature.iter(Ns.DS("DigestMethod"), Ns.DS("SignatureMethod")):
                element.attrib.clear()
        assert etree.tostring(usual, method="c14n") == etree.tostring(legacy, method="c14n")


def test_every_attempt_has_its_own_ids() -> None:
    first = {e.get(Ns.WSU("Id")) for e in message(nonce="a").iter("*")} - {None}
    second = {e.get(Ns.WSU("Id")) for e in message(nonce="b").iter("*")} - {None}
    assert len(first) == len(second) == 3
    [certificate] = first & second
    assert str(certificate).startswith("X509-")


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"lifetime": timedelta(minutes=5)}, "wstrust.lifetime"),
        ({"lifetime": timedelta(hours=8, seconds=1)}, "wstrust.lifetime"),
        ({"lifetime": timedelta(0)}, "wstrust.lifetime"),
        ({"key_size": 64}, "wstrust.key-size"),
        ({"key_size": 257}, "wstrust.key-size"),
        ({"key_size": 4096}, "wstrust.key-size"),
        ({"context": ""}, "wstrust.context"),
        ({"context": "x" * 513}, "wstrust.context"),
        ({"context": "a<b"}, "wstrust.context"),
        ({"context": "a b"}, "wstrust.context"),
        ({"applies_to": ""}, "wstrust.uri"),
        ({"applies_to": "m2m.agency.invalid"}, "wstrust.uri"),
        ({"applies_to": "https://a b"}, "wstrust.uri"),
        ({"applies_to": "https://a\x00"}, "wstrust.uri"),
        ({"claims": (Claim("abn"),)}, "wstrust.uri"),
        ({"entropy": bytes(15)}, "wstrust.entropy"),
        ({"entropy": bytes(129)}, "wstrust.entropy"),
    ],
)
def test_refuses_a_request_outside_the_service_s_limits(change: dict[str, object], code: str) -> None:
    with pytest.raises(WsTrustError) as refused:
        replace(REQUEST, **change)  # type: ignore[arg-type]  # the table above holds values of each field's type
    assert refused.value.code == code


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"second_party": "2780936637"}, "wstrust.abn"),
        ({"first_party": "27 809 366 375"}, "wstrust.abn"),
        ({"software_id": "123400"}, "wstrust.software-id"),
        ({"software_id": "000012340\N{ARABIC-INDIC DIGIT ZERO}"}, "wstrust.software-id"),
        ({"id": "1-starts-with-a-digit"}, "wstrust.relationship-id"),
    ],
)
def test_refuses_a_relationship_that_the_service_could_not_read(change: dict[str, str], code: str) -> None:
    with pytest.raises(WsTrustError) as refused:
        replace(ACT_AS, **change)  # type: ignore[arg-type]  # the fields changed above are texts
    assert refused.value.code == code


def test_refuses_a_message_of_more_than_100_kilobytes_in_either_reading() -> None:
    fits = replace(REQUEST, claims=tuple(Claim(f"urn:claim:{number}:{'x' * 200}") for number in range(350)))
    spare = 100_000 - len(etree.tostring(message(fits)))
    padded = (*fits.claims, Claim("urn:" + "x" * (spare - 200)))
    assert len(signed_request(replace(fits, claims=padded), credential(), STS, "urn:uuid:1", NOW, "n1")) <= 100_000
    with pytest.raises(WsTrustError, match="ask for fewer claims"):
        message(replace(fits, claims=(*fits.claims, Claim("urn:" + "x" * spare))))
    many = tuple(Claim(f"urn:claim:{number}:{'x' * 200}") for number in range(400))
    with pytest.raises(WsTrustError, match=r"MAS-ST 4\.1\.1") as refused:
        message(replace(REQUEST, claims=many))
    assert refused.value.code == "wstrust.size"
