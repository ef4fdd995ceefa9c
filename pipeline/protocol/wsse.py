"""WS-Security 1.1: token, assertion and the two signatures of a Security header, each written in canonical form.

Every signature is made over digests of bytes already in hand (XML Signature 1.1, 3.1); only exclusive canonicalization,
SHA-256, RSA-SHA256 and HMAC-SHA256 are emitted, unless a caller names the legacy suite.
"""

import hashlib
import hmac
import re
from binascii import b2a_base64
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple

from pipeline.protocol.algorithms import Algorithm, TokenProfile
from pipeline.protocol.credential import SigningKey
from pipeline.protocol.fragments import element, free_suffix, prefix_names, start_tag
from pipeline.protocol.namespaces import Ns
from pipeline.protocol.suites import V1_2_LEGACY, V1_3, Suite
from pipeline.protocol.xml import XmlError, canonical, escape_attribute, parse

_TOKENS_KEPT = 64
"""Assertions and certificates kept ready: one per credential, or employer, that is lodged for now."""
_START = re.compile(rb"\s*<[^\s/>?!]+")
_ID_PREFIX = prefix_names("wsu")
_REFERENCE_START = '<ds:Reference URI="'
_REFERENCE_END = "</ds:DigestValue></ds:Reference>"


def _reference_middle(transform: str, digest_method: str) -> str:
    transforms = element("ds:Transforms", element("ds:Transform", attributes={"Algorithm": transform}))
    method = element("ds:DigestMethod", attributes={"Algorithm": digest_method})
    return f'">{transforms}{method}<ds:DigestValue>'


_REFERENCE_MIDDLE = {
    method: _reference_middle(Algorithm.EXCLUSIVE_C14N, method)
    for method in (V1_3.digest_method, V1_2_LEGACY.digest_method)
}
_MIDDLE_OF_ATTACHED = _reference_middle(Algorithm.ATTACHMENT_CONTENT, Algorithm.SHA256)
_SIGNED_INFO_START = {
    method: element("ds:CanonicalizationMethod", attributes={"Algorithm": Algorithm.EXCLUSIVE_C14N})
    + element("ds:SignatureMethod", attributes={"Algorithm": method})
    for method in (V1_3.signature_method, Algorithm.HMAC_SHA256, V1_2_LEGACY.signature_method)
}
_APEX_START = start_tag("ds:SignedInfo", {"ds": Ns.DS})
_SIGNATURE_START = start_tag("ds:Signature", {"ds": Ns.DS}).removesuffix(">")
_KEY_INFO_START = f'<ds:KeyInfo>{start_tag("wsse:SecurityTokenReference", {"wsse": Ns.WSSE})}<wsse:Reference URI="#'
_KEY_INFO_END = f'" ValueType="{TokenProfile.X509V3}"></wsse:Reference></wsse:SecurityTokenReference></ds:KeyInfo>'
_TOKEN_START = start_tag("wsse:BinarySecurityToken", {"wsse": Ns.WSSE, "wsu": Ns.WSU}).removesuffix(">") + (
    f' EncodingType="{TokenProfile.BASE64}" ValueType="{TokenProfile.X509V3}" wsu:Id="'
)


class Part(NamedTuple):
    """What a signature covers: an element's id, the digest of its canonical form, and the ds:Reference that says so."""

    id: str
    digest: bytes
    reference: str

    @classmethod
    def of(cls, part_id: str, first: bytes, *more: bytes) -> "Part":
        """The part whose canonical form the pieces make up, by its SHA-256."""
        digest = hashlib.sha256(first)
        for piece in more:
            digest.update(piece)
        return cls.digested(part_id, digest.digest())

    @classmethod
    def digested(cls, part_id: str, digest: bytes, suite: Suite = V1_3) -> "Part":
        """The part with a digest of that suite's."""
        return cls(part_id, digest, _reference(f"#{part_id}", _REFERENCE_MIDDLE[suite.digest_method], digest))


class AttachedPart(NamedTuple):
    """What a signature covers of an attachment: its `cid:` URL, and the SHA-256 of its content as it is attached.

    The content is not canonicalised, it is octets (SwA profile 1.1, 5.4.2); whoever stored them has the digest.
    """

    url: str
    digest: bytes

    @property
    def reference(self) -> str:
        return _reference(self.url, _MIDDLE_OF_ATTACHED, self.digest)


class AssertionReference(StrEnum):
    """What the envelope signature refers to as the assertion (`#assertion_id`, WIG 5.4.4)."""

    WSU_ID = "wsu-id"
    """The EncryptedAssertion itself, by a `wsu:Id`. It has no id of its own (SAML 2.0 core, 2.3.4), so one is put on
    its start tag: the only way to cover the whole element, and all in which it differs from what the STS gave."""
    ENCRYPTED_DATA_ID = "encrypted-data-id"
    """The EncryptedData in it, by the `Id` that the STS wrote there. Changes no byte ("without change", WIG 5.4.1), but
    leaves the wrapper uncovered; for a relying party that compares the assertion with what the STS issued."""


