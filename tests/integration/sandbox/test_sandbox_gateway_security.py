"""The gateway's judgement of a Security header: what it misses, and what it does not believe."""

import base64
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
import xmlsec
from lxml import etree

from pipeline.protocol.credential import Credential
from pipeline.sandbox.asic_messages import Service
from pipeline.sandbox.home import Home
from pipeline.sandbox.server import Sandbox
from tests.doubles.sandbox_client import SandboxClient
from tests.doubles.sandbox_messages import (
    HDR,
    HMAC,
    WSSE,
    XENC,
    Answer,
    Suite,
    Token,
    at,
    binary_security_token,
    element,
    hmac_key,
    lodgment_body,
    rsa_key,
    seal,
    sign,
    unsealed,
)

Bend = Callable[[etree._Element], None]


async def _with_envelope(client: SandboxClient, service: Service, token: Token, bend: Bend) -> Answer:
    """Bend the envelope after it was signed."""
    message = client.message(service, lodgment_body(service))
    root = etree.fromstring(
        seal(unsealed(message, token, client.credential.certificate_der), token, client.credential.private_key)
    )
    bend(root)
    return await client.post(service.path, etree.tostring(root))


def _without_security(root: etree._Element) -> None:
    root[0].clear()


def _without_assertion(root: etree._Element) -> None:
    security = at(root, f"{{{WSSE}}}Security")
    security.remove(security[0])


@pytest.mark.parametrize("bend", [_without_security, _without_assertion])
async def test_misses_a_security_token(client: SandboxClient, lodging: Service, token: Token, bend: Bend) -> None:
    answer = await _with_envelope(client, lodging, token, bend)
    assert answer.codes == ["Sender", "SecurityTokenUnavailable"]


def _second_security(root: etree._Element) -> None:
    root[0].append(element(f"{{{WSSE}}}Security"))


def _second_certificate(root: etree._Element) -> None:
    second = binary_security_token(b"certificate")
    second.attrib.clear()
    at(root, f"{{{WSSE}}}Security").append(second)


def _another_document(root: etree._Element) -> None:
    at(root, f"{{{HDR}}}senderId").text = "SOMEBODY-ELSE"


def _without_document_signature(root: etree._Element) -> None:
    security = at(root, f"{{{WSSE}}}Security")
    security.remove(security[2])


def _without_envelope_signature(root: etree._Element) -> None:
    security = at(root, f"{{{WSSE}}}Security")
    security.remove(security[3])


def _damaged_token(root: etree._Element) -> None:
    value = list(root.iter(f"{{{XENC}}}CipherValue"))[1]
    value.text = base64.b64encode(b"\0" * 64).decode()


@pytest.mark.parametrize(
    "bend",
    [
        _second_security,
        _second_certificate,
        _another_document,
        _without_document_signature,
        _without_envelope_signature,
        _damaged_token,
    ],
)
async def test_refuses_an_envelope_that_was_changed(
    client: SandboxClient, lodging: Service, token: Token, bend: Bend
) -> None:
    assert (await _with_envelope(client, lodging, token, bend)).codes == ["Sender", "FailedCheck"]


@pytest.mark.parametrize("parts", [("body",), ("certificate",), ("body", "certificate", "assertion")])
async def test_refuses_a_document_signature_over_other_parts(
    client: SandboxClient, lodging: Service, token: Token, parts: tuple[str, ...]
) -> None:
    root = unsealed(client.message(lodging, lodgment_body(lodging)), token, client.credential.certificate_der)
    sign(root, rsa_key(client.credential.private_key), parts, signature_id="document")
    sign(root, hmac_key(token.proof_key), ("document", "body", "assertion"), HMAC)
    assert (await client.post(lodging.path, etree.tostring(root))).codes == ["Sender", "FailedCheck"]


@pytest.mark.parametrize("parts", [("body", "assertion"), ("document", "assertion"), ("document", "body")])
async def test_refuses_an_envelope_signature_over_other_parts(
    client: SandboxClient, lodging: Service, token: Token, parts: tuple[str, ...]
) -> None:
    root = unsealed(client.message(lodging, lodgment_body(lodging)), token, client.credential.certificate_der)
    sign(root, rsa_key(client.credential.private_key), ("body", "certificate"), signature_id="document")
    sign(root, hmac_key(token.proof_key), parts, HMAC)
    assert (await client.post(lodging.path, etree.tostring(root))).codes == ["Sender", "FailedCheck"]


