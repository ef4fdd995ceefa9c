"""The clients of the real token service get tokens from the sandbox as they are, and our reader reads every answer."""

import base64
from datetime import UTC, datetime, timedelta

import pytest
import xmlsec
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from lxml import etree

from pipeline.protocol.algorithms import TokenProfile
from pipeline.protocol.credential import Credential, RsaKey
from pipeline.protocol.soap import Fault, read_envelope
from pipeline.protocol.wstrust import SecurityToken, TokenRequest
from pipeline.protocol.wstrust_reply import Expected, read_token
from pipeline.sandbox.home import Home
from pipeline.sandbox.sts import LEGACY_STS_PATH, STS_PATH
from pipeline.sandbox.sts_script import Variant
from pipeline.sandbox.trouble import Trouble
from tests.doubles.sandbox_client import SandboxClient
from tests.doubles.sandbox_messages import XENC, Answer, rsa_key
from tests.doubles.sts_clients import CLIENTS, Ask, Client, certificate_text, signed

BY_NAME = {client.name: client for client in CLIENTS}
every_client = pytest.mark.parametrize("name", BY_NAME)
OAEP = padding.OAEP(padding.MGF1(hashes.SHA1()), hashes.SHA1(), label=None)  # noqa: S303  - rsa-oaep-mgf1p is so defined


def _ask(client: SandboxClient, kind: Client, applies_to: str | None = None, second_party: str | None = None) -> Ask:
    path = LEGACY_STS_PATH if kind.legacy else STS_PATH
    return Ask(
        sts=client.sandbox.url + path,
        applies_to=applies_to or client.sandbox.home.applies_to,
        certificate=certificate_text(client.credential.certificate_der),
        first_party=client.credential.abn,
        now=datetime.now(UTC),
        second_party=second_party,
    )


async def _send(client: SandboxClient, kind: Client, ask: Ask, path: str | None = None) -> Answer:
    body = signed(kind.write(ask), client.credential.private_key)
    return await client.post(path or (LEGACY_STS_PATH if kind.legacy else STS_PATH), body, **kind.headers)


def _token(kind: Client, ask: Ask, answer: Answer) -> SecurityToken:
    assert answer.status == 200, answer.reason
    content = read_envelope(answer.body)
    assert not isinstance(content, Fault)
    wanted = TokenRequest(
        ask.applies_to, token_type=TokenProfile(kind.token_type), entropy=ask.entropy if kind.contributes else None
    )
    return read_token(content, answer.body, Expected(wanted, ask.message_id, datetime.now(UTC)))


def _opened(token: SecurityToken, home: Home) -> etree._Element:
    """The assertion, decrypted by the relying party's key."""
    manager = xmlsec.KeysManager()
    manager.add_key(rsa_key(RsaKey(home.relying_party.key)))
    tree = etree.Element("tree")
    tree.append(etree.fromstring(token.assertion))
    data = next(tree.iter(f"{{{XENC}}}EncryptedData"))
    return etree.fromstring(etree.tostring(xmlsec.EncryptionContext(manager).decrypt(data)))


def _key_in(assertion: etree._Element, home: Home) -> bytes:
    """The proof key that the assertion holds for the relying party."""
    value = next(assertion.iter(f"{{{XENC}}}EncryptedKey")).findtext(f".//{{{XENC}}}CipherValue") or ""
    return home.relying_party.key.decrypt(base64.b64decode(value), OAEP)


@every_client
@pytest.mark.parametrize("variant", Variant)
async def test_every_client_gets_a_token_whose_key_is_the_relying_partys_too(
    client: SandboxClient, home: Home, name: str, variant: Variant
) -> None:
    client.sandbox.script(Trouble(service="sts", variant=variant))
    kind = BY_NAME[name]
    ask = _ask(client, kind)
    token = _token(kind, ask, await _send(client, kind, ask))

    assert len(token.proof_key) == kind.key_bytes
    assertion = _opened(token, home)
    assert _key_in(assertion, home) == token.proof_key
    identity = assertion.get("AssertionID" if kind.legacy else "ID")
    assert token.assertion_id == ("" if variant is Variant.SPARSE else identity)
    wanted = min(timedelta(seconds=kind.seconds), timedelta(hours=8))
    assert abs(token.expires_at - ask.now - wanted) < timedelta(seconds=30)


@every_client
async def test_every_client_that_can_act_for_a_business_gets_a_token_about_that_business(
    client: SandboxClient, home: Home, other: Credential, name: str
) -> None:
    kind = BY_NAME[name]
    ask = _ask(client, kind, second_party=other.abn)
    text = etree.tostring(_opened(_token(kind, ask, await _send(client, kind, ask)), home)).decode()
    assert (f">{other.abn}<" in text) is not kind.legacy


