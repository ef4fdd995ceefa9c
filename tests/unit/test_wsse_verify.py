"""The outbound self-check refuses whatever sealing would never write, and for the right reason."""

import base64
import copy
import hashlib
import re
from collections.abc import Callable, Mapping

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from lxml import etree

from pipeline.protocol.algorithms import Algorithm
from pipeline.protocol.namespaces import Ns
from pipeline.protocol.verify import EnvelopeError, Expectation, verify_envelope
from pipeline.protocol.wsse import AssertionReference, Part, binary_security_token, certificate_signature
from pipeline.protocol.xml import parse
from tests.doubles.asic import ASSERTION_ID, PAYLOAD, make_channel, make_credential, make_order, make_token, on_the_wire

SIGNED: Mapping[str, Callable[[], str]] = {
    "body": lambda: "body-n1",
    "certificate": lambda: binary_security_token(make_credential().certificate_der)[1].id,
    "document signature": lambda: "signature-n1",
    "assertion": lambda: ASSERTION_ID,
}
"""The ids that signatures cover. That of a certificate made for these tests differs in each process."""
PLACES = (
    "Envelope",
    "Header",
    "Security",
    "Body",
    "request",
    "Signature",
    "KeyInfo",
    "SignedInfo",
    "EncryptedAssertion",
)


def expectation() -> Expectation:
    return Expectation(make_credential().certificate_der, make_token().proof_key)


def good() -> bytes:
    return on_the_wire(make_channel().seal(make_order()), PAYLOAD)


def refusal(envelope: bytes, expected: Expectation | None = None) -> str:
    with pytest.raises(EnvelopeError) as caught:
        verify_envelope(envelope, expected or expectation())
    return caught.value.code


def changed(change: Callable[[etree._Element], object]) -> bytes:
    root = parse(good())
    change(root)
    return etree.tostring(root)


def by_id(root: etree._Element, value: str) -> etree._Element:
    return next(node for node in root.iter("*") if value in {node.get("Id"), node.get(Ns.WSU("Id"))})


def first(root: etree._Element, local_name: str) -> etree._Element:
    return next(node for node in root.iter("*") if etree.QName(node).localname == local_name)


def test_accepts_what_sealing_writes() -> None:
    assert verify_envelope(good(), expectation()).tag == Ns.SOAP("Body")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"Zo\xc3\xab", b"Zoe"),
        (b"REGA", b"INFO"),
        (b"900001", b"900002"),
        (b"aes256-cbc", b"aes128-cbc"),
        (b"<b:name>", b"<b:name >x"),
    ],
)
def test_refuses_a_changed_value(old: bytes, new: bytes) -> None:
    envelope = good()
    assert old in envelope
    assert refusal(envelope.replace(old, new)) == "envelope.signature"


@pytest.mark.parametrize("number", range(7))
def test_refuses_a_changed_digest_or_signature_value(number: int) -> None:
    envelope = good()
    values = list(re.finditer(rb"<ds:(?:DigestValue|SignatureValue)>([^<])", envelope))
    assert len(values) == 7
    at = values[number].start(1)
    other = b"A" if envelope[at : at + 1] != b"A" else b"B"
    assert refusal(envelope[:at] + other + envelope[at + 1 :]) == "envelope.signature"


@pytest.mark.parametrize("part", SIGNED)
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("copied_id", ["same", "new", "none"])
def test_refuses_a_signed_part_that_was_moved_and_replaced(part: str, place: str, copied_id: str) -> None:
    """Signature wrapping: the original hides in `place`, a forgery with this id stands where the part is read."""
    signed_id = SIGNED[part]()

    def wrap(root: etree._Element) -> None:
        original = by_id(root, signed_id)
        forged = copy.deepcopy(original)
        name = "Id" if original.get("Id") == signed_id else Ns.WSU("Id")
        if copied_id == "new":
            forged.set(name, "forged")
        elif copied_id == "none":
            del forged.attrib[name]
        forged.set("forged", "yes")
        parent = original.getparent()
        assert parent is not None
        parent.replace(original, forged)
        wrapper = etree.SubElement(first(root, place), "wrapper")
        wrapper.append(original)

    assert refusal(changed(wrap)).startswith("envelope.")


@pytest.mark.parametrize("spelling", ["Id", "ID", "id", Ns.WSU("Id")])
@pytest.mark.parametrize("part", SIGNED)
def test_refuses_a_second_element_with_a_signed_id(part: str, spelling: str) -> None:
    assert refusal(changed(lambda root: first(root, "name").set(spelling, SIGNED[part]()))) == "envelope.id"


@pytest.mark.parametrize(
    "name", ["Security", "BinarySecurityToken", "Header", "Body", "EncryptedAssertion", "Signature"]
)
def test_refuses_a_second_of_what_may_stand_once(name: str) -> None:
    def double(root: etree._Element) -> None:
        node = first(root, name)
        node.addnext(copy.deepcopy(node))

    assert refusal(changed(double)) == "envelope.shape"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (Algorithm.RSA_SHA256, "http://www.w3.org/2000/09/xmldsig#rsa-sha1"),
        (Algorithm.RSA_SHA256, Algorithm.HMAC_SHA256),
        (Algorithm.HMAC_SHA256, "http://www.w3.org/2000/09/xmldsig#hmac-sha1"),
        (Algorithm.HMAC_SHA256, "http://www.w3.org/2001/04/xmldsig-more#hmac-md5"),
        (Algorithm.SHA256, "http://www.w3.org/2000/09/xmldsig#sha1"),
        (Algorithm.SHA256, "http://www.w3.org/2001/04/xmldsig-more#md5"),
        (Algorithm.EXCLUSIVE_C14N, "http://www.w3.org/TR/2001/REC-xml-c14n-20010315"),
        (Algorithm.EXCLUSIVE_C14N, "http://www.w3.org/2001/10/xml-exc-c14n#WithComments"),
        (Algorithm.EXCLUSIVE_C14N, "http://www.w3.org/TR/1999/REC-xslt-19991116"),
        (Algorithm.EXCLUSIVE_C14N, "http://www.w3.org/TR/1999/REC-xpath-19991116"),
        (Algorithm.EXCLUSIVE_C14N, "http://www.w3.org/2000/09/xmldsig#enveloped-signature"),
    ],
)
def test_refuses_every_algorithm_that_is_never_emitted(old: str, new: str) -> None:
    assert refusal(good().replace(f'"{old}"'.encode(), f'"{new}"'.encode())) == "envelope.algorithm"


