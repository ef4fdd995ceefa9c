"""The token service's judgement of a request's security header."""

import copy
import itertools
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
import xmlsec
from lxml import etree

from pipeline.protocol.credential import Credential
from tests.doubles.sandbox_client import SandboxClient
from tests.doubles.sandbox_messages import (
    DS,
    SOAP,
    WSA,
    WSSE,
    WST,
    WSU,
    WSU_ID,
    Suite,
    at,
    binary_security_token,
    element,
    rsa_key,
    sign,
    utc,
)

Bend = Callable[[etree._Element], None]
STS = "/R3.0/S007v1.3/service.svc"


async def test_refuses_a_message_id_that_was_used_before(client: SandboxClient) -> None:
    request = client.token_request()
    sign(request, rsa_key(client.credential.private_key), ("stamp", "to"), signature_id="signature")
    body = etree.tostring(request)

    assert (await client.post(STS, body)).status == 200
    assert (await client.post(STS, body)).event == "E9004"


@pytest.mark.parametrize(
    ("offset", "granted"),
    [(timedelta(seconds=50), True), (timedelta(seconds=90), False), (timedelta(minutes=-6), False)],
)
async def test_believes_a_fresh_timestamp_only(client: SandboxClient, offset: timedelta, granted: bool) -> None:
    request = client.token_request()
    stamp = at(request, f"{{{WSU}}}Timestamp")
    created = datetime.now(UTC) + offset
    stamp[0].text, stamp[1].text = utc(created), utc(created + timedelta(minutes=5))
    answer = await client.ask(request)
    assert (answer.status == 200) is granted


@pytest.mark.parametrize("ids", [("stamp",), ("to",), ("stamp", "body"), ("stamp", "to", "to"), ("stamp", "to", "rst")])
async def test_refuses_a_signature_that_leaves_out_timestamp_or_to_or_covers_what_is_not_asked(
    client: SandboxClient, ids: tuple[str, ...]
) -> None:
    request = client.token_request()
    at(request, f"{{{WST}}}RequestSecurityToken").set(WSU_ID, "rst")
    sign(request, rsa_key(client.credential.private_key), ids, signature_id="signature")
    assert (await client.post(STS, etree.tostring(request))).event == "E9004"


@pytest.mark.parametrize("more", ["body", "certificate"])
async def test_takes_a_signature_that_covers_the_body_too_as_the_service_definition_wants(
    client: SandboxClient, more: str
) -> None:
    request = client.token_request()
    sign(request, rsa_key(client.credential.private_key), ("stamp", "to", more), signature_id="signature")
    assert (await client.post(STS, etree.tostring(request))).status == 200


PLACES = ("wrapper header", "security", "signature object", "body", "beside the body", "before the header")
PARTS = (f"{{{WSU}}}Timestamp", f"{{{WSA}}}To", f"{{{WSSE}}}BinarySecurityToken", f"{{{SOAP}}}Body")


def _put(root: etree._Element, place: str, moved: etree._Element) -> None:
    wrapped = element("{urn:synthetic}wrapper", moved)
    match place:
        case "wrapper header":
            root[0].append(wrapped)
        case "security":
            at(root, f"{{{WSSE}}}Security").append(wrapped)
        case "signature object":
            at(root, f"{{{DS}}}Signature").append(element(f"{{{DS}}}Object", moved))
        case "body":
            root[-1].append(wrapped)
        case "beside the body":
            root.append(moved)
        case _:
            root.insert(0, moved)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("tag", PARTS)
async def test_refuses_a_signed_part_that_was_moved_and_replaced(client: SandboxClient, tag: str, place: str) -> None:
    for renamed, own_id in itertools.product((False, True), ("none", "another", "same")):
        request = client.token_request()
        signed = ("stamp", "to", "certificate", "body")
        sign(request, rsa_key(client.credential.private_key), signed, signature_id="signature")
        original = at(request, tag)
        forged = copy.deepcopy(original)
        del forged.attrib[WSU_ID]
        if own_id != "none":
            forged.set(WSU_ID, "another" if own_id == "another" else original.get(WSU_ID) or "")
        parent = original.getparent()
        assert parent is not None
        parent.replace(original, forged)
        if renamed:
            original.tag = "{urn:synthetic}original"
        _put(request, place, original)
        assert (await client.post(STS, etree.tostring(request))).event == "E9004"


@pytest.mark.parametrize(
    "suite",
    [
        pytest.param(Suite(signature=xmlsec.constants.TransformRsaSha1), id="RSA-SHA1"),
        pytest.param(Suite(digest=xmlsec.constants.TransformSha1), id="SHA-1 digest"),
        pytest.param(Suite(canonicalization=xmlsec.constants.TransformInclC14N), id="inclusive c14n"),
    ],
)
async def test_refuses_every_algorithm_but_the_profiles(client: SandboxClient, suite: Suite) -> None:
    request = client.token_request()
    sign(request, rsa_key(client.credential.private_key), ("stamp", "to"), suite, signature_id="signature")
    assert (await client.post(STS, etree.tostring(request))).event == "E9003"


async def test_refuses_a_signature_by_another_key(client: SandboxClient, other: Credential) -> None:
    request = client.token_request()
    sign(request, rsa_key(other.private_key), ("stamp", "to"), signature_id="signature")
    assert (await client.post(STS, etree.tostring(request))).event == "E9004"


async def test_refuses_a_request_for_another_address(client: SandboxClient) -> None:
    request = client.token_request()
    at(request, f"{{{WSA}}}To").text = f"{client.sandbox.url}/R3.0/elsewhere/service.svc"
    assert (await client.ask(request)).event == "E9004"


def _second_stamp(root: etree._Element) -> None:
    now = datetime.now(UTC)
    stamp = element(f"{{{WSU}}}Timestamp", element(f"{{{WSU}}}Created", utc(now)))
    at(root, f"{{{WSSE}}}Security").append(stamp)


def _second_to(root: etree._Element) -> None:
    header = at(root, f"{{{WSA}}}To").getparent()
    assert header is not None
    header.append(element(f"{{{WSA}}}To", "https://elsewhere.invalid/"))


def _second_certificate(root: etree._Element) -> None:
    root.append(binary_security_token(b"certificate"))
    root[-1].set(WSU_ID, f"id-{uuid.uuid4()}")


@pytest.mark.parametrize("bend", [_second_stamp, _second_to, _second_certificate])
async def test_refuses_a_second_of_what_must_be_one(client: SandboxClient, bend: Bend) -> None:
    request = client.token_request()
    sign(request, rsa_key(client.credential.private_key), ("stamp", "to"), signature_id="signature")
    bend(request)
    assert (await client.post(STS, etree.tostring(request))).event == "E9004"