@every_client
@pytest.mark.parametrize(
    "applies_to",
    [
        "https://3pt.portal.usi.gov.au/Service/v3/UsiCreateService.svc",
        "https://3pt.portal.usi.gov.au/service/v5/usiservice.svc",
        "https://test.sbr.gov.au/services",
        "https://test.sbr.gov.au/services/lodge.02.service",
        "https://m2m.uat.asic.gov.au",
    ],
)
async def test_the_test_systems_that_clients_name_are_known(client: SandboxClient, name: str, applies_to: str) -> None:
    kind = BY_NAME[name]
    ask = _ask(client, kind, applies_to)
    _token(kind, ask, await _send(client, kind, ask))


@pytest.mark.parametrize("applies_to", ["https://test.sbr.gov.au/servicesX", "https://test.sbr.gov.au", "urn:other"])
async def test_an_address_that_only_begins_like_a_known_one_is_not_known(
    client: SandboxClient, applies_to: str
) -> None:
    kind = BY_NAME["wcf"]
    assert (await _send(client, kind, _ask(client, kind, applies_to))).event == "E2003"


async def test_sha_1_is_taken_at_its_own_door_only_and_nothing_else_is_taken_there(client: SandboxClient) -> None:
    for name, path in (("legacy-php", STS_PATH), ("wcf", LEGACY_STS_PATH)):
        kind = BY_NAME[name]
        ask = _ask(client, kind)
        body = kind.write(ask).replace(STS_PATH if path == LEGACY_STS_PATH else LEGACY_STS_PATH, path)
        answer = await client.post(path, signed(body, client.credential.private_key), **kind.headers)
        assert answer.event == "E9003"


@pytest.mark.parametrize("path", [STS_PATH, LEGACY_STS_PATH, STS_PATH.replace("service.svc", "Service.svc")])
async def test_whoever_looks_whether_the_service_is_there_gets_an_answer(client: SandboxClient, path: str) -> None:
    assert (await client.get(path)).status == 200


@pytest.mark.parametrize("query", ["wsdl", "WSDL", "singleWsdl&wsdl"])
async def test_a_soap_library_that_starts_from_a_wsdl_finds_the_service_in_it(
    client: SandboxClient, query: str
) -> None:
    answer = await client.get(f"{STS_PATH}?{query}")
    assert answer.status == 200
    found = [one.get("location") for one in answer.root.iter("{http://schemas.xmlsoap.org/wsdl/soap12/}address")]
    assert found == [client.sandbox.sts_url]
    wsdl = "{http://schemas.xmlsoap.org/wsdl/}"
    names = {kind: [one.get("name") for one in answer.root.iter(wsdl + kind)] for kind in ("binding", "portType")}
    # What the port leads to must be there, or a library finds no operation.
    port, binding = next(answer.root.iter(wsdl + "port")), next(answer.root.iter(wsdl + "binding"))
    assert [port.get("binding")] == [f"tns:{name}" for name in names["binding"]]
    assert [binding.get("type")] == [f"tns:{name}" for name in names["portType"]]


@pytest.mark.parametrize("variant", [Variant.RECORDED, Variant.SPECIFIED, Variant.SPARSE])
async def test_a_client_may_cut_the_token_out_as_text(client: SandboxClient, variant: Variant) -> None:
    client.sandbox.script(Trouble(service="sts", variant=variant))
    kind = BY_NAME["julia"]
    ask = _ask(client, kind)
    answer = await _send(client, kind, ask)
    start, end = b"<saml2:EncryptedAssertion", b"</saml2:EncryptedAssertion>"
    cut = answer.body[answer.body.index(start) : answer.body.index(end) + len(end)]
    assert etree.tostring(etree.fromstring(cut), method="c14n") == etree.tostring(
        etree.fromstring(_token(kind, ask, answer).assertion), method="c14n"
    )


async def test_the_file_name_may_be_written_either_way(client: SandboxClient) -> None:
    kind = BY_NAME["php"]
    ask = _ask(client, kind)
    path = STS_PATH.replace("service.svc", "Service.svc")
    body = kind.write(ask).replace(STS_PATH, path)
    answer = await client.post(path, signed(body, client.credential.private_key))
    _token(kind, ask, answer)


@every_client
@pytest.mark.parametrize("part", ["Timestamp", "To"])
async def test_a_client_whose_signed_parts_were_altered_on_the_way_is_refused(
    client: SandboxClient, name: str, part: str
) -> None:
    kind = BY_NAME[name]
    ask = _ask(client, kind)
    body = signed(kind.write(ask), client.credential.private_key).decode()
    altered = body.replace("Z</", "Z </", 1) if part == "Timestamp" else body.replace("localhost", "Localhost", 1)
    assert altered != body
    answer = await client.post(LEGACY_STS_PATH if kind.legacy else STS_PATH, altered.encode(), **kind.headers)
    assert answer.event == "E9004"
