"""XML as it is parsed, put in canonical form, sealed, and judged by its signatures."""

import io
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from functools import cache

from lxml import etree

from pipeline.channels.asic_profile import SERVICE
from pipeline.lodgment.job import JobRefusedError
from pipeline.protocol.as4_signed_info import As4SignatureError
from pipeline.protocol.as4_verify import PUSH_POLICY, verify_message
from pipeline.protocol.fragments import signed_form, spliceable
from pipeline.protocol.mime import read_package
from pipeline.protocol.mime_reader import MimeError
from pipeline.protocol.namespaces import Ns
from pipeline.protocol.software_subscription import with_software_id
from pipeline.protocol.verify import EnvelopeError, Expectation, verify_document_signature, verify_envelope
from pipeline.protocol.wsse import AssertionReference, identity_token
from pipeline.protocol.xml import XmlError, canonical, ids_of, parse
from tests.doubles import as4, asic
from tests.doubles.documents import prepared_by
from tests.fuzz.mutation import XML
from tests.fuzz.target import Target, must

_DIGITS = "0004785936"


def _documents() -> Sequence[bytes]:
    soap = Ns.SOAP.value
    odd = (
        f'<b:businessDocumentBody xmlns:b="{asic.NAMESPACE}" xmlns:soap="{soap}" xmlns:xsi="urn:x" xmlns="urn:d">'
        '<soap:Body xsi:type="b:T" zeta="1" alpha="&quot;&#9;"><![CDATA[<&]]>&#13;\r\n<!-- c --><?p i?>'
        '<name xmlns="" xml:lang="en">é</name><x:y xmlns:x="urn:y" x:a="x:b"/></soap:Body></b:businessDocumentBody>'
    )
    return asic.PAYLOAD, odd.encode(), ('<?xml version="1.0" encoding="UTF-16"?>' + odd).encode("utf-16")


def _canonical(data: bytes) -> None:
    root = parse(data)
    form = canonical(root)
    must(canonical(parse(form)) == form, "a canonical form is its own canonical form")
    ids_of(root)
    if not _beyond_another(root):
        other = _by_another(form)
        must(other is None or other == form, "another implementation writes the same canonical form")


def _beyond_another(root: etree._Element) -> bool:
    """What the two are known to write differently: a namespace name with something to escape, which libxml2 leaves as
    it is (see `fragments`), two prefixes of one namespace, of which the standard library takes the first, and what
    stands in a processing instruction, which the standard library escapes although nobody would take that back (C14N
    1.1, 2.3).
    """
    if any(set("&<>") & set(one.text or "") for one in root.iter(etree.PI)):
        return True
    scopes = [element.nsmap for element in root.iter("*")]
    return any(
        len(set(one.values())) < len(one) or any(set('&"<') & set(uri) for uri in one.values()) for one in scopes
    )


def _by_another(form: bytes) -> bytes | None:
    """C14N 2.0 with its defaults is Exclusive C14N 1.0, in the standard library's own code; None if expat refuses."""
    written = io.StringIO()
    try:
        ET.canonicalize(form.decode(), out=written)
    except ET.ParseError:
        return None
    return written.getvalue().encode()


def _sealed(data: bytes) -> None:
    channel = asic.make_channel()
    prepared = prepared_by(channel, SERVICE, "bnLodgeApplication", data).content
    envelope = asic.on_the_wire(channel.seal(asic.make_order(prepared)), prepared)
    expected = Expectation(asic.make_credential().certificate_der, asic.make_token().proof_key)
    body = verify_envelope(envelope, expected)
    document = next(body.iter(f"{{{asic.NAMESPACE}}}businessDocumentBody"))
    must(canonical(document) == signed_form(prepared), "what was digested is what stands in the envelope")
    must(canonical(parse(data)) == signed_form(prepared), "what is lodged is what was given")


def _spliced(data: bytes) -> None:
    root = parse(data)
    piece = spliceable(root)
    must(signed_form(piece) == canonical(root), "what is digested is the canonical form")
    must(spliceable(parse(piece)) == piece, "what can be spliced once can be spliced again")


@cache
def _envelopes() -> tuple[bytes, ...]:
    """Ours, signed; ids and keys are this process's own."""
    channel = asic.make_channel()
    sealed = channel.seal(asic.make_order())
    return (asic.on_the_wire(sealed, asic.PAYLOAD),)


def _envelope(data: bytes) -> None:
    verify_document_signature(data)
    expected = Expectation(asic.make_credential().certificate_der, asic.make_token().proof_key)
    genuine = canonical(verify_envelope(_envelopes()[0], expected))
    must(canonical(verify_envelope(data, expected)) == genuine, "nothing else is read than what was signed")


@cache
def _pushes() -> tuple[bytes, ...]:
    sealed = as4.sealed()
    heads = f"{sealed.multipart.content_type}\n".encode()
    return (heads + sealed.body(),)


def _as4(data: bytes) -> None:
    """A push of ours: the first line is its content type."""
    content_type, _, body = data.partition(b"\n")
    package = read_package(content_type.decode(errors="replace"), (body,))
    found = verify_message(package.root, package.attachments, PUSH_POLICY, lambda named: named)
    if found.certificate == asic.make_credential().certificate:
        genuine = as4.sealed().verify()
        must(found.messaging == genuine.messaging, "nothing else is read than what was signed")
        must([one.content for one in found.attachments] == [as4.gzipped()], "no other attachment is read")


def _assertions() -> Sequence[bytes]:
    return asic.make_assertion(), asic.make_assertion(default_namespace=True)


def _assertion(data: bytes) -> None:
    for reference in AssertionReference:
        token = identity_token(data, reference)
        found = ids_of(parse(token.wire))
        must(token.part.id in found, "the assertion carries the id that signatures will name")


def _subscription(data: bytes) -> None:
    written = with_software_id(data, _DIGITS)
    try:
        before, after = parse(data), parse(written)
    except XmlError:
        return  # the beginning of a message is enough
    (added,) = after.iter(Ns.SOFTWARE_SUBSCRIPTION("softwareSubscriptionId"))
    security = added.getparent()
    must(security is not None and security.tag == Ns.WSSE("Security"), "it stands in Security")
    must(added.getnext() is None and added.text == _DIGITS, "as its last child, with the digits")
    added.getparent().remove(added)  # type: ignore[union-attr]  # checked above
    must(etree.tostring(after) == etree.tostring(before), "nothing else was changed")


TARGETS = (
    Target(
        "xml", "canonical form is stable, and that of the standard library", _documents, _canonical, (XmlError,), XML
    ),
    Target(
        "sealing", "our digests agree with xmlsec, over what was given", _documents, _sealed, (JobRefusedError,), XML
    ),
    Target("splicing", "spliced bytes are digested as their canonical form", _documents, _spliced, (XmlError,), XML),
    Target("envelope", "nothing is read but what was signed", _envelopes, _envelope, (EnvelopeError,), XML),
    Target("as4-message", "nothing is read but what was signed", _pushes, _as4, (As4SignatureError, MimeError), XML),
    Target("assertion", "the assertion carries the id that is signed", _assertions, _assertion, (XmlError,), XML),
    Target(
        "software-id-element",
        "bytes are inserted and none is changed, for expat and libxml2 alike",
        _envelopes,
        _subscription,
        (XmlError,),
        XML,
    ),
)
