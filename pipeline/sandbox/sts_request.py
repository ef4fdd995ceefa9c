"""A token request as MAS-ST reads it: who signed it, and what they ask for (service definition, 3.3 and 4.1.2)."""

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

from pipeline.protocol.algorithms import Algorithm, TokenProfile
from pipeline.protocol.namespaces import Ns
from pipeline.sandbox.home import Home, KnownCredential, Standing
from pipeline.sandbox.judge import (
    ForgedError,
    Identified,
    Rule,
    check_envelope,
    check_signature,
    identified,
    only,
    text,
)
from pipeline.sandbox.soap import FaultError
from pipeline.sandbox.sts_faults import REQUEST_FAILED, Event, event_fault, invalid_request

ISSUE = Ns.WST.value + "/Issue"
SYMMETRIC_KEY = Ns.WST.value + "/SymmetricKey"
ABN_SCHEME = "uri://abr.gov.au/ABN"
DEFAULT_LIFETIME = timedelta(minutes=30)
LEAST_LIFETIME = timedelta(minutes=5)
MOST_LIFETIME = timedelta(hours=8)
CLOCK_TOLERANCE = timedelta(seconds=60)
_DATE_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,3})?Z")
"""UTC, at most three digits of a second (4.1.2.10)."""

_EVENTS = {Rule.ALGORITHM: Event.ALGORITHM, Rule.CERTIFICATE: Event.CORRUPT}


@dataclass(frozen=True, slots=True)
class Requester:
    """Who signed the request."""

    credential: KnownCredential
    certificate: x509.Certificate


@dataclass(frozen=True, slots=True)
class Claim:
    uri: str
    optional: bool


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """What is asked for. `key_size` in bits; `key_size_given` whether the request named it."""

    applies_to: str
    claims: tuple[Claim, ...]
    expires_at: datetime
    key_size: int
    key_size_given: bool
    second_party: str | None
    context: str | None