@pytest.mark.parametrize(
    ("by_certificate", "by_session_key"),
    [
        pytest.param(Suite(signature=xmlsec.constants.TransformRsaSha1), HMAC, id="RSA-SHA1"),
        pytest.param(Suite(digest=xmlsec.constants.TransformSha1), HMAC, id="SHA-1 digest"),
        pytest.param(Suite(), Suite(signature=xmlsec.constants.TransformHmacSha1), id="HMAC-SHA1"),
        pytest.param(Suite(), Suite(signature=xmlsec.constants.TransformHmacSha512), id="HMAC-SHA512"),
    ],
)
async def test_refuses_sha1_and_every_other_algorithm(
    client: SandboxClient, lodging: Service, token: Token, by_certificate: Suite, by_session_key: Suite
) -> None:
    root = unsealed(client.message(lodging, lodgment_body(lodging)), token, client.credential.certificate_der)
    own = rsa_key(client.credential.private_key)
    sign(root, own, ("body", "certificate"), by_certificate, signature_id="document")
    sign(root, hmac_key(token.proof_key), ("document", "body", "assertion"), by_session_key)
    assert (await client.post(lodging.path, etree.tostring(root))).codes == ["Sender", "FailedCheck"]


async def test_refuses_a_hash_key_made_of_the_public_certificate_where_a_certificate_signs(
    client: SandboxClient, lodging: Service, token: Token
) -> None:
    root = unsealed(client.message(lodging, lodgment_body(lodging)), token, client.credential.certificate_der)
    public = hmac_key(client.credential.certificate_der)
    sign(root, public, ("body", "certificate"), HMAC, signature_id="document")
    sign(root, hmac_key(token.proof_key), ("document", "body", "assertion"), HMAC)
    assert (await client.post(lodging.path, etree.tostring(root))).codes == ["Sender", "FailedCheck"]


async def test_refuses_another_session_key(client: SandboxClient, lodging: Service, token: Token) -> None:
    wrong = Token(token.assertion, b"0" * len(token.proof_key))
    answer = await client.lodge(lodging, client.message(lodging, lodgment_body(lodging)), wrong)
    assert answer.codes == ["Sender", "FailedCheck"]


async def test_refuses_a_token_that_was_issued_to_another_certificate(
    client: SandboxClient, lodging: Service, token: Token, other: Credential
) -> None:
    root = unsealed(client.message(lodging, lodgment_body(lodging)), token, other.certificate_der)
    answer = await client.post(lodging.path, seal(root, token, other.private_key))
    assert answer.codes == ["Sender", "InvalidSecurityToken"]


async def test_refuses_a_token_that_has_expired(home: Home, credential: Credential, lodging: Service) -> None:
    ahead = timedelta()
    async with (
        Sandbox(home, clock=lambda: datetime.now(UTC) + ahead) as sandbox,
        SandboxClient(sandbox, credential) as client,
    ):
        token = await client.token()
        message = client.message(lodging, lodgment_body(lodging))
        ahead = timedelta(minutes=31)
        answer = await client.lodge(lodging, message, token)
    assert answer.codes == ["Sender", "InvalidSecurityToken"]


async def test_says_the_same_whatever_is_wrong_with_an_encrypted_token(
    client: SandboxClient, lodging: Service, token: Token
) -> None:
    """Padding, key and content must not be told apart by an attacker who asks often (XML Encryption 1.1, 6.1.1)."""

    def damaged(which: int, content: bytes) -> Bend:
        def bend(root: etree._Element) -> None:
            value = list(root.iter(f"{{{XENC}}}CipherValue"))[which]
            value.text = base64.b64encode(content).decode()

        return bend

    def weaker(root: etree._Element) -> None:
        at(root, f"{{{XENC}}}EncryptionMethod").set("Algorithm", f"{XENC}aes128-cbc")

    bends = [damaged(0, b"1" * 256), damaged(0, b""), damaged(1, b"2" * 32), damaged(1, b"3" * 4096), weaker]
    answers = {(await _with_envelope(client, lodging, token, bend)).body for bend in bends}
    assert len(answers) == 1