@pytest.mark.parametrize("bits", ["8", "128", "256"])
def test_refuses_any_hmac_output_length(bits: str) -> None:
    def truncate(root: etree._Element) -> None:
        method = root.findall(f".//{Ns.DS('SignatureMethod')}")[1]
        etree.SubElement(method, Ns.DS("HMACOutputLength")).text = bits

    assert refusal(changed(truncate)) == "envelope.algorithm"


def test_refuses_a_missing_and_a_second_transform() -> None:
    def missing(root: etree._Element) -> None:
        first(root, "Transforms").remove(first(root, "Transform"))

    def doubled(root: etree._Element) -> None:
        first(root, "Transforms").append(copy.deepcopy(first(root, "Transform")))

    assert refusal(changed(missing)) == refusal(changed(doubled)) == "envelope.algorithm"


@pytest.mark.parametrize("name", ["DigestValue", "SignatureValue", "BinarySecurityToken"])
def test_refuses_a_comment_inside_a_value(name: str) -> None:
    def split(root: etree._Element) -> None:
        node = first(root, name)
        text = node.text or ""
        node.text = text[:4]
        comment = etree.Comment("x")
        comment.tail = text[4:]
        node.append(comment)

    assert refusal(changed(split)) == "envelope.xml"


@pytest.mark.parametrize("number", range(5))
def test_refuses_a_signature_that_leaves_a_part_out(number: int) -> None:
    def leave_out(root: etree._Element) -> None:
        reference = root.findall(f".//{Ns.DS('Reference')}")[number]
        info = reference.getparent()
        assert info is not None
        info.remove(reference)

    assert refusal(changed(leave_out)) == "envelope.reference"


def test_refuses_a_document_signature_that_does_not_cover_the_token() -> None:
    credential = make_credential()
    _, token = binary_security_token(credential.certificate_der)
    body = Part.digested("body-n1", bytes(32))
    partial, _ = certificate_signature(credential.private_key, "signature-n1", token, (body, body))
    envelope = re.sub(rb"<ds:Signature [^>]*Id=.*?</ds:Signature>", lambda _: partial, good(), count=1)
    assert refusal(envelope) == "envelope.reference"


@pytest.mark.parametrize("target", ["", "#", "http://example.test/x", "#xpointer(/)", "#nowhere"])
def test_refuses_a_reference_that_does_not_name_a_part(target: str) -> None:
    envelope = changed(lambda root: first(root, "Reference").set("URI", target))
    assert refusal(envelope) in {"envelope.reference", "envelope.id"}


def test_refuses_a_token_that_is_not_the_credential() -> None:
    other = Expectation(make_credential("Other").certificate_der, make_token().proof_key)
    assert refusal(good(), other) == "envelope.token"


def test_refuses_a_key_that_the_message_brings_along() -> None:
    def bring(root: etree._Element) -> None:
        reference = first(root, "SecurityTokenReference")
        info = reference.getparent()
        assert info is not None
        info.replace(reference, etree.Element(Ns.DS("KeyValue")))

    assert refusal(changed(bring)) == "envelope.shape"


def test_refuses_an_endorsement_by_another_proof_key_or_by_the_public_key() -> None:
    public = make_credential().private_key.public_key()
    for key in (b"x" * 64, public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)):
        assert refusal(good(), Expectation(make_credential().certificate_der, key)) == "envelope.signature"


def test_refuses_a_reference_to_the_encrypted_data_where_the_assertion_is_expected() -> None:
    channel = make_channel(AssertionReference.ENCRYPTED_DATA_ID)
    assert refusal(on_the_wire(channel.seal(make_order()), PAYLOAD)) == "envelope.reference"


def test_refuses_the_digest_of_nothing_from_a_failing_canonical_form() -> None:
    empty = base64.b64encode(hashlib.sha256(b"").digest())
    envelope = good().replace(b"<b:name>", b'<b:name xmlns:r="relative" r:x="1">')
    digest = re.search(rb"body-n1.*?<ds:DigestValue>([^<]+)<", envelope)
    assert digest is not None
    assert refusal(envelope.replace(digest[1], empty)) == "envelope.signature"


@pytest.mark.parametrize("document", [b"", b"<a/>", b"<!DOCTYPE a><a/>", b"\xff\xfe", b"<a", good()[:-30]])
def test_refuses_what_is_no_envelope(document: bytes) -> None:
    assert refusal(document) in {"envelope.xml", "envelope.shape"}


def test_an_expectation_does_not_show_its_key() -> None:
    assert make_token().proof_key.hex() not in repr(expectation())
    assert repr(make_token().proof_key) not in repr(expectation())
