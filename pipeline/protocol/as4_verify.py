"""AS4 messages believed only as far as their signature goes: a stated coverage, and the very octets that were digested.

No XML signature library that is at hand knows the attachment transform or dereferences a `cid:`, and a signature with
one reference left out is another signature. So the references are checked here, each over the node or the part that is
handed on, and the signature's value over SignedInfo as it stands; see decision 18.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from lxml import etree

from pipeline.protocol.algorithms import Algorithm, TokenProfile
from pipeline.protocol.as4_signature import Covered
from pipeline.protocol.as4_signed_info import SHA1, As4SignatureError, Reference, base64_of, check_value, references_of
from pipeline.protocol.certificates import CertificateError, public_key_of, read_der
from pipeline.protocol.ebms3 import SignedReference
from pipeline.protocol.mime import Attachment
from pipeline.protocol.mime_writer import content_id_of
from pipeline.protocol.namespaces import Ns
from pipeline.protocol.xml import XmlError, canonical, ids_of, parse

SHORTEST_KEY = 2048


@dataclass(frozen=True, slots=True)
class SignaturePolicy:
    """What must be signed besides eb:Messaging, and how. The signature itself is RSA-SHA256 in every policy."""

    required: frozenset[Covered]
    digest_methods: frozenset[str] = frozenset({Algorithm.SHA256})


PUSH_POLICY = SignaturePolicy(frozenset({Covered.MESSAGING, Covered.ASSERTION, Covered.BODY, Covered.ATTACHMENTS}))
"""What a receiver of SBR2 pushes and pulls asks for."""
RESPONSE_POLICY = SignaturePolicy(frozenset({Covered.MESSAGING, Covered.BODY, Covered.ATTACHMENTS}))
"""For a pulled response that the agency signed."""
LEGACY_RESPONSE_POLICY = SignaturePolicy(RESPONSE_POLICY.required, frozenset({Algorithm.SHA256, SHA1}))
"""The same with SHA-1 digests, as gateways of 2020 wrote them. For reading only, and only where it is named."""

Trust = Callable[[x509.Certificate | None], x509.Certificate | None]
"""Given the certificate that the message names, if it does, the one to verify with, or None to refuse."""


@dataclass(frozen=True, slots=True)
class Verified:
    """What was signed, and nothing else: the octets whose digests the signature holds."""

    messaging: bytes = field(repr=False)
    """eb:Messaging in canonical form, a document of its own."""
    body: bytes | None = field(repr=False)
    assertion: bytes | None = field(repr=False)
    attachments: tuple[Attachment, ...]
    """Their content is signed, their media type is not: the signed one is the part property in `messaging`."""
    references: tuple[SignedReference, ...]
    """As they stand in the signature: what a receipt repeats."""
    certificate: x509.Certificate


@dataclass(frozen=True, slots=True)
class _Shape:
    """The parts of an envelope, each the only one of its name."""

    messaging: etree._Element
    security: etree._Element
    signature: etree._Element
    assertion: etree._Element | None
    token: etree._Element | None
    body: etree._Element
    ids: Mapping[str, etree._Element]


def verify_message(
    envelope: bytes,
    attachments: Sequence[Attachment],
    policy: SignaturePolicy,
    trust: Trust,
    left_out: Mapping[str, bytes] = MappingProxyType({}),
) -> Verified:
    """What of `envelope` and `attachments` is signed, by a key that `trust` answers for, as `policy` demands.

    An attachment that is not signed is refused where the policy covers attachments, and left out where it does not.
    `left_out` are attachments that are not at hand: the SHA-256 of each by its Content-ID, to be compared instead.

    Raises:
        As4SignatureError: `as4.xml`, `as4.shape`, `as4.id`, `as4.algorithm`, `as4.reference`, `as4.coverage`,
            `as4.digest`, `as4.attachment`, `as4.certificate` or `as4.signature`.
    """
    try:
        shape = _shape(parse(envelope))
        references = references_of(shape.signature, policy.digest_methods)
        certificate = _certificate(shape, trust)
        check_value(shape.signature, certificate)
        return _covered(shape, references, attachments, policy, certificate, left_out)
    except XmlError as error:
        code = "as4.id" if error.code == "xml.duplicate-id" else "as4.xml"
        raise As4SignatureError(code, f"the message cannot be read: {error}") from error


def _shape(root: etree._Element) -> _Shape:
    if root.tag != Ns.SOAP("Envelope") or [child.tag for child in root] != [Ns.SOAP("Header"), Ns.SOAP("Body")]:
        raise As4SignatureError("as4.shape", "the root must be a SOAP 1.2 Envelope of one Header and one Body")
    header, body = root
    security = _only(header, Ns.WSSE("Security"))
    if sum(1 for _ in root.iter(Ns.SOAP("Body"))) > 1:
        raise As4SignatureError("as4.shape", "a second Body hides in the message")
    return _Shape(
        messaging=_only(header, Ns.EBMS3("Messaging")),
        security=security,
        signature=_only(security, Ns.DS("Signature")),
        assertion=_at_most_one(security, Ns.SAML2("EncryptedAssertion")),
        token=_at_most_one(security, Ns.WSSE("BinarySecurityToken")),
        body=body,
        ids=ids_of(root),
    )


def _only(parent: etree._Element, name: str) -> etree._Element:
    found = _at_most_one(parent, name)
    if found is None:
        raise As4SignatureError("as4.shape", f"the message has no {etree.QName(name).localname}")
    return found


def _at_most_one(parent: etree._Element, name: str) -> etree._Element | None:
    """The one element `name` in the whole document, which must be a child of `parent`."""
    everywhere = list(parent.getroottree().getroot().iter(name))
    if len(everywhere) > 1 or (everywhere and everywhere[0].getparent() is not parent):
        local = etree.QName(name).localname
        raise As4SignatureError("as4.shape", f"{local} stands twice in the message, or not in its own place")
    return everywhere[0] if everywhere else None


def _certificate(shape: _Shape, trust: Trust) -> x509.Certificate:
    named = _named_certificate(shape)
    trusted = trust(named)
    if trusted is None:
        raise As4SignatureError("as4.certificate", "the message is not signed by a certificate that is trusted here")
    try:
        key = public_key_of(trusted)
    except CertificateError as error:
        raise As4SignatureError("as4.certificate", "the key in the signer's certificate cannot be read") from error
    if not isinstance(key, RSAPublicKey) or key.key_size < SHORTEST_KEY:
        raise As4SignatureError("as4.certificate", f"the signer's key must be RSA of at least {SHORTEST_KEY} bits")
    return trusted


def _named_certificate(shape: _Shape) -> x509.Certificate | None:
    """From the BinarySecurityToken that KeyInfo refers to; any other way to name a key says nothing to us."""
    path = f"{Ns.DS('KeyInfo')}/{Ns.WSSE('SecurityTokenReference')}/{Ns.WSSE('Reference')}"
    references = shape.signature.findall(path)
    if not references:
        return None
    target = shape.ids.get(references[0].get("URI", "").removeprefix("#"))
    token = shape.token
    if len(references) != 1 or token is None or target is not token:
        raise As4SignatureError("as4.certificate", "KeyInfo must refer to the one BinarySecurityToken")
    if token.get("ValueType") != TokenProfile.X509V3:
        raise As4SignatureError("as4.certificate", "the BinarySecurityToken must hold one X.509 certificate")
    der = base64_of(token, "BinarySecurityToken")
    try:
        return read_der(der)
    except CertificateError as error:
        raise As4SignatureError("as4.certificate", "the BinarySecurityToken holds no certificate") from error


def _covered(
    shape: _Shape,
    references: Sequence[Reference],
    attachments: Sequence[Attachment],
    policy: SignaturePolicy,
    certificate: x509.Certificate,
    left_out: Mapping[str, bytes],
) -> Verified:
    by_id = {one.content_id: one for one in attachments if one.content_id}
    if len(by_id) != len(attachments):
        raise As4SignatureError("as4.attachment", "each attachment must have a Content-ID of its own")
    signed: dict[etree._Element | None, bytes] = {}
    parts: list[Attachment] = []
    for reference in references:
        uri = reference.value.uri
        if uri.startswith("#"):
            node = _node(shape, uri[1:])
            signed[node] = octets = canonical(node, prefixes=reference.prefixes)
        elif (content_id := content_id_of(uri) or "") in left_out:
            reference.check_digest(left_out[content_id])
            continue
        else:
            part = by_id.pop(content_id, None)
            if part is None:
                raise As4SignatureError("as4.attachment", "a signed attachment is missing")
            parts.append(part)
            octets = part.content
        reference.check(octets)
    covered = {
        Covered.MESSAGING: shape.messaging in signed,
        Covered.ASSERTION: shape.assertion in signed,
        Covered.TOKEN: shape.token in signed,
        Covered.BODY: shape.body in signed,
        Covered.ATTACHMENTS: not by_id,
    }
    missing = sorted(one for one in policy.required | {Covered.MESSAGING} if not covered[one])
    if missing:
        raise As4SignatureError("as4.coverage", f"the signature does not cover: {', '.join(missing)}")
    return Verified(
        messaging=signed[shape.messaging],
        body=signed.get(shape.body),
        assertion=signed.get(shape.assertion),
        attachments=tuple(parts),
        references=tuple(one.value for one in references),
        certificate=certificate,
    )


def _node(shape: _Shape, element_id: str) -> etree._Element:
    """The element that a Reference leads to: one of those that are read, or another token beside the signature."""
    node = shape.ids.get(element_id)
    if node is None:
        raise As4SignatureError("as4.reference", "a Reference leads to no element of this message")
    in_place = node is shape.messaging or node is shape.body or node.getparent() is shape.security
    if not in_place or node is shape.signature:
        raise As4SignatureError("as4.reference", "a Reference leads to an element that is not read")
    return node
