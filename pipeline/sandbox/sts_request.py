"""A token request as MAS-ST reads it: what is asked for (service definition, 3.3 and 4.1.2)."""

import base64
import binascii
import re
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from lxml import etree

from pipeline.protocol.algorithms import TokenProfile
from pipeline.protocol.namespaces import Ns
from pipeline.protocol.psha1 import COMPUTED_KEY_ALGORITHM
from pipeline.sandbox.home import KnownCredential
from pipeline.sandbox.judge import ForgedError, text
from pipeline.sandbox.soap import FaultError
from pipeline.sandbox.sts_faults import REQUEST_FAILED, event_fault, invalid_request
from pipeline.sandbox.sts_gate import Requester, moment
from pipeline.sandbox.sts_script import Event

ISSUE = Ns.WST.value + "/Issue"
SYMMETRIC_KEY = Ns.WST.value + "/SymmetricKey"
ABN_SCHEME = "uri://abr.gov.au/ABN"
DEFAULT_LIFETIME = timedelta(minutes=30)
LEAST_LIFETIME = timedelta(minutes=5)
MOST_LIFETIME = timedelta(hours=8)
LONGEST_WISH = timedelta(hours=24, minutes=5)
"""A PHP client that works asks for a day. What it is answered is not on record: here it gets the most there is."""
CONTEXT_LIMIT = 512
_ABN = re.compile(r"[0-9]{11}")
_SSID = re.compile(r"[0-9]{10}")
_KEY_BITS = range(128, 1025, 8)


@dataclass(frozen=True, slots=True)
class Claim:
    uri: str
    optional: bool


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """What is asked for. `key_size` in bits; `entropy` is what the client contributes to the key."""

    token_type: TokenProfile
    applies_to: str
    claims: tuple[Claim, ...]
    expires_at: datetime
    key_size: int
    second_party: str | None
    context: str | None
    entropy: bytes | None = field(repr=False)


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
        if _stated(rst, Ns.WST("KeyType")):
            _require(rst, "KeyType", SYMMETRIC_KEY, FaultError((REQUEST_FAILED,), "The specified request failed"))
        return TokenRequest(
            token_type=_token_type(rst),
            applies_to=_applies_to(rst),
            claims=_claims(rst),
            expires_at=_expires(rst, now),
            key_size=_key_size(_stated(rst, Ns.WST("KeySize"))),
            second_party=_second_party(rst, requester.credential),
            context=_context(rst),
            entropy=_entropy(rst),
        )
    except ForgedError as error:
        raise invalid_request(str(error)) from error


def _stated(rst: etree._Element, name: str) -> list[etree._Element]:
    """What the request says under `name`, else what it passes on from the relying party's policy (WS-Trust, 4.1)."""
    return rst.findall(name) or rst.findall(f"{Ns.WST('SecondaryParameters')}/{name}")


def _require(rst: etree._Element, name: str, wanted: str, otherwise: FaultError) -> None:
    found = _stated(rst, Ns.WST(name))
    if len(found) != 1 or text(found[0], name) != wanted:
        raise otherwise


def _token_type(rst: etree._Element) -> TokenProfile:
    found = _stated(rst, Ns.WST("TokenType"))
    if not found:
        return TokenProfile.SAML20
    if len(found) > 1 or text(found[0], "TokenType") not in (TokenProfile.SAML11, TokenProfile.SAML20):
        raise event_fault(Event.TOKEN_TYPE)
    return TokenProfile(text(found[0], "TokenType"))


def _context(rst: etree._Element) -> str | None:
    context = rst.get("Context")
    if context is not None and len(context) > CONTEXT_LIMIT:
        raise invalid_request(f"Context has more than {CONTEXT_LIMIT} characters.")
    return context


