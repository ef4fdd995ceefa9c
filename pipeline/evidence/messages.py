"""What the messages in evidence prove by themselves: whose signature they carry, over what, and for which reference.

No key of ours is needed. What one would be needed for is named and left open.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from lxml import etree

from pipeline.channels.asic_bn import NAME as ASIC
from pipeline.channels.sbr2_stp import NAME as STP
from pipeline.protocol.as4_receipts import ReceiptFault, disagreements
from pipeline.protocol.as4_signed_info import As4SignatureError
from pipeline.protocol.as4_verify import PUSH_POLICY, RESPONSE_POLICY, Verified, verify_message
from pipeline.protocol.certificates import CertificateError, read_der
from pipeline.protocol.ebms3 import Ebms3Error, ErrorSignal, PullRequest, Receipt, SignedReference, Unit, UserMessage
from pipeline.protocol.ebms3_reader import read_envelope, read_messaging
from pipeline.protocol.mime import Package, read_package
from pipeline.protocol.mime_reader import MimeError
from pipeline.protocol.mime_writer import content_id_of
from pipeline.protocol.namespaces import Ns
from pipeline.protocol.verify import EnvelopeError, verify_document_signature
from pipeline.protocol.xml import XmlError, parse

_PIECE = 64 * 1024
_BOUNDARY = re.compile(rb"--([!-~][ -~]{0,69})\r?\n")
_ENVELOPE_END = b"</soap:Envelope>"
_UNREADABLE = (MimeError, XmlError, Ebms3Error, As4SignatureError, EnvelopeError)


class UnprovenError(ValueError):
    """A message does not prove what it should. The text says what is wrong with it, for people."""


@dataclass(frozen=True, slots=True)
class Proven:
    """What holds of a sent message. `open` is what nobody can tell from it without a secret of the sender's."""

    text: str
    open: str = ""
    message_id: str = ""
    references: tuple[SignedReference, ...] = ()
    """What a receipt for it must repeat."""


@dataclass(frozen=True, slots=True)
class Sent:
    """A message as it went over the wire. Where the document was left out, `payload_sha256` stands in for it."""

    content: bytes = field(repr=False)
    reference: str
    payload_sha256: str | None = None


def kind_of(channel: str, content_type: str, content: bytes) -> str:
    """What a reply reads as: `receipt`, `response` (a pulled outcome), `error`, or just `reply`."""
    if channel != STP:
        return "reply"
    try:
        units = read_envelope(_package(content_type, content).root).units
    except _UNREADABLE:
        return "reply"
    kinds: Mapping[type[Unit], str] = {Receipt: "receipt", UserMessage: "response", ErrorSignal: "error"}
    return kinds.get(type(units[0]), "reply") if len(units) == 1 else "reply"


def prove_sent(channel: str, sent: Sent) -> Proven:
    """Check the signatures in a message that was sent, and that it is the lodgment's own.

    Raises:
        UnprovenError: a signature does not hold, or the message is of another reference.
    """
    try:
        match channel:
            case _ if channel == STP:
                return _sent_by_as4(sent)
            case _ if channel == ASIC:
                return _sent_to_asic(sent)
            case _:
                return Proven("", f"signatures of the channel {channel} are not known here: only its hash was checked")
    except _UNREADABLE as error:
        raise UnprovenError(f"{error} [{error.code}]") from error


def prove_receipt(content_type: str, content: bytes, sent: Proven) -> str:
    """Compare a receipt with the message that it acknowledges; what that shows.

    Raises:
        UnprovenError: it acknowledges something else.
    """
    match _units(content_type, content):
        case (Receipt() as receipt,):
            wrong = disagreements(receipt, sent.message_id, sent.references)
        case _:
            # The manifest calls it a receipt, and whoever wrote that may have meant harm.
            raise UnprovenError("it is no receipt")
    if [one.fault for one in wrong] == [ReceiptFault.NO_DIGESTS]:
        return "acknowledges the message id, without digests of what arrived; receipts are not signed"
    if wrong:
        places = ", ".join(sorted(f"{one.fault.value} {(one.place or '')[:100]}" for one in wrong))
        raise UnprovenError(f"the receipt does not fit what was sent: {places}")
    return f"repeats all {len(sent.references)} digests that were signed, for this message id; receipts are not signed"


def prove_response(content_type: str, content: bytes) -> str:
    """Check the signature of a pulled response, if it has one; what that shows.

    Raises:
        UnprovenError: it is signed, and the signature does not hold.
    """
    try:
        package = _package(content_type, content)
        security = f"{Ns.SOAP('Header')}/{Ns.WSSE('Security')}/{Ns.DS('Signature')}"
        if parse(package.root).find(security) is None:
            return "is not signed: it rests on the TLS connection and on its hash"
        verified = verify_message(package.root, package.attachments, RESPONSE_POLICY, lambda named: named)
    except _UNREADABLE as error:
        raise UnprovenError(f"{error} [{error.code}]") from error
    return f"signed by {_who(verified.certificate)}: compare that with the agency's certificate"


