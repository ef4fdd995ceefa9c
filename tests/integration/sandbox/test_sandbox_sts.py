"""The token service: what it grants, and what it refuses for which reason."""

import itertools
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
import xmlsec
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from lxml import etree

from pipeline.protocol.credential import Credential, RsaKey
from pipeline.sandbox.certificates import credential_authority, machine_credential, root_authority
from pipeline.sandbox.home import Home, Standing
from pipeline.sandbox.server import Sandbox
from pipeline.sandbox.sts_script import Event, FaultShape, Variant
from pipeline.sandbox.trouble import Trouble
from tests.doubles.sandbox_client import SandboxClient
from tests.doubles.sandbox_messages import (
    CLAIM,
    IDENTITY,
    V13,
    WSA,
    WSP,
    WSSE,
    WST,
    WST14,
    WSU,
    at,
    element,
    read_token,
    rsa_key,
    utc,
)

Bend = Callable[[etree._Element], None]
STS = "/R3.0/S007v1.3/service.svc"


async def test_grants_a_token_in_the_recorded_shape(client: SandboxClient) -> None:
    request = client.token_request()
    message_id = request.findtext(f".//{{{WSA}}}MessageID")
    answer = await client.ask(request)

    assert answer.status == 200
    assert answer.text(f"{{{WSA}}}RelatesTo") == message_id
    response = at(answer.root, f"{{{WST}}}RequestSecurityTokenResponse")
    assert [etree.QName(child).localname for child in response] == [
        "TokenType",
        "RequestedSecurityToken",
        "RequestedAttachedReference",
        "RequestedUnattachedReference",
        "AppliesTo",
        "RequestedProofToken",
        "Lifetime",
    ]
    assert at(response, f"{{{WST}}}BinarySecret").get("Type") == f"{WST}/Nonce"
    assert len(read_token(answer).proof_key) == 64


async def test_arranges_the_response_as_the_service_definition_does_when_told_so(
    home: Home, credential: Credential
) -> None:
    async with (
        Sandbox(home, variant=Variant.SPECIFIED, secret_bytes=48) as sandbox,
        SandboxClient(sandbox, credential) as client,
    ):
        answer = await client.ask(client.token_request())

    requested = at(answer.root, f"{{{WST}}}RequestedSecurityToken")
    assert requested.find(f"{{{WST}}}RequestedProofToken") is not None
    assert answer.text(f"{{{WST}}}KeySize") == "384"
    assert len(read_token(answer).proof_key) == 48


async def test_gives_half_an_hour_and_256_bits_when_nothing_is_asked(client: SandboxClient) -> None:
    request = client.token_request()
    for name in ("Lifetime", "KeySize", "KeyType", "TokenType", "Claims"):
        _drop(request, f"{{{WST}}}{name}")
    token = read_token(await client.ask(request))

    assert len(token.proof_key) == 32
    left = datetime.fromisoformat(token.expires_at) - datetime.now(UTC)
    assert timedelta(minutes=25) < left <= timedelta(minutes=30)


async def test_echoes_the_context(client: SandboxClient) -> None:
    request = client.token_request()
    at(request, f"{{{WST}}}RequestSecurityToken").set("Context", "urn:synthetic:context")
    answer = await client.ask(request)

    assert at(answer.root, f"{{{WST}}}RequestSecurityTokenResponse").get("Context") == "urn:synthetic:context"


@pytest.mark.parametrize(
    ("standing", "code"), [(Standing.EXPIRED, "E2015"), (Standing.REVOKED, "E2014"), (Standing.UNKNOWN, "E2169")]
)
async def test_refuses_a_credential_in_bad_standing(
    sandbox: Sandbox, credentials: dict[str, Credential], standing: Standing, code: str
) -> None:
    async with SandboxClient(sandbox, credentials[sandbox.home.credential(standing).id]) as client:
        answer = await client.ask(client.token_request())

    assert answer.event == code
    assert answer.codes == ["Sender", "FailedAuthentication", code]
    assert f"Event Code: [{code}]" in answer.reason


async def test_refuses_a_credential_of_another_authority(sandbox: Sandbox, credential: Credential) -> None:
    now = datetime.now(UTC)
    authority = credential_authority(root_authority(now), now)
    forged = machine_credential(authority, credential.abn, credential.name, now, now + timedelta(days=1))
    der = forged.certificate.public_bytes(Encoding.DER)
    impostor = Credential(credential.id, credential.abn, credential.name, forged.certificate, der, RsaKey(forged.key))
    async with SandboxClient(sandbox, impostor) as client:
        assert (await client.ask(client.token_request())).event == "E2020"


