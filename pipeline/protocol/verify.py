"""The outbound self-check: a message judged by another implementation (xmlsec) before anybody else judges it.

A signature library answers only "these octets were signed". Everything else is checked here: the shape of the header,
which node each reference reaches, that no id is ambiguous, and that each algorithm is one of the few that are emitted.
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field

import xmlsec
from lxml import etree

from pipeline.protocol.algorithms import Algorithm, TokenProfile
from pipeline.protocol.namespaces import Ns
from pipeline.protocol.suites import V1_3, Suite
from pipeline.protocol.wsse import AssertionReference
from pipeline.protocol.xml import XmlError, canonical, parse, text_of

_ID_NAMES = (Ns.WSU("Id"), "Id", "ID", "id")
_HEADER_PARTS = 4
_REFERENCE_PARTS = ("Transforms", "DigestMethod", "DigestValue")


class EnvelopeError(ValueError):
    """A message that must not be sent. `code` says which rule it breaks."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


@dataclass(frozen=True, slots=True)
class Expectation:
    """What the two signatures are checked with: our own keys, never one that the message brings."""

    certificate_der: bytes
    proof_key: bytes = field(repr=False)
    assertion_reference: AssertionReference = AssertionReference.WSU_ID


@dataclass(frozen=True, slots=True)
class DocumentSigned:
    """What the certificate's signature covers, and whose certificate the message says it is."""

    body: etree._Element
    certificate_der: bytes


def verify_document_signature(envelope: bytes) -> DocumentSigned:
    """As much of `verify_envelope` as can be done without our keys: the document signature holds under the certificate
    in the message, and the endorsing signature covers what it must, with the right digests.

    Who has that certificate, and whether the session key made the endorsement's value, is not settled by it.

    Raises:
        EnvelopeError: as `verify_envelope`.
    """
    try:
        root = parse(envelope)
        security = _only(_only(root, Ns.SOAP("Header")), Ns.WSSE("Security"))
        body = _only(root, Ns.SOAP("Body"))
        assertion, token, document, endorsement = _header_parts(root, security)
        certificate = base64.b64decode("".join(text_of(token).split()), validate=True)
        ids = _ids(root)
        _check_signature(document, Algorithm.RSA_SHA256, (body, token), ids)
        _check_key_reference(document, token)
        covered = (document, body, _referred(assertion, endorsement))
        _check_signature(endorsement, Algorithm.HMAC_SHA256, covered, ids)
        _check_digests(endorsement, covered)
        key = xmlsec.Key.from_memory(certificate, xmlsec.constants.KeyDataFormatCertDer)
    except XmlError as error:
        raise EnvelopeError("envelope.xml", str(error)) from error
    except (binascii.Error, ValueError, xmlsec.Error) as error:
        if isinstance(error, EnvelopeError):
            raise
        raise EnvelopeError("envelope.token", "the BinarySecurityToken holds no certificate") from error
    _verify(document, key, (body, token))
    return DocumentSigned(body, certificate)


def verify_envelope(envelope: bytes, expected: Expectation) -> etree._Element:
    """The signed Body of an envelope with a certificate signature and an endorsing one (WIG 5.4).

    Raises:
        EnvelopeError: `envelope.xml`, `.shape`, `.id`, `.reference`, `.algorithm`, `.token` or `.signature`.
    """
    try:
        root = parse(envelope)
        security = _only(_only(root, Ns.SOAP("Header")), Ns.WSSE("Security"))
        body = _only(root, Ns.SOAP("Body"))
        assertion, token, document, endorsement = _header_parts(root, security)
        if text_of(token) != base64.b64encode(expected.certificate_der).decode():
            raise EnvelopeError("envelope.token", "the BinarySecurityToken is not the credential's certificate")
        if expected.assertion_reference is AssertionReference.ENCRYPTED_DATA_ID:
            assertion = _only(assertion, Ns.XENC("EncryptedData"))
        ids = _ids(root)
        _check_signature(document, Algorithm.RSA_SHA256, (body, token), ids)
        _check_key_reference(document, token)
        _check_signature(endorsement, Algorithm.HMAC_SHA256, (document, body, assertion), ids)
    except XmlError as error:
        raise EnvelopeError("envelope.xml", str(error)) from error
    certificate_key = xmlsec.Key.from_memory(expected.certificate_der, xmlsec.constants.KeyDataFormatCertDer)
    _verify(document, certificate_key, (body, token))
    proof_key = xmlsec.Key.from_binary_data(xmlsec.constants.KeyDataHmac, expected.proof_key)
    _verify(endorsement, proof_key, (document, body, assertion))
    return body


