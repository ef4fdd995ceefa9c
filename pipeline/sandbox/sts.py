"""The sandbox's MAS-ST: one signed request in, one security token or one fault out."""

import base64
import secrets
import uuid
from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import StrEnum

from lxml import etree

from pipeline.protocol.algorithms import TokenProfile
from pipeline.protocol.namespaces import Ns
from pipeline.protocol.xml import XmlError, parse
from pipeline.sandbox.assertion import Grant, Issuer
from pipeline.sandbox.claims import KNOWN, MANDATORY, values_for
from pipeline.sandbox.home import APPLIES_TO, SBR2_APPLIES_TO, Home
from pipeline.sandbox.judge import ForgedError, text
from pipeline.sandbox.soap import FaultError, Reply, envelope, fault, node, timestamp
from pipeline.sandbox.sts_faults import Event, event_fault, invalid_request
from pipeline.sandbox.sts_request import Claim, Gatekeeper, Requester, TokenRequest, read_request

STS_PATH = "/R3.0/S007v1.3/service.svc"
REQUEST_LIMIT = 100 * 1024
"""Bytes (service definition, 4.1.1)."""

_RSTR_FINAL = Ns.WST.value + "/RSTRC/IssueFinal"
_ANONYMOUS = Ns.WSA.value + "/anonymous"
_REPLAY_WINDOW = timedelta(minutes=10)
"""Longer than any Timestamp is believed, so nothing older can be replayed."""


class Variant(StrEnum):
    """How the response is arranged; clients must read all of them."""

    RECORDED = "recorded"
    """As captured: children are siblings, no KeyType, no KeySize."""
    SPECIFIED = "specified"
    """As the service definition's tables have it: references and proof token inside RequestedSecurityToken."""