def _sent_by_as4(sent: Sent) -> Proven:
    root, left_out = b"", {}
    package = Package(b"")
    if sent.payload_sha256 is None:
        found = _BOUNDARY.match(sent.content)
        content_type = f'multipart/related; boundary="{found[1].decode()}"' if found else ""
        package = _package(content_type, sent.content)
        root = package.root
    else:
        root = _root_in(sent.content)
        left_out = {_attachment_id(root): bytes.fromhex(sent.payload_sha256)}
    verified = verify_message(root, package.attachments, PUSH_POLICY, lambda named: named, left_out)
    units = read_messaging(verified.messaging)
    if len(units) != 1:
        raise UnprovenError(f"there must be one message in it, there are {len(units)}")
    (unit,) = units
    covered = "header, token, body" + (" and document" if package.attachments or left_out else "")
    text = f"RSA signature over {covered} by {_who(verified.certificate)}"
    match unit:
        case UserMessage():
            if unit.info.message_id.partition("@")[0] != sent.reference:
                raise UnprovenError(f"its message id {unit.info.message_id[:100]} is not of the reference")
            return _proven(f"{text}; message id {unit.info.message_id}", unit.info.message_id, verified)
        case PullRequest():
            return _proven(f"{text}; asks for the outcome of {unit.selected}", unit.info.message_id, verified)
        case _:
            raise UnprovenError("it is neither a push nor a pull")


def _proven(text: str, message_id: str, verified: Verified) -> Proven:
    return Proven(text, message_id=message_id, references=verified.references)


def _sent_to_asic(sent: Sent) -> Proven:
    if sent.payload_sha256 is not None:
        return Proven("", "the document was left out, and the signatures are over it: they cannot be checked")
    root = parse(sent.content)
    if root.find(f"{Ns.SOAP('Header')}/{Ns.WSSE('Security')}") is None:
        _check_reference(root, sent.reference)
        return Proven("", "it carries no signature: the sender logged in by HTTP Basic; only its hash was checked")
    signed = verify_document_signature(sent.content)
    _check_reference(signed.body, sent.reference)
    try:
        who = _who(read_der(signed.certificate_der))
    except CertificateError as error:
        raise UnprovenError("its certificate cannot be read") from error
    return Proven(
        f"RSA signature over body and certificate by {who}; messageReferenceNumber {sent.reference}",
        "the endorsing signature covers what it must; its value is an HMAC, which cannot be checked without the proof"
        " key, and that is never in evidence",
    )


def _check_reference(node: etree._Element, reference: str) -> None:
    said = [one.text for one in node.iter(Ns.ASIC_HEADER("messageReferenceNumber"))]
    if said != [reference]:
        raise UnprovenError("its messageReferenceNumber is not the reference")


def _root_in(head: bytes) -> bytes:
    """The SOAP part, from what stands before the document."""
    start, end = head.find(b"<?xml"), head.find(_ENVELOPE_END)
    if start < 0 or end < 0:
        raise UnprovenError("there is no SOAP envelope in it")
    return head[start : end + len(_ENVELOPE_END)]


def _attachment_id(root: bytes) -> str:
    """The Content-ID of the one attachment that the header names; what is signed is checked against the signature."""
    hrefs = [one.get("href", "") for one in parse(root).iter(Ns.EBMS3("PartInfo"))]
    found = [content_id for href in hrefs if (content_id := content_id_of(href))]
    if len(found) != 1:
        raise UnprovenError(f"one attachment must be named in the header, {len(found)} are")
    return found[0]


def _units(content_type: str, content: bytes) -> tuple[Unit, ...]:
    try:
        return read_envelope(_package(content_type, content).root).units
    except _UNREADABLE as error:
        raise UnprovenError(f"{error} [{error.code}]") from error


def _package(content_type: str, content: bytes) -> Package:
    return read_package(content_type, _cut(content))


def _cut(content: bytes) -> Iterator[bytes]:
    for start in range(0, len(content), _PIECE):
        yield content[start : start + _PIECE]


def _who(certificate: x509.Certificate) -> str:
    """The subject, and the SHA-256 of the certificate: the name alone anybody can write into one of their own."""
    digest = hashlib.sha256(certificate.public_bytes(Encoding.DER)).hexdigest()
    return f"{certificate.subject.rfc4514_string()[:200]} (certificate SHA-256 {digest})"