def verify_token_request(message: bytes, certificate_der: bytes, suite: Suite = V1_3) -> None:
    """See that a token request is signed over its Timestamp and its `wsa:To`, as the service's policy wants it.

    Raises:
        EnvelopeError: `envelope.xml`, `.shape`, `.id`, `.reference`, `.algorithm`, `.token` or `.signature`.
    """
    try:
        root = parse(message)
        header = _only(root, Ns.SOAP("Header"))
        to, security = _only(header, Ns.WSA("To")), _only(header, Ns.WSSE("Security"))
        timestamp, token = _only(security, Ns.WSU("Timestamp")), _only(security, Ns.WSSE("BinarySecurityToken"))
        signature = _only(security, Ns.DS("Signature"))
        _only(root, Ns.SOAP("Body"))
        if text_of(token) != base64.b64encode(certificate_der).decode():
            raise EnvelopeError("envelope.token", "the BinarySecurityToken is not the credential's certificate")
        _check_signature(signature, suite.signature_method, (timestamp, to), _ids(root), suite.digest_method)
        _check_key_reference(signature, token)
    except XmlError as error:
        raise EnvelopeError("envelope.xml", str(error)) from error
    key = xmlsec.Key.from_memory(certificate_der, xmlsec.constants.KeyDataFormatCertDer)
    _verify(signature, key, (timestamp, to))


def _only(parent: etree._Element, name: str) -> etree._Element:
    found = parent.findall(name)
    if len(found) != 1:
        raise EnvelopeError("envelope.shape", f"there must be one {name}, there are {len(found)}")
    return found[0]


def _header_parts(
    root: etree._Element, security: etree._Element
) -> tuple[etree._Element, etree._Element, etree._Element, etree._Element]:
    parts = list(security)
    names = [part.tag for part in parts]
    if root.tag != Ns.SOAP("Envelope") or [child.tag for child in root] != [Ns.SOAP("Header"), Ns.SOAP("Body")]:
        raise EnvelopeError("envelope.shape", "the root must be a SOAP 1.2 Envelope of one Header and one Body")
    if len(parts) != _HEADER_PARTS or names[1:] != [
        Ns.WSSE("BinarySecurityToken"),
        Ns.DS("Signature"),
        Ns.DS("Signature"),
    ]:
        raise EnvelopeError("envelope.shape", "Security must hold an assertion, a BinarySecurityToken, two signatures")
    return parts[0], parts[1], parts[2], parts[3]


def _ids(root: etree._Element) -> Mapping[str, list[etree._Element]]:
    """Every value that a reader could take for an id, with all who carry it; the payload may repeat its own freely."""
    found: dict[str, list[etree._Element]] = {}
    for node in root.iter("*"):
        for name in _ID_NAMES:
            value = node.get(name)
            if value is not None:
                found.setdefault(value, []).append(node)
    return found