class TokenService:
    """Issues tokens. `secret_bytes` overrides the size of the proof key, which clients must not assume."""

    def __init__(self, home: Home, variant: Variant = Variant.RECORDED, secret_bytes: int | None = None) -> None:
        self._issuers = {
            APPLIES_TO: Issuer(home.sts, home.relying_party.certificate),
            SBR2_APPLIES_TO: Issuer(home.sts, home.sbr2_relying_party.certificate),
        }
        self._gatekeeper = Gatekeeper(home)
        self._variant = variant
        self._secret_bytes = secret_bytes
        self._seen: dict[str, datetime] = {}

    def answer(self, body: bytes, path: str, now: datetime) -> Reply:
        """The reply to a POST. Never raises for what a client could send."""
        message_id = None
        try:
            root = _parse(body)
            requester = self._gatekeeper.admit(root, path, now)
            message_id = self._first_time(root, now)
            request = read_request(root, requester, now)
            issued = self._issue(request, requester, now)
            return Reply(200, envelope(issued, _header(_RSTR_FINAL, message_id, now)))
        except FaultError as error:
            return fault(error, _header(Ns.WSA.value + "/soap/fault", message_id, now))

    def _first_time(self, root: etree._Element, now: datetime) -> str:
        """The MessageID, which may be used once: a retry signs anew under a new one."""
        try:
            message_id = text(root.find(f"{Ns.SOAP('Header')}/{Ns.WSA('MessageID')}"), "MessageID")
        except ForgedError as error:
            raise invalid_request(str(error)) from error
        self._seen = {seen: at for seen, at in self._seen.items() if at > now - _REPLAY_WINDOW}
        if message_id in self._seen:
            raise event_fault(Event.SECURITY, "This MessageID was used before.")
        self._seen[message_id] = now
        return message_id

    def _issue(self, request: TokenRequest, requester: Requester, now: datetime) -> etree._Element:
        audience = self._relying_party(request.applies_to)
        grant = Grant(
            audience=audience,
            claims=_granted(request.claims, requester, request.second_party),
            created_at=now,
            expires_at=request.expires_at,
            proof_key=secrets.token_bytes(self._secret_bytes or request.key_size // 8),
        )
        assertion_id, encrypted = self._issuers[audience].issue(grant)
        parts = _parts(request, grant, assertion_id, encrypted)
        order = _RECORDED if self._variant is Variant.RECORDED else _SPECIFIED
        response = node(Ns.WST("RequestSecurityTokenResponse"), *(parts[name] for name in order))
        if self._variant is Variant.SPECIFIED:
            for name in ("RequestedAttachedReference", "RequestedProofToken", "RequestedUnattachedReference"):
                parts["RequestedSecurityToken"].append(parts[name])
        if request.context is not None:
            response.set("Context", request.context[:512])
        return node(Ns.WST("RequestSecurityTokenResponseCollection"), response, prefixes={"trust": Ns.WST.value})

    def _relying_party(self, applies_to: str) -> str:
        """The one that is asked for by its own address or one below it."""
        for known in self._issuers:
            if applies_to == known or applies_to.startswith(f"{known}/"):
                return known
        raise event_fault(Event.RELYING_PARTY)


_RECORDED = (
    "TokenType",
    "RequestedSecurityToken",
    "RequestedAttachedReference",
    "RequestedUnattachedReference",
    "AppliesTo",
    "RequestedProofToken",
    "Lifetime",
)
_SPECIFIED = ("KeySize", "Lifetime", "AppliesTo", "RequestedSecurityToken", "TokenType", "RequestType", "KeyType")


def _parse(body: bytes) -> etree._Element:
    try:
        root = parse(body, REQUEST_LIMIT)
    except XmlError as error:
        raise invalid_request(f"{error}.") from error
    if root.tag != Ns.SOAP("Envelope"):
        raise invalid_request("The message must be a SOAP 1.2 Envelope.")
    return root


def _granted(claims: tuple[Claim, ...], requester: Requester, second_party: str | None) -> Mapping[str, str]:
    """An optional claim is left out where there is no value; a mandatory one then fails the request (4.1.2.8)."""
    values = values_for(requester.credential, requester.certificate, second_party)
    for claim in claims:
        if not claim.optional and claim.uri not in KNOWN:
            raise event_fault(Event.CLAIM_UNKNOWN, claim.uri[:200])
        if not claim.optional and claim.uri not in values:
            raise event_fault(Event.CLAIM_UNAVAILABLE, claim.uri)
    wanted = [claim.uri for claim in claims] or list(MANDATORY)
    return {uri: values[uri] for uri in wanted if uri in values}


def _parts(
    request: TokenRequest, grant: Grant, assertion_id: str, encrypted: etree._Element
) -> dict[str, etree._Element]:
    secret = base64.b64encode(grant.proof_key).decode()
    address = node(Ns.WSA("EndpointReference"), node(Ns.WSA("Address"), request.applies_to))
    return {
        "TokenType": node(Ns.WST("TokenType"), TokenProfile.SAML20.value),
        "RequestType": node(Ns.WST("RequestType"), Ns.WST.value + "/Issue"),
        "KeyType": node(Ns.WST("KeyType"), Ns.WST.value + "/SymmetricKey"),
        "KeySize": node(Ns.WST("KeySize"), str(len(grant.proof_key) * 8)),
        "RequestedSecurityToken": node(Ns.WST("RequestedSecurityToken"), encrypted),
        "RequestedAttachedReference": _reference("RequestedAttachedReference", assertion_id),
        "RequestedUnattachedReference": _reference("RequestedUnattachedReference", assertion_id),
        "AppliesTo": node(Ns.WSP("AppliesTo"), address, prefixes={"wsp": Ns.WSP.value}),
        # Its Type says Nonce, and it is the key itself: nobody sent entropy to mix it with.
        "RequestedProofToken": node(
            Ns.WST("RequestedProofToken"),
            node(Ns.WST("BinarySecret"), secret, attributes={"Type": Ns.WST.value + "/Nonce"}),
        ),
        "Lifetime": node(
            Ns.WST("Lifetime"),
            node(Ns.WSU("Created"), timestamp(grant.created_at)),
            node(Ns.WSU("Expires"), timestamp(grant.expires_at)),
        ),
    }


def _reference(name: str, assertion_id: str) -> etree._Element:
    identifier = node(Ns.WSSE("KeyIdentifier"), assertion_id, attributes={"ValueType": TokenProfile.SAML_ID.value})
    reference = node(
        Ns.WSSE("SecurityTokenReference"),
        identifier,
        attributes={Ns.WSSE11("TokenType"): TokenProfile.SAML20.value},
        prefixes={"wsse11": Ns.WSSE11.value},
    )
    return node(Ns.WST(name), reference)


def _header(action: str, relates_to: str | None, now: datetime) -> list[etree._Element]:
    """As recorded: a Timestamp and no signature. TLS is the protection."""
    stamp = node(
        Ns.WSU("Timestamp"),
        node(Ns.WSU("Created"), timestamp(now)),
        node(Ns.WSU("Expires"), timestamp(now + timedelta(minutes=5))),
        attributes={Ns.WSU("Id"): f"TS-{uuid.uuid4().hex.upper()}"},
    )
    header = [
        node(Ns.WSA("Action"), action),
        node(Ns.WSA("MessageID"), f"urn:uuid:{uuid.uuid4()}"),
        node(Ns.WSA("To"), _ANONYMOUS),
    ]
    if relates_to is not None:
        header.append(node(Ns.WSA("RelatesTo"), relates_to))
    security = node(Ns.WSSE("Security"), stamp, attributes={Ns.SOAP("mustUnderstand"): "1"})
    return [*header, security]
