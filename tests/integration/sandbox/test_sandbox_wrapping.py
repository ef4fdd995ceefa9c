"""Signature wrapping: signed elements moved to where nobody reads them, and forged ones put in their place."""

import copy
from collections.abc import Callable

import pytest
from lxml import etree

from pipeline.sandbox.asic_messages import Service
from tests.doubles.sandbox_client import SandboxClient
from tests.doubles.sandbox_messages import (
    DS,
    HDR,
    SAML2,
    SOAP,
    WSSE,
    WSU_ID,
    Token,
    at,
    element,
    lodgment_body,
    seal,
    unsealed,
)

Place = Callable[[etree._Element, etree._Element], None]
BODY = f"{{{SOAP}}}Body"


def _wrapper_header(root: etree._Element, moved: etree._Element) -> None:
    root[0].append(element("{urn:synthetic}wrapper", moved))


def _inside_security(root: etree._Element, moved: etree._Element) -> None:
    at(root, f"{{{WSSE}}}Security").append(element("{urn:synthetic}wrapper", moved))


def _inside_signature_object(root: etree._Element, moved: etree._Element) -> None:
    at(root, f"{{{DS}}}Signature").append(element(f"{{{DS}}}Object", moved))


def _inside_forged_body(root: etree._Element, moved: etree._Element) -> None:
    root[1][0].append(moved)


def _beside_body(root: etree._Element, moved: etree._Element) -> None:
    root.append(moved)


def _before_header(root: etree._Element, moved: etree._Element) -> None:
    root.insert(0, moved)


PLACES = [
    _wrapper_header,
    _inside_security,
    _inside_signature_object,
    _inside_forged_body,
    _beside_body,
    _before_header,
]


def _forged(body: etree._Element, own_id: str | None) -> etree._Element:
    forged = copy.deepcopy(body)
    at(forged, f"{{{HDR}}}senderId").text = "SYNTHETIC-FORGER"
    forged.attrib.clear()
    if own_id is not None:
        forged.set(WSU_ID, own_id)
    return forged


def _signed(client: SandboxClient, service: Service, token: Token) -> etree._Element:
    message = client.message(service, lodgment_body(service))
    root = unsealed(message, token, client.credential.certificate_der)
    return etree.fromstring(seal(root, token, client.credential.private_key))


@pytest.mark.parametrize("own_id", [None, "another", "body"])
@pytest.mark.parametrize("renamed", [False, True])
@pytest.mark.parametrize("place", PLACES)
async def test_refuses_a_body_that_was_moved_and_replaced(
    client: SandboxClient, lodging: Service, token: Token, place: Place, renamed: bool, own_id: str | None
) -> None:
    root = _signed(client, lodging, token)
    original = at(root, BODY)
    forged = _forged(original, own_id)
    root.replace(original, forged)
    if renamed:
        original.tag = "{urn:synthetic}body"
    place(root, original)

    answer = await client.post(lodging.path, etree.tostring(root))
    assert answer.codes == ["Sender", "FailedCheck"]


@pytest.mark.parametrize("tag", [f"{{{SAML2}}}EncryptedAssertion", f"{{{WSSE}}}BinarySecurityToken"])
@pytest.mark.parametrize("place", PLACES)
async def test_refuses_a_token_that_was_moved_and_replaced(
    client: SandboxClient, lodging: Service, token: Token, place: Place, tag: str
) -> None:
    root = _signed(client, lodging, token)
    original = at(root, tag)
    substitute = copy.deepcopy(original)
    substitute.attrib.pop(WSU_ID)
    parent = original.getparent()
    assert parent is not None
    parent.replace(original, substitute)
    place(root, original)

    answer = await client.post(lodging.path, etree.tostring(root))
    assert answer.codes == ["Sender", "FailedCheck"]


@pytest.mark.parametrize("name", [WSU_ID, "Id", "ID", "id", "{http://www.w3.org/XML/1998/namespace}id", "{urn:x}Id"])
async def test_refuses_an_id_that_stands_twice_in_whatever_spelling(
    client: SandboxClient, lodging: Service, token: Token, name: str
) -> None:
    root = _signed(client, lodging, token)
    decoy = element("{urn:synthetic}decoy")
    decoy.set(name, "body")
    root[0].append(decoy)

    answer = await client.post(lodging.path, etree.tostring(root))
    assert answer.codes == ["Sender", "FailedCheck"]


@pytest.mark.parametrize("tag", ["DigestValue", "SignatureValue", "SignatureMethod", "Reference"])
async def test_refuses_a_comment_inside_a_signature(
    client: SandboxClient, lodging: Service, token: Token, tag: str
) -> None:
    root = _signed(client, lodging, token)
    at(root, f"{{{DS}}}{tag}").append(etree.Comment("synthetic"))

    answer = await client.post(lodging.path, etree.tostring(root))
    assert answer.codes == ["Sender", "FailedCheck"]


async def test_refuses_a_truncated_hash(client: SandboxClient, lodging: Service, token: Token) -> None:
    root = _signed(client, lodging, token)
    method = list(root.iter(f"{{{DS}}}SignatureMethod"))[1]
    method.append(element(f"{{{DS}}}HMACOutputLength", "8"))

    answer = await client.post(lodging.path, etree.tostring(root))
    assert answer.codes == ["Sender", "FailedCheck"]


@pytest.mark.parametrize("content", ["KeyValue", "X509Data"])
async def test_refuses_a_key_that_only_the_message_introduces(
    client: SandboxClient, lodging: Service, token: Token, content: str
) -> None:
    root = _signed(client, lodging, token)
    at(root, f"{{{DS}}}KeyInfo").append(element(f"{{{DS}}}{content}"))

    answer = await client.post(lodging.path, etree.tostring(root))
    assert answer.codes == ["Sender", "FailedCheck"]