def _check_signature(
    signature: etree._Element,
    method: str,
    covered: tuple[etree._Element, ...],
    ids: Mapping[str, list[etree._Element]],
    digest_method: str = Algorithm.SHA256,
) -> None:
    """The signature covers exactly `covered`, in order, by the method given and exclusive canonicalization only."""
    extra = () if method == Algorithm.HMAC_SHA256 else ("KeyInfo",)
    info = _only(signature, Ns.DS("SignedInfo"))
    if [child.tag for child in signature] != [Ns.DS(name) for name in ("SignedInfo", "SignatureValue", *extra)]:
        raise EnvelopeError("envelope.shape", "a signature holds SignedInfo, SignatureValue, and KeyInfo if it is RSA")
    if len(info) != len(covered) + 2:
        raise EnvelopeError("envelope.reference", f"{len(covered)} parts must be signed, {len(info) - 2} are")
    canonicalization, signing, *references = list(info)
    _check_algorithm(canonicalization, "CanonicalizationMethod", Algorithm.EXCLUSIVE_C14N)
    _check_algorithm(signing, "SignatureMethod", method)
    for reference, node in zip(references, covered, strict=True):
        _check_reference(reference, digest_method)
        target = reference.get("URI", "")
        if not target.startswith("#") or len(target) == 1:
            raise EnvelopeError("envelope.reference", "a reference must point into the message")
        reached = ids.get(target[1:], [])
        if len(reached) != 1:
            raise EnvelopeError("envelope.id", f"{target} is the id of {len(reached)} elements")
        if reached[0] is not node:
            raise EnvelopeError("envelope.reference", f"{target} reaches another element than the one that is read")
    text_of(_only(signature, Ns.DS("SignatureValue")))


def _referred(assertion: etree._Element, signature: etree._Element) -> etree._Element:
    """The assertion, or the EncryptedData in it where that is what the signature's last reference names."""
    data = assertion.find(Ns.XENC("EncryptedData"))
    references = signature.findall(f"{Ns.DS('SignedInfo')}/{Ns.DS('Reference')}")
    if data is not None and references and references[-1].get("URI") == f"#{data.get('Id')}":
        return data
    return assertion


def _check_digests(signature: etree._Element, covered: tuple[etree._Element, ...]) -> None:
    """The digests in a signature whose references are known to lead to `covered`, in order."""
    references = _only(signature, Ns.DS("SignedInfo")).findall(Ns.DS("Reference"))
    for reference, node in zip(references, covered, strict=True):
        said = base64.b64decode("".join(text_of(_only(reference, Ns.DS("DigestValue"))).split()), validate=True)
        if not hmac.compare_digest(said, hashlib.sha256(canonical(node)).digest()):
            raise EnvelopeError("envelope.signature", "a digest of the endorsing signature does not hold")


def _check_reference(reference: etree._Element, digest: str) -> None:
    names = [child.tag for child in reference]
    if reference.tag != Ns.DS("Reference") or names != [Ns.DS(name) for name in _REFERENCE_PARTS]:
        raise EnvelopeError("envelope.shape", f"SignedInfo must hold references of {', '.join(_REFERENCE_PARTS)}")
    transforms, digest_method, digest_value = reference
    if len(transforms) != 1:
        raise EnvelopeError("envelope.algorithm", "a reference must have one transform")
    _check_algorithm(transforms[0], "Transform", Algorithm.EXCLUSIVE_C14N)
    _check_algorithm(digest_method, "DigestMethod", digest)
    text_of(digest_value)


def _check_algorithm(node: etree._Element, name: str, algorithm: str) -> None:
    if node.tag != Ns.DS(name) or len(node) or node.get("Algorithm") != algorithm:
        raise EnvelopeError("envelope.algorithm", f"{name} must be {algorithm}, without parameters")


def _check_key_reference(signature: etree._Element, token: etree._Element) -> None:
    reference = _only(
        _only(_only(signature, Ns.DS("KeyInfo")), Ns.WSSE("SecurityTokenReference")), Ns.WSSE("Reference")
    )
    if reference.get("URI") != f"#{token.get(Ns.WSU('Id'))}" or reference.get("ValueType") != TokenProfile.X509V3:
        raise EnvelopeError("envelope.token", "KeyInfo must refer to the BinarySecurityToken")


def _verify(signature: etree._Element, key: xmlsec.Key, covered: tuple[etree._Element, ...]) -> None:
    context = xmlsec.SignatureContext()
    context.key = key
    for node in covered:
        if node.get(Ns.WSU("Id")) is not None:
            context.register_id(node, "Id", Ns.WSU)
        else:
            context.register_id(node, "Id")
    try:
        context.verify(signature)
    except xmlsec.Error as error:
        raise EnvelopeError("envelope.signature", "xmlsec does not verify a signature") from error
