"""What is sealed for SBR2, judged by two other implementations of XML Signature: xmlsec and signxml."""

import base64
import hashlib
import re

import pytest
import xmlsec
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree
from signxml.exceptions import SignXMLException
from signxml.verifier import SignatureConfiguration, XMLVerifier

from pipeline.protocol.algorithms import Algorithm, TokenProfile
from pipeline.protocol.as4_signature import (
    AGENCY_LAYOUT,
    SBR2_LAYOUT,
    Covered,
    SecurityLayout,
    plain_envelope,
    signed_envelope,
)
from pipeline.protocol.ebms3 import Unit
from pipeline.protocol.mime_writer import cid_url
from pipeline.protocol.namespaces import Ns
from pipeline.protocol.wsse import AssertionReference, identity_token
from pipeline.protocol.xml import XmlError, canonical, parse
from tests.doubles.as4 import CONTENT_ID, NOW, PROFILE, SOFTWARE, Sealed, pull, push, sealed
from tests.doubles.asic import make_assertion, make_credential
from tests.doubles.ebms3_units import UNITS

SAML = Ns.SAML2.value
ASSERTIONS = [
    make_assertion(),
    make_assertion(default_namespace=True),
    f'<EncryptedAssertion\n\txmlns = "{SAML}"><a xmlns="urn:a">\r\n</a></EncryptedAssertion>'.encode(),
    f'<soap:EncryptedAssertion xmlns:soap="{SAML}"><eb:x xmlns:eb="urn:x"/></soap:EncryptedAssertion>'.encode(),
    f'<x:EncryptedAssertion xmlns:x="{SAML}" xmlns:wsu="urn:other"><wsu:a/></x:EncryptedAssertion>'.encode(),
    f"<EncryptedAssertion xmlns='{SAML}' note='a > b'><!-- kept on the wire --></EncryptedAssertion>".encode(),
    f'<EncryptedAssertion xmlns="{SAML}" xmlns:u="{Ns.WSU}" u:Id="theirs"/>'.encode(),
]


def signature_of(root: etree._Element) -> etree._Element:
    (signature,) = root.iter(Ns.DS("Signature"))
    return signature


def judge_by_signxml(message: Sealed) -> int:
    """How many references hold, attachments among them: signxml takes their octets as they are."""
    contents = {cid_url(one.content_id or ""): one.content for one in message.attachments}
    results = XMLVerifier().verify(
        parse(message.envelope.soap),
        x509_cert=message.credential.certificate,
        uri_resolver=contents.get,
        id_attribute="Id",
        validate_schema=False,
        expect_config=SignatureConfiguration(expect_references=len(message.envelope.references)),
    )
    return len(results) if isinstance(results, list) else 1


def judge_by_xmlsec(message: Sealed) -> None:
    """Xmlsec knows no cid:, so it judges a whole signature only where nothing is attached."""
    root = parse(message.envelope.soap)
    context = xmlsec.SignatureContext()
    context.key = xmlsec.Key.from_memory(message.credential.certificate_der, xmlsec.constants.KeyDataFormatCertDer)
    register_ids(context, root)
    context.verify(signature_of(root))


def register_ids(context: xmlsec.SignatureContext, root: etree._Element) -> None:
    for node in root.iter("*"):
        if node.get(Ns.WSU("Id")) is not None:
            context.register_id(node, "Id", Ns.WSU)


def digests_by_xmlsec(message: Sealed) -> list[str]:
    """The digests that xmlsec itself finds for the elements which our signature refers to."""
    root = parse(message.envelope.soap)
    security = next(root.iter(Ns.WSSE("Security")))
    template = xmlsec.template.create(
        root, xmlsec.constants.TransformExclC14N, xmlsec.constants.TransformRsaSha256, ns="ds"
    )
    for one in message.envelope.references:
        if one.uri.startswith("#"):
            reference = xmlsec.template.add_reference(template, xmlsec.constants.TransformSha256, uri=one.uri)
            xmlsec.template.add_transform(reference, xmlsec.constants.TransformExclC14N)
    security.append(template)
    context = xmlsec.SignatureContext()
    register_ids(context, root)
    context.key = xmlsec.Key.generate(xmlsec.constants.KeyDataRsa, 2048, xmlsec.constants.KeyDataTypePrivate)
    context.sign(template)
    return [node.text or "" for node in template.iter(Ns.DS("DigestValue"))]


@settings(deadline=None)
@given(UNITS, st.sampled_from(ASSERTIONS))
def test_xmlsec_verifies_whatever_is_signed_without_an_attachment(unit: Unit, assertion: bytes) -> None:
    message = signed(unit, assertion)
    judge_by_xmlsec(message)
    assert judge_by_signxml(message) == 3


def signed(unit: Unit, assertion: bytes) -> Sealed:
    identity = identity_token(assertion, AssertionReference.WSU_ID)
    return Sealed(signed_envelope(unit, make_credential(), identity, (), "n1"), (), make_credential())


@settings(deadline=None)
@given(st.binary(min_size=1, max_size=300), st.sampled_from(ASSERTIONS))
def test_signxml_verifies_a_push_with_its_attachment(content: bytes, assertion: bytes) -> None:
    message = sealed(content=content, assertion=assertion)
    assert judge_by_signxml(message) == 4
    assert message.verify().attachments == message.attachments


