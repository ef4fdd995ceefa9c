"""Signatures that say too little, too much or something else: each refused on its own, by both services, by its code.

Nothing here was signed anew, and still the reason is never that a value does not hold: what a signature may say is
settled before its value is looked at (W3C XML Signature Best Practices; Santuario's secure validation).
"""

import base64
import copy
import hashlib
import hmac
from collections.abc import Callable

import pytest
from lxml import etree

from pipeline.protocol.credential import Credential, Digest
from pipeline.sandbox.asic_messages import Service
from pipeline.sandbox.judge import Rule
from tests.doubles import synthetic_credentials
from tests.doubles.sandbox_client import SandboxClient
from tests.doubles.sandbox_messages import (
    DS,
    HDR,
    WSA,
    WSSE,
    WSU,
    WSU_ID,
    XENC,
    Token,
    at,
    element,
    lodgment_body,
    rsa_key,
    seal,
    sign,
    unsealed,
)

STS = "/R3.0/S007v1.3/service.svc"
NO_VALUE = "value does not hold"
XMLDSIG = "http://www.w3.org/2000/09/xmldsig#"
MORE = "http://www.w3.org/2001/04/xmldsig-more#"
Bend = Callable[[etree._Element], None]


def _algorithm(name: str, uri: str) -> Bend:
    def bend(signature: etree._Element) -> None:
        at(signature, f"{{{DS}}}{name}").set("Algorithm", uri)

    return bend


def _within(name: str, *content: etree._Element) -> Bend:
    def bend(signature: etree._Element) -> None:
        at(signature, f"{{{DS}}}{name}").extend([copy.deepcopy(one) for one in content])

    return bend


def _key_info(name: str, **attributes: str) -> Bend:
    """Beside the reference to the token, or in a KeyInfo of its own."""

    def bend(signature: etree._Element) -> None:
        found = signature.find(f"{{{DS}}}KeyInfo")
        holder = etree.SubElement(signature, f"{{{DS}}}KeyInfo") if found is None else found
        holder.append(element(f"{{{DS}}}{name}", **attributes))

    return bend


def _address(uri: str | None) -> Bend:
    def bend(signature: etree._Element) -> None:
        reference = at(signature, f"{{{DS}}}Reference")
        reference.attrib.pop("URI")
        if uri is not None:
            reference.set("URI", uri)

    return bend


def _without(name: str) -> Bend:
    def bend(signature: etree._Element) -> None:
        found = at(signature, f"{{{DS}}}{name}")
        parent = found.getparent()
        assert parent is not None
        parent.remove(found)

    return bend


def _twice(name: str) -> Bend:
    def bend(signature: etree._Element) -> None:
        found = at(signature, f"{{{DS}}}{name}")
        found.addnext(copy.deepcopy(found))

    return bend


def _many_references(signature: etree._Element) -> None:
    for _ in range(31):
        _twice("Reference")(signature)


def _split(name: str) -> Bend:
    """A comment moves the first text node (GHSA: a comment inside DigestValue)."""

    def bend(signature: etree._Element) -> None:
        found = at(signature, f"{{{DS}}}{name}")
        comment = etree.Comment("synthetic")
        comment.tail, found.text = found.text, ""
        found.append(comment)

    return bend


