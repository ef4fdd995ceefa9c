"""AS4 messages secured as SBR has it: one signature, by the machine credential, over all that is said and attached.

soap:Envelope
  soap:Header
    eb:Messaging                     what is asked, of whom, about which attachment
    wsse:Security
      saml2:EncryptedAssertion       as the token service gave it, with a wsu:Id
      wsse:BinarySecurityToken       the leaf certificate
      ds:Signature                   RSA over Messaging, assertion, Body and attachments
  soap:Body                          empty

No endorsing signature: the token's proof key is not used (SBR ebMS3 WIG). Each fragment is its own canonical form, so
the digests are over bytes at hand; an attachment's digest comes from whoever stored it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from pipeline.protocol.algorithms import Algorithm
from pipeline.protocol.credential import Credential
from pipeline.protocol.ebms3 import SignedReference, Unit
from pipeline.protocol.ebms3_messages import messaging
from pipeline.protocol.fragments import element, start_tag
from pipeline.protocol.namespaces import Ns
from pipeline.protocol.wsse import (
    AttachedPart,
    IdentityToken,
    Part,
    binary_security_token,
    certificate_signature,
)
from pipeline.protocol.xml import XmlError

_START = (
    f'<?xml version="1.0" encoding="UTF-8"?>\n{start_tag("soap:Envelope", {"soap": Ns.SOAP})}<soap:Header>'.encode()
)
_SECURITY_START = start_tag("wsse:Security", {"wsse": Ns.WSSE}, {"soap:mustUnderstand": "true"}).encode()
_SECURITY_END = b"</wsse:Security>"
_HEADER_END = b"</soap:Header>"
_END = b"</soap:Envelope>"


class Covered(StrEnum):
    """What a signature can be made over."""

    MESSAGING = "messaging"
    ASSERTION = "assertion"
    TOKEN = "token"  # noqa: S105  - the certificate's element, no secret
    BODY = "body"
    ATTACHMENTS = "attachments"


@dataclass(frozen=True, slots=True)
class SecurityLayout:
    """How a Security header is laid out. The defaults are what clients are known to send; no public text has it."""

    covered: tuple[Covered, ...] = (Covered.MESSAGING, Covered.ASSERTION, Covered.BODY, Covered.ATTACHMENTS)
    """In the order of the References."""
    token_first: bool = False
    """The certificate before the assertion. The signature is last in either case (BSP 1.1, R3066)."""
    must_understand: str = "true"
    """Of eb:Messaging."""


SBR2_LAYOUT = SecurityLayout()
AGENCY_LAYOUT = SecurityLayout(covered=(Covered.MESSAGING, Covered.BODY, Covered.ATTACHMENTS))
"""Of a pulled response: signed by the agency's key, no assertion in it."""


@dataclass(frozen=True, slots=True)
class SignedEnvelope:
    """A SOAP envelope, and the references of its signature: what a receipt for it must repeat."""

    soap: bytes = field(repr=False)
    references: tuple[SignedReference, ...]


def signed_envelope(
    unit: Unit,
    credential: Credential,
    assertion: IdentityToken | None,
    attachments: Sequence[AttachedPart],
    nonce: str,
    layout: SecurityLayout = SBR2_LAYOUT,
) -> SignedEnvelope:
    """`unit` in a secured envelope; `nonce` makes element ids unique. Push, pull and ping are all secured like this.

    Raises:
        XmlError: `token.assertion`: the layout has an assertion covered and there is none; `xml.character` in a value.
        Ebms3Error: as `messaging`.
    """
    header, messaging_part = messaging(unit, f"messaging-{nonce}", layout.must_understand)
    body, body_part = _empty_body(f"body-{nonce}")
    token, token_part = binary_security_token(credential.certificate_der)
    parts: dict[Covered, Sequence[Part | AttachedPart]] = {
        Covered.MESSAGING: (messaging_part,),
        Covered.TOKEN: (token_part,),
        Covered.BODY: (body_part,),
        Covered.ATTACHMENTS: attachments,
    }
    identity = b""
    if assertion is not None:
        identity = assertion.wire
        parts[Covered.ASSERTION] = (assertion.part,)
    elif Covered.ASSERTION in layout.covered:
        raise XmlError("token.assertion", "the signature must cover an assertion, and there is none")
    covered = [part for one in layout.covered for part in parts[one]]
    signature, _ = certificate_signature(credential.private_key, f"signature-{nonce}", token_part, covered)
    tokens = token + identity if layout.token_first else identity + token
    security = (_SECURITY_START, tokens, signature, _SECURITY_END)
    soap = b"".join((_START, header, *security, _HEADER_END, body, _END))
    return SignedEnvelope(soap, tuple(map(_as_reference, covered)))


def plain_envelope(unit: Unit, element_id: str) -> bytes:
    """`unit` without security, as receipts, errors and synchronous replies come (SBR ebMS3 WIG 1.7)."""
    header, _ = messaging(unit, element_id)
    return b"".join((_START, header, _HEADER_END, b"<soap:Body></soap:Body>", _END))


def _empty_body(element_id: str) -> tuple[bytes, Part]:
    body = element("soap:Body", declared={"soap": Ns.SOAP, "wsu": Ns.WSU}, attributes={"wsu:Id": element_id}).encode()
    return body, Part.of(element_id, body)


def _as_reference(part: Part | AttachedPart) -> SignedReference:
    if isinstance(part, Part):
        return SignedReference(f"#{part.id}", Algorithm.SHA256, part.digest, (Algorithm.EXCLUSIVE_C14N,))
    return SignedReference(part.url, Algorithm.SHA256, part.digest, (Algorithm.ATTACHMENT_CONTENT,))