def _entropy(rst: etree._Element) -> bytes | None:
    """What the client contributes to the key. Without it a ComputedKeyAlgorithm says nothing."""
    algorithm = rst.findall(Ns.WST("ComputedKeyAlgorithm"))
    if len(algorithm) > 1 or (algorithm and text(algorithm[0], "ComputedKeyAlgorithm") != COMPUTED_KEY_ALGORITHM):
        raise invalid_request(f"ComputedKeyAlgorithm must be {COMPUTED_KEY_ALGORITHM}.")
    found = rst.findall(Ns.WST("Entropy"))
    if not found:
        return None
    secrets = found[0].findall(Ns.WST("BinarySecret"))
    if len(found) > 1 or len(secrets) != 1:
        raise invalid_request("Entropy must hold one BinarySecret.")
    try:
        entropy = base64.b64decode("".join(text(secrets[0], "BinarySecret").split()), validate=True)
    except (ValueError, binascii.Error) as error:
        raise invalid_request("The entropy is not base64.") from error
    if not 16 <= len(entropy) <= 128:
        raise invalid_request("The entropy must have 16 to 128 bytes.")
    return entropy


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
    found = _stated(rst, Ns.WST("Claims"))
    if not found:
        return ()
    asked = list(found[0].iterchildren("*"))
    if len(found) > 1 or found[0].get("Dialect") != Ns.IDENTITY or not asked:
        raise invalid_request(f"Claims must have the Dialect {Ns.IDENTITY} and at least one ClaimType.")
    return tuple(_claim(child) for child in asked)


def _claim(element: etree._Element) -> Claim:
    uri = element.get("Uri", "").strip()
    if element.tag != Ns.IDENTITY("ClaimType") or not uri:
        raise invalid_request("Claims holds ClaimType elements, each with its Uri.")
    return Claim(uri, element.get("Optional", "false") in ("true", "1"))


def _expires(rst: etree._Element, now: datetime) -> datetime:
    """Created is ignored: the service's own clock decides (4.1.2.10)."""
    lifetime = rst.find(Ns.WST("Lifetime"))
    if lifetime is None:
        return now + DEFAULT_LIFETIME
    expires = moment(text(lifetime.find(Ns.WSU("Expires")), "Lifetime/Expires"))
    if not now + LEAST_LIFETIME <= expires <= now + LONGEST_WISH:
        raise invalid_request("Lifetime/Expires must lie between five minutes and eight hours ahead.")
    return min(expires, now + MOST_LIFETIME)


def _key_size(found: list[etree._Element]) -> int:
    if not found:
        return 256
    value = text(found[0], "KeySize")
    if len(found) > 1 or not (value.isascii() and value.isdigit()) or int(value[:5]) not in _KEY_BITS:
        raise invalid_request("KeySize must be an integer, of whole bytes between 128 and 1024 bits.")
    return int(value)


def _second_party(rst: etree._Element, credential: KnownCredential) -> str | None:
    """The business to act as (3.3.1). The first party must be the one whose credential signed."""
    acts_as = rst.findall(Ns.WST14("ActAs"))
    if rst.find(Ns.WST("ActAs")) is not None:
        # The service definition prints it so; the real service's answer is not on record, and to ignore it would give a
        # token for the wrong business.
        raise invalid_request(f"ActAs belongs to the namespace {Ns.WST14.value}.")
    if not acts_as:
        return None
    v13 = Ns.VANGUARD_RELATIONSHIP
    token = acts_as[0].find(v13("RelationshipToken"))
    relationship = None if token is None else token.find(v13("Relationship"))
    if token is None or not any(token.get(name) for name in (v13("ID"), "ID", Ns.WSU("Id"))):
        raise invalid_request("ActAs must hold a RelationshipToken with an ID.")
    parties = [acts_as[0].find(f"{v13('RelationshipToken')}/{v13(name)}") for name in ("FirstParty", "SecondParty")]
    first, second = (_abn(party) for party in parties)
    if len(acts_as) > 1 or relationship is None or relationship.get(v13("Type")) != "OSPfor":
        raise invalid_request("ActAs must hold one RelationshipToken with one Relationship of Type OSPfor.")
    attribute = relationship.find(v13("Attribute"))
    if (
        attribute is None
        or attribute.get(v13("Name")) != "SSID"
        or not _SSID.fullmatch(attribute.get(v13("Value"), ""))
    ):
        raise invalid_request("The Relationship must have an Attribute SSID with a value of ten digits.")
    if first != credential.abn:
        raise invalid_request("FirstParty must be the ABN of the machine credential that signed the request.")
    return second


def _abn(party: etree._Element | None) -> str:
    v13 = Ns.VANGUARD_RELATIONSHIP
    value = None if party is None or party.get(v13("Scheme")) != ABN_SCHEME else party.get(v13("Value"))
    if value is None or not _ABN.fullmatch(value):
        raise invalid_request(f"FirstParty and SecondParty need the Scheme {ABN_SCHEME} and an ABN as Value.")
    return value