ALGORITHMS = {
    "RSA-SHA1": _algorithm("SignatureMethod", f"{XMLDSIG}rsa-sha1"),
    "RSA-MD5": _algorithm("SignatureMethod", f"{MORE}rsa-md5"),
    "HMAC-SHA1": _algorithm("SignatureMethod", f"{XMLDSIG}hmac-sha1"),
    "HMAC-MD5": _algorithm("SignatureMethod", f"{MORE}hmac-md5"),
    "RSA-SHA512": _algorithm("SignatureMethod", f"{MORE}rsa-sha512"),
    "no algorithm": _algorithm("SignatureMethod", ""),
    "digest by SHA-1": _algorithm("DigestMethod", f"{XMLDSIG}sha1"),
    "digest by MD5": _algorithm("DigestMethod", f"{MORE}md5"),
    "inclusive c14n of SignedInfo": _algorithm(
        "CanonicalizationMethod", "http://www.w3.org/TR/2001/REC-xml-c14n-20010315"
    ),
    "c14n with comments": _algorithm("CanonicalizationMethod", "http://www.w3.org/2001/10/xml-exc-c14n#WithComments"),
    "inclusive c14n": _algorithm("Transform", "http://www.w3.org/TR/2001/REC-xml-c14n-20010315"),
    "XPath": _algorithm("Transform", "http://www.w3.org/TR/1999/REC-xpath-19991116"),
    "XPath filter": _algorithm("Transform", "http://www.w3.org/2002/06/xmldsig-filter2"),
    "XSLT": _algorithm("Transform", "http://www.w3.org/TR/1999/REC-xslt-19991116"),
    "base64": _algorithm("Transform", f"{XMLDSIG}base64"),
    "enveloped": _algorithm("Transform", f"{XMLDSIG}enveloped-signature"),
    "no transform": _without("Transform"),
    "two transforms": _twice("Transform"),
}
STRUCTURES = {
    "HMACOutputLength of 8": _within("SignatureMethod", element(f"{{{DS}}}HMACOutputLength", "8")),
    "HMACOutputLength of 128": _within("SignatureMethod", element(f"{{{DS}}}HMACOutputLength", "128")),
    "HMACOutputLength of 256": _within("SignatureMethod", element(f"{{{DS}}}HMACOutputLength", "256")),
    "InclusiveNamespaces": _within(
        "CanonicalizationMethod",
        element("{http://www.w3.org/2001/10/xml-exc-c14n#}InclusiveNamespaces", PrefixList="x"),
    ),
    "no Transforms": _without("Transforms"),
    "no DigestValue": _without("DigestValue"),
    "no SignatureValue": _without("SignatureValue"),
    "two SignedInfo": _twice("SignedInfo"),
    "two SignatureValue": _twice("SignatureValue"),
    "two DigestValue": _twice("DigestValue"),
    "a comment in DigestValue": _split("DigestValue"),
    "a comment in SignatureValue": _split("SignatureValue"),
    "an Object": lambda signature: signature.append(element(f"{{{DS}}}Object")),
    "a Manifest": lambda signature: signature.append(
        element(f"{{{DS}}}Object", element(f"{{{DS}}}Manifest", copy.deepcopy(at(signature, f"{{{DS}}}Reference"))))
    ),
    "KeyValue": _key_info("KeyValue"),
    "X509Data": _key_info("X509Data"),
    "KeyName": _key_info("KeyName"),
    "RetrievalMethod": _key_info("RetrievalMethod", URI="http://127.0.0.1:1/key"),
}
COVERAGE = {
    "the whole document": _address(""),
    "no URI": _address(None),
    "a file": _address("file:///etc/hostname"),
    "an address": _address("http://127.0.0.1:1/x"),
    "an XPointer": _address("#xpointer(/)"),
    "XPointer with id": _address("#xpointer(id('body'))"),
    "an id of nothing": _address("#nowhere"),
    "a part less": _without("Reference"),
    "a part twice": _twice("Reference"),
    "thirty parts more": _many_references,
}
TAMPERINGS = {
    **{name: (Rule.ALGORITHM, bend) for name, bend in ALGORITHMS.items()},
    **{name: (Rule.STRUCTURE, bend) for name, bend in STRUCTURES.items()},
    **{name: (Rule.COVERAGE, bend) for name, bend in COVERAGE.items()},
}


def test_the_corpus_is_as_large_as_it_says() -> None:
    assert len(TAMPERINGS) == 18 + 18 + 10


def _envelope(client: SandboxClient, service: Service, token: Token) -> bytes:
    root = unsealed(client.message(service, lodgment_body(service)), token, client.credential.certificate_der)
    return seal(root, token, client.credential.private_key)


def _request(client: SandboxClient) -> bytes:
    root = client.token_request()
    sign(root, rsa_key(client.credential.private_key), ("stamp", "to"), signature_id="signature")
    return etree.tostring(root)


@pytest.mark.parametrize("number", [0, 1], ids=["document signature", "envelope signature"])
async def test_the_gateway_refuses_every_bent_signature(
    client: SandboxClient, lodging: Service, token: Token, number: int
) -> None:
    good = _envelope(client, lodging, token)
    wrong: list[str] = []
    for name, (_, bend) in TAMPERINGS.items():
        root = etree.fromstring(good)
        bend(list(root.iter(f"{{{DS}}}Signature"))[number])
        answer = await client.post(lodging.path, etree.tostring(root))
        if answer.codes != ["Sender", "FailedCheck"] or NO_VALUE in answer.reason:
            wrong.append(f"{name}: {answer.codes} {answer.reason}")
    assert not wrong, "\n".join(wrong)
    assert (await client.post(lodging.path, good)).result == "accepted"


async def test_the_token_service_refuses_every_bent_signature_and_tells_algorithms_apart(client: SandboxClient) -> None:
    good = _request(client)
    wrong: list[str] = []
    for name, (rule, bend) in TAMPERINGS.items():
        root = etree.fromstring(good)
        bend(at(root, f"{{{DS}}}Signature"))
        answer = await client.post(STS, etree.tostring(root))
        # Prefix lists are taken from Java stacks here, so that one put in by another only breaks the signature.
        taken = name == "InclusiveNamespaces"
        event = "E9003" if rule is Rule.ALGORITHM and not taken else "E9004"
        if answer.status != 500 or answer.event != event or (NO_VALUE in answer.reason) != taken:
            wrong.append(f"{name}: {answer.status} {answer.codes} {answer.reason}")
    assert not wrong, "\n".join(wrong)
    assert (await client.post(STS, good)).status == 200