async def test_refuses_a_certificate_that_cannot_be_read(client: SandboxClient) -> None:
    request = client.token_request()
    at(request, f"{{{WSSE}}}BinarySecurityToken").text = "AAAA"
    assert (await client.ask(request)).event == "E2029"


def _drop(root: etree._Element, tag: str) -> None:
    found = at(root, tag)
    parent = found.getparent()
    assert parent is not None
    parent.remove(found)


def _set(tag: str, text: str) -> Bend:
    def bend(root: etree._Element) -> None:
        at(root, tag).text = text

    return bend


def _claim(name: str) -> Bend:
    def bend(root: etree._Element) -> None:
        at(root, f"{{{WST}}}Claims").append(element(f"{{{IDENTITY}}}ClaimType", Uri=name))

    return bend


@pytest.mark.parametrize(
    ("bend", "code"),
    [
        pytest.param(_set(f"{{{WST}}}TokenType", "urn:saml1"), "E2001", id="token type"),
        pytest.param(_set(f"{{{WST}}}RequestType", f"{WST}/Renew"), "E9000", id="request type"),
        pytest.param(_set(f"{{{WSA}}}Address", "https://somewhere.invalid"), "E2003", id="relying party"),
        pytest.param(lambda root: _drop(root, f"{{{WSP}}}AppliesTo"), "E9001", id="no AppliesTo"),
        pytest.param(_claim(f"{CLAIM}samIsubjectid"), "E2183", id="unknown claim"),
        pytest.param(_claim(f"{CLAIM}givennames"), "E2182", id="claim without value"),
    ],
)
async def test_refuses_what_cannot_be_granted(client: SandboxClient, bend: Bend, code: str) -> None:
    request = client.token_request()
    bend(request)
    assert (await client.ask(request)).event == code


async def test_leaves_out_optional_claims_that_it_cannot_fill(client: SandboxClient) -> None:
    request = client.token_request()
    claims = at(request, f"{{{WST}}}Claims")
    for name in (f"{CLAIM}givennames", "urn:nobody:knows"):
        claims.append(element(f"{{{IDENTITY}}}ClaimType", Uri=name, Optional="true"))
    assert (await client.ask(request)).status == 200


def _expires_in(delta: timedelta) -> Bend:
    def bend(root: etree._Element) -> None:
        expires = at(root, f"{{{WST}}}Lifetime").find(f"{{{WSU}}}Expires")
        assert expires is not None
        expires.text = utc(datetime.now(UTC) + delta)

    return bend


@pytest.mark.parametrize(
    "bend",
    [
        pytest.param(_expires_in(timedelta(minutes=4)), id="less than five minutes"),
        pytest.param(_expires_in(timedelta(hours=24, minutes=10)), id="more than a day"),
        pytest.param(_set(f"{{{WST}}}KeySize", "large"), id="key size"),
        pytest.param(lambda root: at(root, f"{{{WST}}}Claims").set("Dialect", f"{IDENTITY}/claims"), id="dialect"),
        pytest.param(lambda root: at(root, f"{{{WST}}}Claims").clear(), id="no claim"),
    ],
)
async def test_refuses_an_invalid_request(client: SandboxClient, bend: Bend) -> None:
    request = client.token_request()
    bend(request)
    answer = await client.ask(request)
    assert (answer.status, answer.codes) == (500, ["Sender", "InvalidRequest"])


async def test_cuts_a_wish_for_a_day_down_to_the_eight_hours_there_are(client: SandboxClient) -> None:
    request = client.token_request()
    _expires_in(timedelta(hours=24))(request)
    token = read_token(await client.ask(request))
    left = datetime.fromisoformat(token.expires_at) - datetime.now(UTC)
    assert timedelta(hours=7, minutes=55) < left <= timedelta(hours=8)


def _act_as_of_the_service_definition(root: etree._Element) -> None:
    at(root, f"{{{WST}}}RequestSecurityToken").append(element(f"{{{WST}}}ActAs"))


def _entropy(algorithm: str, secret: str) -> Bend:
    def bend(root: etree._Element) -> None:
        inside = element(f"{{{WST}}}BinarySecret", secret)
        computed = element(f"{{{WST}}}ComputedKeyAlgorithm", algorithm)
        at(root, f"{{{WST}}}RequestSecurityToken").extend((element(f"{{{WST}}}Entropy", inside), computed))

    return bend


@pytest.mark.parametrize(
    "bend",
    [
        pytest.param(_act_as_of_the_service_definition, id="ActAs of WS-Trust 1.3"),
        pytest.param(_entropy("urn:other", "AAAAAAAAAAAAAAAAAAAAAA=="), id="another algorithm"),
        pytest.param(_entropy(f"{WST}/CK/PSHA1", "AAAA"), id="too little entropy"),
        pytest.param(_entropy(f"{WST}/CK/PSHA1", "****"), id="entropy that is no base64"),
        pytest.param(lambda root: at(root, f"{{{WST}}}RequestSecurityToken").set("Context", "x" * 513), id="context"),
    ],
)
async def test_refuses_what_it_could_only_misunderstand(client: SandboxClient, bend: Bend) -> None:
    request = client.token_request()
    bend(request)
    assert (await client.ask(request)).codes == ["Sender", "InvalidRequest"]


