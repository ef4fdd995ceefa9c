"""Whose signature the agencies' gateways believe, and whether a token speaks for its signer (WIG 5.4)."""

import hashlib
from dataclasses import dataclass
from datetime import datetime

import xmlsec
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from pipeline.sandbox.claims import CLAIM, MANDATORY, fingerprint
from pipeline.sandbox.home import Home, Standing
from pipeline.sandbox.judge import ForgedError, Rule
from pipeline.sandbox.relying_party import OpenToken, UnacceptableError
from pipeline.sandbox.sts_gate import issued_by


@dataclass(frozen=True, slots=True)
class Signer:
    """A certificate that the credential authority issued to a known business."""

    fingerprint: str
    abn: str
    key: xmlsec.Key
    not_after: datetime


class Signers:
    """Those on the gateways' list, by certificate."""

    def __init__(self, home: Home) -> None:
        self._authority = home.authority
        self._known = home.by_fingerprint()
        self._trusted: dict[bytes, Signer] = {}

    def signer(self, certificate: x509.Certificate, now: datetime) -> Signer:
        """Whoever this certificate stands for.

        Raises:
            ForgedError: it is of another authority, unknown, revoked or expired.
        """
        der = certificate.public_bytes(Encoding.DER)
        if der not in self._trusted:
            self._trusted[der] = self._judged(certificate, der)
        signer = self._trusted[der]
        if now > signer.not_after:
            raise ForgedError(Rule.VALUE, "the business certificate has expired")
        return signer

    def _judged(self, certificate: x509.Certificate, der: bytes) -> Signer:
        known = self._known.get(hashlib.sha256(der).hexdigest())
        if not issued_by(certificate, self._authority):
            raise ForgedError(Rule.VALUE, "the business certificate is not of the known authority")
        if known is None or known.standing is Standing.REVOKED:
            raise ForgedError(Rule.VALUE, "the business certificate is unknown or revoked")
        key = xmlsec.Key.from_memory(der, xmlsec.constants.KeyDataFormatCertDer)
        return Signer(fingerprint(der), known.abn, key, certificate.not_valid_after_utc)


def check_token(token: OpenToken, signer: Signer, audience: str, now: datetime) -> None:
    """Believe what the token says of `signer`.

    Raises:
        UnacceptableError: it is not valid now, for another relying party, incomplete, or of another certificate.
    """
    if not token.not_before <= now < token.not_on_or_after:
        raise UnacceptableError("the token has expired, or is not valid yet")
    if token.audience != audience:
        raise UnacceptableError("the token is for another relying party")
    missing = [claim for claim in MANDATORY if claim not in token.claims]
    if missing:
        raise UnacceptableError(f"the token lacks mandatory claims: {', '.join(missing)}")
    if token.claims[f"{CLAIM}fingerprint"] != signer.fingerprint:
        raise UnacceptableError("the token was issued to another certificate than the one that signed the document")