def test_signxml_refuses_an_attachment_of_which_one_bit_has_changed() -> None:
    message = sealed()
    (one,) = message.attachments
    changed = type(one)(one.content_id, one.media_type, bytes([one.content[0] ^ 1]) + one.content[1:])
    with pytest.raises(SignXMLException):
        judge_by_signxml(Sealed(message.envelope, (changed,), message.credential))


@pytest.mark.parametrize("assertion", ASSERTIONS)
def test_xmlsec_finds_the_same_digests_in_a_push(assertion: bytes) -> None:
    message = sealed(assertion=assertion)
    ours = [base64.b64encode(one.digest).decode() for one in message.envelope.references]
    assert digests_by_xmlsec(message) == ours[:3]
    assert message.envelope.references[3].digest == hashlib.sha256(message.attachments[0].content).digest()


def test_a_pull_and_a_ping_are_signed_like_a_push() -> None:
    ping = PROFILE.ping("ping@example.test", "c", push().sender, SOFTWARE, NOW)
    for unit in (pull(), ping):
        message = sealed(unit, b"")
        judge_by_xmlsec(message)
        assert message.verify().references == message.envelope.references


def test_the_security_header_holds_assertion_certificate_and_one_signature_in_that_order() -> None:
    root = parse(sealed().envelope.soap)
    header, body = root
    assert [child.tag for child in header] == [Ns.EBMS3("Messaging"), Ns.WSSE("Security")]
    security = header[1]
    assert security.get(Ns.SOAP("mustUnderstand")) == "true"
    assert [child.tag for child in security] == [
        Ns.SAML2("EncryptedAssertion"),
        Ns.WSSE("BinarySecurityToken"),
        Ns.DS("Signature"),
    ]
    assert (len(body), body.text) == (0, None)
    assert sum(1 for _ in root.iter(Ns.DS("Signature"))) == 1


def test_the_signature_says_what_the_profile_says() -> None:
    root = parse(sealed().envelope.soap)
    signature = signature_of(root)
    info = signature[0]
    (assertion,) = root.iter(Ns.SAML2("EncryptedAssertion"))
    assert [node.get("Algorithm") for node in list(info)[:2]] == [Algorithm.EXCLUSIVE_C14N, Algorithm.RSA_SHA256]
    written = [(node.get("URI"), node[0][0].get("Algorithm"), node[1].get("Algorithm")) for node in list(info)[2:]]
    assert written == [
        ("#messaging-n1", Algorithm.EXCLUSIVE_C14N, Algorithm.SHA256),
        (f"#{assertion.get(Ns.WSU('Id'))}", Algorithm.EXCLUSIVE_C14N, Algorithm.SHA256),
        ("#body-n1", Algorithm.EXCLUSIVE_C14N, Algorithm.SHA256),
        (f"cid:{CONTENT_ID}", Algorithm.ATTACHMENT_CONTENT, Algorithm.SHA256),
    ]
    (token,) = root.iter(Ns.WSSE("BinarySecurityToken"))
    (reference,) = signature.findall(f"{Ns.DS('KeyInfo')}/{Ns.WSSE('SecurityTokenReference')}/{Ns.WSSE('Reference')}")
    assert (reference.get("URI"), reference.get("ValueType")) == (f"#{token.get(Ns.WSU('Id'))}", TokenProfile.X509V3)


def test_the_fragments_on_the_wire_are_their_own_canonical_form() -> None:
    soap = sealed().envelope.soap
    root = parse(soap)
    for node in (root[0][0], root[0][1][1], root[0][1][2], root[1]):
        assert canonical(node) in soap, node.tag


def test_a_layout_puts_the_certificate_first_and_covers_it() -> None:
    layout = SecurityLayout((*SBR2_LAYOUT.covered, Covered.TOKEN), token_first=True, must_understand="1")
    message = sealed(layout=layout)
    root = parse(message.envelope.soap)
    assert [etree.QName(node).localname for node in root[0][1]] == [
        "BinarySecurityToken",
        "EncryptedAssertion",
        "Signature",
    ]
    assert root[0][0].get(Ns.SOAP("mustUnderstand")) == "1"
    assert judge_by_signxml(message) == 5
    assert message.verify().references == message.envelope.references


def test_an_agencys_answer_is_signed_without_an_assertion() -> None:
    envelope = signed_envelope(push(), make_credential(), None, (), "n1", AGENCY_LAYOUT)
    judge_by_xmlsec(Sealed(envelope, (), make_credential()))
    with pytest.raises(XmlError) as caught:
        signed_envelope(push(), make_credential(), None, (), "n1")
    assert caught.value.code == "token.assertion"


def test_the_same_order_is_sealed_to_the_same_bytes() -> None:
    """RSA with PKCS #1 v1.5 has no chance in it: a push can be sent again as it was, even if it was not kept."""
    assert sealed().body() == sealed().body()


def test_a_plain_envelope_has_no_security() -> None:
    root = parse(plain_envelope(push(), "m"))
    assert [child.tag for child in root[0]] == [Ns.EBMS3("Messaging")]
    assert not re.search(rb"Security|Signature", plain_envelope(pull(), "m"))