async def test_sends_every_fault_in_every_shape_on_demand(client: SandboxClient) -> None:
    for event, shape in itertools.product(Event, FaultShape):
        client.sandbox.script(
            Trouble(service="sts", outage=True, event=event, shape=shape, status=502, available_in=60)
        )
        answer = await client.ask(client.token_request())
        if shape in {FaultShape.HTML, FaultShape.EMPTY}:
            assert (answer.status, b"<html>" in answer.body) == (502, shape is FaultShape.HTML)
            continue
        receiver = event in {"E1001", "E1003", "E1004", "E2190", "E2192"}
        assert (answer.status, answer.codes[0]) == (500, "Receiver" if receiver else "Sender")
        told = answer.text("{http://vanguard.business.gov.au/2009/02}EventCode")
        assert told == (event if shape is FaultShape.DETAIL else None)
        assert (event in answer.codes) is (shape in {FaultShape.DETAIL, FaultShape.SUBCODE})
        assert (f"Event Code: [{event}]" in answer.reason) is (shape in {FaultShape.DETAIL, FaultShape.REASON})
        back = datetime.fromisoformat(answer.text("{http://sbr.gov.au/comn/core.02.data}AvailableAfter") or "")
        assert timedelta(seconds=30) < back - datetime.now(UTC) <= timedelta(seconds=60)


def test_only_the_token_service_can_be_told_how_to_fail() -> None:
    with pytest.raises(ValueError, match="only the token service has shape"):
        Trouble(service="asic", shape=FaultShape.HTML)


async def test_refuses_a_request_over_100_kilobytes(client: SandboxClient) -> None:
    request = client.token_request()
    at(request, f"{{{WST}}}RequestSecurityToken").append(element(f"{{{WST}}}Extra", "x" * 102_400))
    assert (await client.ask(request)).codes == ["Sender", "InvalidRequest"]


def _acting(first: str, second: str) -> etree._Element:
    def v13(name: str, *content: etree._Element, **attributes: str) -> etree._Element:
        made = element(f"{{{V13}}}{name}", *content)
        for key, value in attributes.items():
            made.set(f"{{{V13}}}{key}", value)
        return made

    attribute = v13("Attribute", Name="SSID", Value="0000123400")
    return element(
        f"{{{WST14}}}ActAs",
        v13(
            "RelationshipToken",
            v13("Relationship", attribute, Type="OSPfor"),
            v13("FirstParty", Scheme="uri://abr.gov.au/ABN", Value=first),
            v13("SecondParty", Scheme="uri://abr.gov.au/ABN", Value=second),
            ID="_relationship",
        ),
    )


async def test_lets_a_business_act_for_another(client: SandboxClient, other: Credential) -> None:
    request = client.token_request()
    at(request, f"{{{WST}}}RequestSecurityToken").append(_acting(client.credential.abn, other.abn))
    assert (await client.ask(request)).status == 200


async def test_refuses_a_first_party_that_is_not_the_credentials_own_abn(
    client: SandboxClient, other: Credential
) -> None:
    request = client.token_request()
    at(request, f"{{{WST}}}RequestSecurityToken").append(_acting(other.abn, client.credential.abn))
    answer = await client.ask(request)
    assert answer.codes == ["Sender", "InvalidRequest"]
    assert "FirstParty" in answer.reason


async def test_the_token_decrypts_for_the_relying_party_and_is_signed_by_the_service(
    client: SandboxClient, home: Home
) -> None:
    token = await client.token()
    manager = xmlsec.KeysManager()
    manager.add_key(rsa_key(RsaKey(home.relying_party.key)))
    tree = element("tree", etree.fromstring(token.assertion))
    assertion = xmlsec.EncryptionContext(manager).decrypt(tree[0][0])
    assertion = etree.fromstring(etree.tostring(assertion))
    context = xmlsec.SignatureContext()
    certificate = home.sts.certificate.public_bytes(Encoding.PEM)
    context.key = xmlsec.Key.from_memory(certificate, xmlsec.constants.KeyDataFormatCertPem)
    context.register_id(assertion, "ID")
    context.verify(assertion[1])

    issued_to = x509.load_der_x509_certificate(client.credential.certificate_der)
    assert issued_to.subject.rfc4514_string()
    assert client.credential.abn.encode() in etree.tostring(assertion)
