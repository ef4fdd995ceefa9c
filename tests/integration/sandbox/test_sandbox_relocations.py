"""Signature wrapping, all of it: several hundred messages whose signed elements were moved, each refused for its place.

A signature that is checked at the wrong place may still hold. So the reason has to be structure or coverage: a refusal
that comes from a digest would mean that the wrong node was read.
"""

from collections.abc import Callable, Iterator

import pytest
from lxml import etree

from pipeline.protocol.credential import Credential
from pipeline.sandbox.asic_messages import Service
from tests.doubles.relocations import PLACES, Relocation, Substitute, Target, relocations
from tests.doubles.sandbox_client import SandboxClient
from tests.doubles.sandbox_messages import (
    DS,
    HDR,
    SAML2,
    SOAP,
    WSA,
    WSSE,
    WSU,
    XENC,
    Answer,
    Token,
    at,
    hmac_key,
    lodgment_body,
    rsa_key,
    seal,
    sign,
    unsealed,
)
from tests.doubles.sandbox_messages import HMAC as HMAC_SUITE

STS = "/R3.0/S007v1.3/service.svc"
NO_VALUE = "value does not hold"


def _finder(tag: str) -> Callable[[etree._Element], etree._Element]:
    return lambda root: at(root, tag)


def _says(tag: str, text: str) -> Callable[[etree._Element], None]:
    def forge(copied: etree._Element) -> None:
        next(copied.iter(tag)).text = text

    return forge


def _marked(copied: etree._Element) -> None:
    copied.set("forged", "true")


BODY = Target("Body", _finder(f"{{{SOAP}}}Body"), _says(f"{{{HDR}}}senderId", "SYNTHETIC-FORGER"), in_security=False)
CERTIFICATE = Target("BinarySecurityToken", _finder(f"{{{WSSE}}}BinarySecurityToken"), _marked)
ASSERTION = Target("EncryptedAssertion", _finder(f"{{{SAML2}}}EncryptedAssertion"), _marked)
ENCRYPTED_DATA = Target("EncryptedData", _finder(f"{{{XENC}}}EncryptedData"), _marked, in_security=False)
DOCUMENT_SIGNATURE = Target("document signature", _finder(f"{{{DS}}}Signature"), _marked)
ENVELOPE = (BODY, CERTIFICATE, ASSERTION, DOCUMENT_SIGNATURE)
REQUEST = (
    Target("Timestamp", _finder(f"{{{WSU}}}Timestamp"), _says(f"{{{WSU}}}Expires", "2099-12-31T00:00:00.000Z")),
    Target(
        "To",
        _finder(f"{{{WSA}}}To"),
        _says(f"{{{WSA}}}To", "https://forger.invalid/R3.0/S007v1.3/service.svc"),
        in_security=False,
    ),
    CERTIFICATE,
    Target("signature", _finder(f"{{{DS}}}Signature"), _marked),
)


def test_the_corpus_has_every_element_in_twelve_places_with_every_kind_of_id() -> None:
    assert len(PLACES) == 12
    assert len(Substitute) == 4
    corpus = [*relocations(ENVELOPE), *relocations((ENCRYPTED_DATA,)), *relocations(REQUEST)]
    assert len(corpus) == 9 * 12 * 4 - 6 == 426


@pytest.mark.parametrize("target", [*ENVELOPE, ENCRYPTED_DATA], ids=lambda target: target.name)
async def test_the_gateway_refuses_every_relocation_of_a_signed_element(
    client: SandboxClient, lodging: Service, token: Token, target: Target
) -> None:
    good = _envelope(client, lodging, token, by_encrypted_data=target is ENCRYPTED_DATA)
    assert (await client.post(lodging.path, good)).result == "accepted"
    wrong: list[str] = []
    for relocation, message in _messages(target, good):
        answer = await client.post(lodging.path, message)
        missing = ["Sender", "SecurityTokenUnavailable"]
        hidden = target is ASSERTION and answer.codes == missing
        for_its_value = NO_VALUE in answer.reason and not relocation.alters_what_is_signed
        if not hidden and (answer.codes != ["Sender", "FailedCheck"] or for_its_value):
            wrong.append(f"{relocation}: {_said(answer)}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("target", REQUEST, ids=lambda target: target.name)
async def test_the_token_service_refuses_every_relocation_of_a_signed_element(
    client: SandboxClient, credential: Credential, target: Target
) -> None:
    root = client.token_request()
    sign(root, rsa_key(credential.private_key), ("stamp", "to"), signature_id="signature")
    good = etree.tostring(root)
    wrong: list[str] = []
    for relocation, message in _messages(target, good):
        answer = await client.post(STS, message)
        for_its_value = NO_VALUE in answer.reason and not relocation.alters_what_is_signed
        if answer.status != 500 or answer.event != "E9004" or for_its_value:
            wrong.append(f"{relocation}: {_said(answer)}")
    assert not wrong, "\n".join(wrong)
    assert (await client.post(STS, good)).status == 200


def _messages(target: Target, good: bytes) -> Iterator[tuple[Relocation, bytes]]:
    for relocation in relocations((target,)):
        root = etree.fromstring(good)
        relocation.apply(root)
        yield relocation, etree.tostring(root)


def _said(answer: Answer) -> str:
    return f"{answer.status} {answer.codes} {answer.reason[:300]}"


def _envelope(client: SandboxClient, service: Service, token: Token, *, by_encrypted_data: bool) -> bytes:
    root = unsealed(client.message(service, lodgment_body(service)), token, client.credential.certificate_der)
    if not by_encrypted_data:
        return seal(root, token, client.credential.private_key)
    own_id = at(root, f"{{{XENC}}}EncryptedData").get("Id") or ""
    at(root, f"{{{SAML2}}}EncryptedAssertion").attrib.clear()
    sign(root, rsa_key(client.credential.private_key), ("body", "certificate"), signature_id="document")
    sign(root, hmac_key(token.proof_key), ("document", "body", own_id), HMAC_SUITE)
    return etree.tostring(root)