def _value(tag: str, number: int = 0) -> Bend:
    def bend(root: etree._Element) -> None:
        found = list(root.iter(tag))[number]
        text = found.text or ""
        found.text = ("B" if text[:1] == "A" else "A") + text[1:]

    return bend


@pytest.mark.parametrize(
    ("tag", "number"),
    [
        *((f"{{{DS}}}DigestValue", number) for number in range(5)),
        (f"{{{DS}}}SignatureValue", 0),
        (f"{{{DS}}}SignatureValue", 1),
        (f"{{{XENC}}}CipherValue", 0),
        (f"{{{XENC}}}CipherValue", 1),
        (f"{{{HDR}}}messageReferenceNumber", 0),
        (f"{{{HDR}}}senderId", 0),
        (f"{{{WSSE}}}BinarySecurityToken", 0),
    ],
)
async def test_the_gateway_refuses_a_letter_that_was_changed(
    client: SandboxClient, lodging: Service, token: Token, tag: str, number: int
) -> None:
    root = etree.fromstring(_envelope(client, lodging, token))
    _value(tag, number)(root)
    assert (await client.post(lodging.path, etree.tostring(root))).codes == ["Sender", "FailedCheck"]


@pytest.mark.parametrize(
    ("tag", "old", "new"),
    [
        (f"{{{WSU}}}Created", "20", "21"),
        (f"{{{WSU}}}Expires", "20", "21"),
        (f"{{{WSA}}}To", "https", "http"),
    ],
)
async def test_the_token_service_refuses_a_timestamp_or_an_address_that_was_changed(
    client: SandboxClient, tag: str, old: str, new: str
) -> None:
    root = etree.fromstring(_request(client))
    found = at(root, tag)
    found.text = (found.text or "").replace(old, new, 1)
    answer = await client.post(STS, etree.tostring(root))
    assert answer.event == "E9004"
    assert NO_VALUE in answer.reason


async def test_refuses_the_digest_of_nothing_from_a_canonical_form_that_fails(
    client: SandboxClient, credential: Credential, lodging: Service, token: Token
) -> None:
    """A relative namespace name has no canonical form; both signatures here are right over the digest of no octets."""
    root = etree.fromstring(_envelope(client, lodging, token))
    body = next(one for one in root.iter() if one.get(WSU_ID) == "body")
    text = etree.tostring(body[0][1]).replace(b">", b' xmlns:r="relative" r:x="1">', 1)
    body[0].replace(body[0][1], etree.fromstring(text))
    document, envelope = root.iter(f"{{{DS}}}Signature")
    for signature, number in ((document, 0), (envelope, 1)):
        digest = list(signature.iter(f"{{{DS}}}DigestValue"))[number]
        digest.text = base64.b64encode(hashlib.sha256(b"").digest()).decode()
        if signature is envelope:
            first = next(signature.iter(f"{{{DS}}}DigestValue"))
            octets = etree.tostring(document, method="c14n", exclusive=True, with_tail=False)
            first.text = base64.b64encode(hashlib.sha256(octets).digest()).decode()
        info = etree.tostring(signature[0], method="c14n", exclusive=True, with_tail=False)
        value = (
            credential.private_key.sign(info, Digest.SHA256)
            if signature is document
            else hmac.digest(token.proof_key, info, "sha256")
        )
        signature[1].text = base64.b64encode(value).decode()
    assert (await client.post(lodging.path, etree.tostring(root))).codes == ["Sender", "FailedCheck"]


async def test_refuses_two_attributes_that_different_readers_take_for_the_id(
    client: SandboxClient, lodging: Service, token: Token
) -> None:
    """Attribute pollution: the signed id stays, and another element's id is put beside it."""
    root = etree.fromstring(_envelope(client, lodging, token))
    next(one for one in root.iter() if one.get(WSU_ID) == "body").set("ID", "document")
    assert (await client.post(lodging.path, etree.tostring(root))).codes == ["Sender", "FailedCheck"]


async def test_the_gateway_refuses_a_certificate_of_an_authority_that_it_does_not_know(
    client: SandboxClient, lodging: Service, token: Token
) -> None:
    """Everything is signed as it should be, by a key that only the message introduces."""
    stranger = synthetic_credentials.credential()
    root = unsealed(client.message(lodging, lodgment_body(lodging)), token, stranger.certificate_der)
    answer = await client.post(lodging.path, seal(root, token, stranger.private_key))
    assert answer.codes == ["Sender", "FailedCheck"]
    assert "not of the known authority" in answer.reason