class Gatekeeper:
    """Checks the security header of a request."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._credentials = home.by_fingerprint()

    def admit(self, root: etree._Element, path: str, now: datetime) -> Requester:
        """The requester, once Timestamp and To are signed by a credential in good standing.

        Raises:
            FaultError: the reason in the table of 4.2.
        """
        try:
            return self._admit(root, path, now)
        except ForgedError as error:
            raise event_fault(_EVENTS.get(error.rule, Event.SECURITY), str(error)) from error

    def _admit(self, root: etree._Element, path: str, now: datetime) -> Requester:
        ids = identified(root)
        header = only(root, Ns.SOAP("Header"))
        only(root, Ns.SOAP("Body"))
        check_envelope(root)
        security = only(header, Ns.WSSE("Security"))
        stamp = only(security, Ns.WSU("Timestamp"))
        to = only(header, Ns.WSA("To"))
        token = only(security, Ns.WSSE("BinarySecurityToken"))
        signature = only(security, Ns.DS("Signature"))
        require_reference(signature, token, ids)
        certificate = read_certificate(token)
        credential = self._standing(certificate, now)
        key = xmlsec.Key.from_memory(certificate.public_bytes(Encoding.PEM), xmlsec.constants.KeyDataFormatCertPem)
        check_signature(signature, ids, (stamp, to), Algorithm.RSA_SHA256, key)
        _check_fresh(stamp, now)
        if urlsplit(text(to, "To")).path != path:
            raise ForgedError(Rule.COVERAGE, "wsa:To is another address than the one that was posted to")
        return Requester(credential, certificate)

    def _standing(self, certificate: x509.Certificate, now: datetime) -> KnownCredential:
        if not issued_by(certificate, self._home.authority):
            raise event_fault(Event.AUTHORITY)
        fingerprint = hashlib.sha256(certificate.public_bytes(Encoding.DER)).hexdigest()
        credential = self._credentials.get(fingerprint)
        if credential is None:
            raise event_fault(Event.NOT_RECOGNISED)
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
        return x509.load_der_x509_certificate(base64.b64decode(text(token, "BinarySecurityToken"), validate=True))
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
    if [child.tag for child in stamp] != [Ns.WSU("Created"), Ns.WSU("Expires")]:
        raise ForgedError(Rule.STRUCTURE, "a Timestamp holds Created and Expires, in this order")
    created, expires = (_moment(text(child, "Timestamp")) for child in stamp)
    if created > now + CLOCK_TOLERANCE:
        raise ForgedError(Rule.VALUE, "the Timestamp was created in the future: check the clock")
    if expires <= now or created <= now - timedelta(minutes=5) - CLOCK_TOLERANCE:
        raise ForgedError(Rule.VALUE, "the Timestamp is stale: check the clock")


def _moment(value: str) -> datetime:
    if not _DATE_TIME.fullmatch(value):
        raise ForgedError(Rule.STRUCTURE, "date and time must be UTC, with Z and at most three digits of a second")
    try:
        return datetime.fromisoformat(value)
    except ValueError as error:
        raise ForgedError(Rule.STRUCTURE, "there is no such date and time") from error


def read_request(root: etree._Element, requester: Requester, now: datetime) -> TokenRequest:
    """What the RST in the message's Body asks for.

    Raises:
        FaultError: the reason in the tables of 4.1.2 and 4.2.
    """
    body = root.findall(f"{Ns.SOAP('Body')}/*")
    if [child.tag for child in body] != [Ns.WST("RequestSecurityToken")]:
        raise invalid_request("The Body must hold one RequestSecurityToken.")
    rst = body[0]
    try:
        _require(rst, "RequestType", ISSUE, event_fault(Event.REQUEST_TYPE))
        if rst.find(Ns.WST("TokenType")) is not None:
            _require(rst, "TokenType", TokenProfile.SAML20, event_fault(Event.TOKEN_TYPE))
        if rst.find(Ns.WST("KeyType")) is not None:
            _require(rst, "KeyType", SYMMETRIC_KEY, FaultError((REQUEST_FAILED,), "The specified request failed"))
        key_size = rst.find(Ns.WST("KeySize"))
        return TokenRequest(
            applies_to=_applies_to(rst),
            claims=_claims(rst),
            expires_at=_expires(rst, now),
            key_size=_key_size(key_size),
            key_size_given=key_size is not None,
            second_party=_second_party(rst, requester.credential),
            context=rst.get("Context"),
        )
    except ForgedError as error:
        raise invalid_request(str(error)) from error


def _require(rst: etree._Element, name: str, wanted: str, otherwise: FaultError) -> None:
    found = rst.findall(Ns.WST(name))
    if len(found) != 1 or text(found[0], name) != wanted:
        raise otherwise


def _applies_to(rst: etree._Element) -> str:
    found = rst.findall(Ns.WSP("AppliesTo"))
    if len(found) != 1:
        raise event_fault(Event.NO_APPLIES_TO)
    addresses = found[0].findall(f"{Ns.WSA('EndpointReference')}/{Ns.WSA('Address')}")
    if len(addresses) != 1:
        raise event_fault(Event.RELYING_PARTY, "AppliesTo must hold one address.")
    return text(addresses[0], "Address")


def _claims(rst: etree._Element) -> tuple[Claim, ...]:
    """Empty when the request leaves them out: the service then says what it can."""
    found = rst.findall(Ns.WST("Claims"))
    if not found:
        return ()
    if len(found) > 1 or found[0].get("Dialect") != Ns.IDENTITY or not len(found[0]):
        raise invalid_request(f"Claims must have the Dialect {Ns.IDENTITY} and at least one ClaimType.")
    return tuple(_claim(child) for child in found[0])


def _claim(element: etree._Element) -> Claim:
    uri = element.get("Uri")
    if element.tag != Ns.IDENTITY("ClaimType") or not uri:
        raise invalid_request("Claims holds ClaimType elements, each with its Uri.")
    return Claim(uri, element.get("Optional", "false") in ("true", "1"))


def _expires(rst: etree._Element, now: datetime) -> datetime:
    """Created is ignored: the service's own clock decides (4.1.2.10)."""
    lifetime = rst.find(Ns.WST("Lifetime"))
    if lifetime is None:
        return now + DEFAULT_LIFETIME
    expires = _moment(text(lifetime.find(Ns.WSU("Expires")), "Lifetime/Expires"))
    if not now + LEAST_LIFETIME <= expires <= now + MOST_LIFETIME:
        raise invalid_request("Lifetime/Expires must lie between five minutes and eight hours ahead.")
    return expires


def _key_size(element: etree._Element | None) -> int:
    if element is None:
        return 256
    value = text(element, "KeySize")
    if value not in ("128", "192", "256", "512"):
        raise invalid_request("KeySize must be an integer: 128, 192, 256 or 512 bits.")
    return int(value)


def _second_party(rst: etree._Element, credential: KnownCredential) -> str | None:
    """The business to act as (3.3.1). The first party must be the one whose credential signed."""
    acts_as = rst.findall(Ns.WST14("ActAs"))
    if not acts_as:
        return None
    v13 = Ns.VANGUARD_RELATIONSHIP
    relationship = acts_as[0].find(f"{v13('RelationshipToken')}/{v13('Relationship')}")
    parties = [acts_as[0].find(f"{v13('RelationshipToken')}/{v13(name)}") for name in ("FirstParty", "SecondParty")]
    first, second = (_abn(party) for party in parties)
    if len(acts_as) > 1 or relationship is None or relationship.get(v13("Type")) != "OSPfor":
        raise invalid_request("ActAs must hold one RelationshipToken with one Relationship of Type OSPfor.")
    attribute = relationship.find(v13("Attribute"))
    if attribute is None or attribute.get(v13("Name")) != "SSID" or not attribute.get(v13("Value")):
        raise invalid_request("The Relationship must have an Attribute SSID with its value.")
    if first != credential.abn:
        raise invalid_request("FirstParty must be the ABN of the machine credential that signed the request.")
    return second


def _abn(party: etree._Element | None) -> str:
    v13 = Ns.VANGUARD_RELATIONSHIP
    value = None if party is None or party.get(v13("Scheme")) != ABN_SCHEME else party.get(v13("Value"))
    if value is None:
        raise invalid_request(f"FirstParty and SecondParty need the Scheme {ABN_SCHEME} and a Value.")
    return value
