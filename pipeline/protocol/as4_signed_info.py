"""SignedInfo of an AS4 message, read strictly (XML Signature 1.1, 4.4): few algorithms, one shape, nothing optional.

Structure and value say only which octets somebody signed; what they mean is settled in `as4_verify`.
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import xmlsec
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from lxml import etree

from pipeline.protocol.algorithms import Algorithm
from pipeline.protocol.ebms3 import SignedReference
from pipeline.protocol.mime_writer import content_id_of
from pipeline.protocol.namespaces import Ns
from pipeline.protocol.xml import canonical, text_of

SHA1 = "http://www.w3.org/2000/09/xmldsig#sha1"
"""Read where a policy names it, never written."""
REFERENCE_LIMIT = 30
PREFIX_LIMIT = 50
_HASHES: Mapping[str, str] = {Algorithm.SHA256: "sha256", SHA1: "sha1"}
_INCLUSIVE_NAMESPACES = f"{{{Algorithm.EXCLUSIVE_C14N}}}InclusiveNamespaces"
_EXCLUSIVE = frozenset({Algorithm.EXCLUSIVE_C14N})


class As4SignatureError(ValueError):
    """A message that cannot be believed. `code` says which rule it breaks."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


@dataclass(frozen=True, slots=True)
class Reference:
    """A ds:Reference, and the prefixes that its canonicalization treats inclusively (Exclusive C14N 1.0, 4)."""

    value: SignedReference
    prefixes: tuple[str, ...]

    def check(self, octets: bytes) -> None:
        """Raises:
        As4SignatureError: `as4.digest`: these are not the octets that were signed.
        """
        self._compare(hashlib.new(_HASHES[self.value.digest_method], octets, usedforsecurity=False).digest())

    def check_digest(self, sha256: bytes) -> None:
        """The same for octets that are not at hand.

        Raises:
            As4SignatureError: `as4.digest`, also where another hash than SHA-256 was signed.
        """
        self._compare(sha256 if self.value.digest_method == Algorithm.SHA256 else b"")

    def _compare(self, digest: bytes) -> None:
        if not hmac.compare_digest(digest, self.value.digest):
            raise As4SignatureError("as4.digest", f"the digest of {self.value.uri[:200]} does not hold")


def references_of(signature: etree._Element, digest_methods: Collection[str]) -> tuple[Reference, ...]:
    """The References of a ds:Signature of the one shape and the few algorithms that are accepted.

    Raises:
        As4SignatureError: `as4.shape`, `as4.algorithm` or `as4.reference`.
        XmlError: something splits a text.
    """
    names = [child.tag for child in signature]
    if names != [Ns.DS("SignedInfo"), Ns.DS("SignatureValue"), Ns.DS("KeyInfo")]:
        raise As4SignatureError("as4.shape", "a signature holds SignedInfo, SignatureValue and KeyInfo, once each")
    if len(signature[0]) < 3:
        raise As4SignatureError("as4.shape", "SignedInfo holds two methods and at least one Reference")
    canonicalization, method, *references = signature[0]
    if len(references) > REFERENCE_LIMIT:
        raise As4SignatureError("as4.reference", f"more than {REFERENCE_LIMIT} References")
    _algorithm(canonicalization, "CanonicalizationMethod", _EXCLUSIVE)
    _algorithm(method, "SignatureMethod", {Algorithm.RSA_SHA256})
    read = tuple(_reference(one, digest_methods) for one in references)
    if len({one.value.uri for one in read}) != len(read):
        raise As4SignatureError("as4.reference", "two References lead to the same place")
    return read


def check_value(signature: etree._Element, certificate: x509.Certificate) -> None:
    """Believe the SignedInfo of a signature that `references_of` has read only if `certificate` signed it as it stands.

    Raises:
        As4SignatureError: `as4.signature`.
        XmlError: `xml.canonical`.
    """
    info, value, _ = signature
    octets = canonical(info, prefixes=_algorithm(info[0], "CanonicalizationMethod", _EXCLUSIVE))
    context = xmlsec.SignatureContext()
    der = certificate.public_bytes(Encoding.DER)
    try:
        context.key = xmlsec.Key.from_memory(der, xmlsec.constants.KeyDataFormatCertDer)
        context.verify_binary(octets, xmlsec.constants.TransformRsaSha256, base64_of(value, "SignatureValue"))
    except xmlsec.Error as error:
        raise As4SignatureError("as4.signature", "the signature's value does not hold") from error


def base64_of(node: etree._Element, name: str) -> bytes:
    """The octets in an element that holds base64 and nothing else.

    Raises:
        As4SignatureError: `as4.shape`.
        XmlError: something splits its text.
    """
    written = "".join(text_of(node).split())
    try:
        return base64.b64decode(written, validate=True)
    except (binascii.Error, ValueError) as error:
        raise As4SignatureError("as4.shape", f"{name} is not base64") from error


def _reference(reference: etree._Element, digest_methods: Collection[str]) -> Reference:
    names = [Ns.DS("Transforms"), Ns.DS("DigestMethod"), Ns.DS("DigestValue")]
    if reference.tag != Ns.DS("Reference") or [child.tag for child in reference] != names:
        raise As4SignatureError("as4.shape", "SignedInfo holds References of Transforms, DigestMethod and DigestValue")
    uri = reference.get("URI", "")
    wanted = Algorithm.EXCLUSIVE_C14N if uri.startswith("#") else Algorithm.ATTACHMENT_CONTENT
    if len(uri) < 2 or (not uri.startswith("#") and content_id_of(uri) is None):
        raise As4SignatureError("as4.reference", "a Reference must lead to an element by its id, or to a part by cid:")
    transforms, digest_method, digest_value = reference
    if len(transforms) != 1:
        raise As4SignatureError("as4.algorithm", "a Reference must have exactly one transform")
    prefixes = _algorithm(transforms[0], "Transform", {wanted})
    _algorithm(digest_method, "DigestMethod", digest_methods)
    digest = base64_of(digest_value, "DigestValue")
    method = digest_method.get("Algorithm", "")
    return Reference(SignedReference(uri, method, digest, (wanted,)), prefixes)


def _algorithm(node: etree._Element, name: str, accepted: Collection[str]) -> tuple[str, ...]:
    """The prefixes of an InclusiveNamespaces in `node`, the one parameter that any of these algorithms may have."""
    algorithm = node.get("Algorithm")
    if node.tag != Ns.DS(name) or algorithm not in accepted:
        raise As4SignatureError("as4.algorithm", f"{name} must be one of {', '.join(sorted(accepted))}")
    if not len(node):
        text_of(node)
        return ()
    # HMACOutputLength would be such a child, too (XML Signature 4.4.2; CVE-2009-0217).
    if algorithm != Algorithm.EXCLUSIVE_C14N or [child.tag for child in node] != [_INCLUSIVE_NAMESPACES]:
        raise As4SignatureError("as4.algorithm", f"{name} has a parameter that is not known")
    prefixes = tuple(node[0].get("PrefixList", "").split())
    if len(prefixes) > PREFIX_LIMIT:
        raise As4SignatureError("as4.algorithm", f"a PrefixList of more than {PREFIX_LIMIT}")
    return prefixes
