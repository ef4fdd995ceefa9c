"""Who is let in at the sandbox's token service: whoever signed Timestamp and To with a credential in good standing."""

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from urllib.parse import urlsplit

import xmlsec
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding
from lxml import etree

from pipeline.protocol.algorithms import TokenProfile
from pipeline.protocol.certificates import read_der
from pipeline.protocol.namespaces import Ns
from pipeline.protocol.suites import V1_2_LEGACY, V1_3, Suite
from pipeline.sandbox.home import Home, KnownCredential, Standing
from pipeline.sandbox.judge import (
    ForgedError,
    Identified,
    Method,
    Rule,
    check_envelope,
    check_signature,
    identified,
    only,
    text,
)
from pipeline.sandbox.sts_faults import event_fault
from pipeline.sandbox.sts_script import Event

CLOCK_TOLERANCE = timedelta(seconds=60)
_DATE_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d{1,3})?\d*(?:Z|\+00:00)", re.ASCII)
"""UTC with a zero offset. The service definition allows three digits of a second (4.1.2.10); .NET clients that work
write seven in Lifetime, of which the rest is cut off."""
_METHODS = {
    suite.name: Method(suite.signature_method, suite.digest_method, prefix_lists=True) for suite in (V1_3, V1_2_LEGACY)
}
_EVENTS = {Rule.ALGORITHM: Event.ALGORITHM, Rule.CERTIFICATE: Event.CORRUPT}


@dataclass(frozen=True, slots=True)
class Requester:
    """Who signed the request."""

    credential: KnownCredential
    certificate: x509.Certificate


class Gatekeeper:
    """Checks the security header of a request."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._credentials = home.by_fingerprint()
        self._keys: dict[str, xmlsec.Key] = {}

    def admit(self, root: etree._Element, path: str, now: datetime, suite: Suite = V1_3) -> Requester:
        """The requester, once Timestamp and To are signed by a credential in good standing, by `suite` and no other.

        More may be signed: the service definition wants the request itself to be (4.1.2.1), which no client does.

        Raises:
            FaultError: the reason in the table of 4.2.
        """
        try:
            return self._admit(root, path, now, suite)
        except ForgedError as error:
            raise event_fault(_EVENTS.get(error.rule, Event.SECURITY), str(error)) from error

    def _admit(self, root: etree._Element, path: str, now: datetime, suite: Suite) -> Requester:
        ids = identified(root)
        header = only(root, Ns.SOAP("Header"))
        body = only(root, Ns.SOAP("Body"))
        check_envelope(root)
        security = only(header, Ns.WSSE("Security"))
        stamp = only(security, Ns.WSU("Timestamp"))
        to = only(header, Ns.WSA("To"))
        token = only(security, Ns.WSSE("BinarySecurityToken"))
        signature = only(security, Ns.DS("Signature"))
        require_reference(signature, token, ids)
        certificate = read_certificate(token)
        credential = self._standing(certificate, now)
        key = self._key(credential, certificate)
        also = (body, token, *(one for one in header if one is not security and one is not to))
        check_signature(signature, ids, (stamp, to), _METHODS[suite.name], key, also)
        _check_fresh(stamp, now)
        if _path_of(text(to, "To")).casefold() != path.casefold():
            raise ForgedError(Rule.COVERAGE, "wsa:To is another address than the one that was posted to")
        return Requester(credential, certificate)

    def _key(self, credential: KnownCredential, certificate: x509.Certificate) -> xmlsec.Key:
        """Read once for each credential: reading it costs as much as verifying with it."""
        if credential.fingerprint not in self._keys:
            pem = certificate.public_bytes(Encoding.PEM)
            self._keys[credential.fingerprint] = xmlsec.Key.from_memory(pem, xmlsec.constants.KeyDataFormatCertPem)
        return self._keys[credential.fingerprint]

    def _standing(self, certificate: x509.Certificate, now: datetime) -> KnownCredential:
        fingerprint = hashlib.sha256(certificate.public_bytes(Encoding.DER)).hexdigest()
        credential = self._credentials.get(fingerprint)
        if credential is None:
            known = issued_by(certificate, self._home.authority)
            raise event_fault(Event.NOT_RECOGNISED if known else Event.AUTHORITY)
        if credential.standing is Standing.REVOKED:
            raise event_fault(Event.REVOKED)
        if now > certificate.not_valid_after_utc:
            raise event_fault(Event.EXPIRED)
        if now < certificate.not_valid_before_utc:
            raise event_fault(Event.NOT_YET_VALID)
        return credential


def issued_by(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    """Whether the authority's key signed this certificate."""
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def read_certificate(token: etree._Element) -> x509.Certificate:
    """The certificate of a BinarySecurityToken: one, in DER (X.509 token profile, 3.1).

    Raises:
        ForgedError: not declared as an X.509 certificate in base64, or it cannot be read.
    """
    if (token.get("ValueType"), token.get("EncodingType")) != (TokenProfile.X509V3, TokenProfile.BASE64):
        raise ForgedError(Rule.STRUCTURE, "BinarySecurityToken must declare ValueType X509v3 and Base64Binary")
    try:
        content = "".join(text(token, "BinarySecurityToken").split())
        return read_der(base64.b64decode(content, validate=True))
    except (ValueError, binascii.Error) as error:
        raise ForgedError(Rule.CERTIFICATE, "the certificate cannot be read") from error


def require_reference(signature: etree._Element, token: etree._Element, ids: dict[str, Identified]) -> None:
    """KeyInfo must hold one SecurityTokenReference that leads to `token`: no key comes from anywhere else.

    Raises:
        ForgedError: it holds something else.
    """
    references = signature.findall(f"{Ns.DS('KeyInfo')}/{Ns.WSSE('SecurityTokenReference')}/{Ns.WSSE('Reference')}")
    key_info = signature.findall(f"{Ns.DS('KeyInfo')}//*")
    if len(references) != 1 or len(key_info) != 2:
        raise ForgedError(Rule.STRUCTURE, "KeyInfo must hold one SecurityTokenReference with one Reference")
    target = ids.get(references[0].get("URI", "").removeprefix("#"))
    if target is None or target.element is not token:
        raise ForgedError(Rule.STRUCTURE, "KeyInfo must lead to the BinarySecurityToken")


def _check_fresh(stamp: etree._Element, now: datetime) -> None:
    times = list(stamp)
    if [child.tag for child in times] != [Ns.WSU("Created"), Ns.WSU("Expires")]:
        raise ForgedError(Rule.STRUCTURE, "a Timestamp holds Created and Expires, in this order")
    created, expires = (moment(text(child, "Timestamp")) for child in times)
    if created > now + CLOCK_TOLERANCE:
        raise ForgedError(Rule.VALUE, "the Timestamp was created in the future: check the clock")
    if expires <= now or created <= now - timedelta(minutes=5) - CLOCK_TOLERANCE:
        raise ForgedError(Rule.VALUE, "the Timestamp is stale: check the clock")


def moment(value: str) -> datetime:
    found = _DATE_TIME.fullmatch(value)
    if found is None:
        raise ForgedError(Rule.STRUCTURE, "date and time must be UTC, with Z")
    try:
        return datetime.fromisoformat(f"{found[1]}{found[2] or ''}+00:00")
    except ValueError as error:
        raise ForgedError(Rule.STRUCTURE, "there is no such date and time") from error


def _path_of(url: str) -> str:
    try:
        return urlsplit(url).path
    except ValueError as error:
        raise ForgedError(Rule.COVERAGE, "wsa:To is no URL") from error