@dataclass(frozen=True, slots=True)
class IdentityToken:
    """An EncryptedAssertion as it stands in the header of every envelope, and what a signature covers of it."""

    wire: bytes = field(repr=False)
    part: Part


@lru_cache(maxsize=_TOKENS_KEPT)
def identity_token(assertion: bytes, reference: AssertionReference) -> IdentityToken:
    """Makes an assertion ready for any number of envelopes: parsed, canonicalised and digested once.

    An id that has to be put on it is made of its content: the same element has the same id in every message, as an id
    from the STS would be, and another element another one.

    Raises:
        XmlError: `token.assertion` when it is no element, or has no EncryptedData with an Id to refer to.
    """
    start = _START.match(assertion)
    if start is None:
        raise XmlError("token.assertion", "the assertion does not begin with a start tag")
    root = parse(assertion)
    if reference is AssertionReference.ENCRYPTED_DATA_ID:
        data = root.find(Ns.XENC("EncryptedData"))
        if data is None or not data.get("Id"):
            raise XmlError("token.assertion", "the assertion has no EncryptedData with an Id")
        return IdentityToken(assertion, Part.of(data.get("Id", ""), canonical(data)))
    own_id = root.get(Ns.WSU("Id"))
    if own_id:
        return IdentityToken(assertion, Part.of(own_id, canonical(root)))
    new_id = f"assertion-{hashlib.sha256(assertion).hexdigest()[:32]}"
    prefix = f"wsu{free_suffix(_ID_PREFIX, canonical(root, exclusive=False))}"
    attribute = start_tag("", {prefix: Ns.WSU}, {f"{prefix}:Id": new_id})[1:-1].encode()
    wire = assertion[: start.end()] + attribute + assertion[start.end() :]
    return IdentityToken(wire, Part.of(new_id, canonical(parse(wire))))


@lru_cache(maxsize=_TOKENS_KEPT)
def binary_security_token(certificate_der: bytes) -> tuple[bytes, Part]:
    """The leaf certificate as `wsse:BinarySecurityToken` (X.509 token profile 1.1, 3.1; BSP 1.1, R3029 to R3032).

    Its id is made of the certificate, as that of `identity_token` is: the element is written and digested once.
    """
    token_id = f"X509-{hashlib.sha256(certificate_der).hexdigest()[:32]}"
    content = b2a_base64(certificate_der, newline=False).decode()
    token = f'{_TOKEN_START}{token_id}">{content}</wsse:BinarySecurityToken>'.encode()
    return token, Part.of(token_id, token)


def certificate_signature(
    private_key: SigningKey,
    signature_id: str,
    token: Part,
    parts: Iterable[Part | AttachedPart],
    suite: Suite = V1_3,
) -> tuple[bytes, Part]:
    """RSA over `parts`, the key named by reference to the BinarySecurityToken (WIG 5.4.3; BSP 1.1, R5417).

    The digests in `parts` must be of the same `suite`.
    """
    info = _signed_info(suite.signature_method, parts)
    value = private_key.sign(_to_be_signed(info), suite.hash)
    key_info = f"{_KEY_INFO_START}{escape_attribute(token.id)}{_KEY_INFO_END}"
    signature = _signature(info, value, key_info, f' Id="{escape_attribute(signature_id)}"')
    return signature, Part.of(signature_id, signature)


def endorsing_signature(proof_key: bytes, parts: Iterable[Part]) -> bytes:
    """HMAC-SHA256 with the session key over `parts`; no KeyInfo, the key is in the assertion (WIG 5.4.4)."""
    info = _signed_info(Algorithm.HMAC_SHA256, parts)
    # Half the time of hmac.digest, which has OpenSSL 3 look its algorithm up anew.
    return _signature(info, hmac.new(proof_key, _to_be_signed(info), "sha256").digest())


def _signed_info(method: str, parts: Iterable[Part | AttachedPart]) -> str:
    return f"{_SIGNED_INFO_START[method]}{''.join([part.reference for part in parts])}</ds:SignedInfo>"


def _reference(uri: str, middle: str, digest: bytes) -> str:
    value = b2a_base64(digest, newline=False).decode()
    return f"{_REFERENCE_START}{escape_attribute(uri)}{middle}{value}{_REFERENCE_END}"


def _to_be_signed(info: str) -> bytes:
    """SignedInfo as the apex of its own canonical form: it declares what its parent declares for it in the message."""
    return f"{_APEX_START}{info}".encode()


def _signature(info: str, value: bytes, key_info: str = "", named: str = "") -> bytes:
    return (
        f"{_SIGNATURE_START}{named}><ds:SignedInfo>{info}"
        f"<ds:SignatureValue>{b2a_base64(value, newline=False).decode()}</ds:SignatureValue>{key_info}</ds:Signature>"
    ).encode()
