"""The sandbox's MAS-ST: one signed request in, one security token or one fault out."""

import base64
import secrets
import uuid
from collections import OrderedDict
from collections.abc import Mapping
from datetime import datetime, timedelta

from lxml import etree

from pipeline.protocol.algorithms import TokenProfile
from pipeline.protocol.namespaces import Ns
from pipeline.protocol.psha1 import COMPUTED_KEY_ALGORITHM, p_sha1
from pipeline.protocol.suites import V1_2_LEGACY, V1_3
from pipeline.protocol.xml import XmlError, parse
from pipeline.sandbox.assertion import Grant, Issuer
from pipeline.sandbox.claims import KNOWN, MANDATORY, values_for
from pipeline.sandbox.home import APPLIES_TO, SBR2_APPLIES_TO, Home
from pipeline.sandbox.judge import ForgedError, text
from pipeline.sandbox.soap import FaultError, Reply, envelope, fault, node, timestamp
from pipeline.sandbox.sts_faults import event_fault, invalid_request
from pipeline.sandbox.sts_gate import Gatekeeper, Requester
from pipeline.sandbox.sts_request import Claim, TokenRequest, read_request
from pipeline.sandbox.sts_script import Event, FaultShape, Variant
from pipeline.sandbox.sts_variants import response_of, rewritten

STS_PATH = "/R3.0/S007v1.3/service.svc"
LEGACY_STS_PATH = "/R3.0/S007v1.2/service.svc"
"""The only door at which SHA-1 is taken, and nothing else is."""
REQUEST_LIMIT = 100 * 1024
"""Bytes (service definition, 4.1.1)."""
RELYING_PARTIES: Mapping[str, str] = {
    APPLIES_TO: APPLIES_TO,
    SBR2_APPLIES_TO: SBR2_APPLIES_TO,
    "https://m2m.uat.asic.gov.au": APPLIES_TO,
    "https://test.sbr.gov.au/services": SBR2_APPLIES_TO,
    "https://3pt.portal.usi.gov.au/service": APPLIES_TO,
}
"""Whom tokens are given for, by the beginning of their address, and which of the sandbox's gateways reads them: clients
of the real service name its test systems, and must be able to go on to the gateway that stands in for one."""

_RSTR_FINAL = Ns.WST.value + "/RSTRC/IssueFinal"
_ANONYMOUS = Ns.WSA.value + "/anonymous"
_REPLAY_WINDOW = timedelta(minutes=10)
"""Longer than any Timestamp is believed, so nothing older can be replayed."""


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
        self._seen: OrderedDict[str, datetime] = OrderedDict()

    def answer(self, body: bytes, path: str, now: datetime, variant: Variant | None = None) -> Reply:
        """The reply to a POST, arranged as usual or as `variant`. Never raises for what a client could send."""
        message_id = None
        chosen = variant or self._variant
        suite = V1_2_LEGACY if path.casefold() == LEGACY_STS_PATH.casefold() else V1_3
        try:
            root = _parse(body)
            requester = self._gatekeeper.admit(root, path, now, suite)
            message_id = self._first_time(root, now)
            request = read_request(root, requester, now)
            issued = self._issue(request, requester, now, chosen)
            return Reply(200, rewritten(envelope(issued, _header(_RSTR_FINAL, message_id, now)), chosen))
        except FaultError as error:
            return fault(error, _header(_FAULT, message_id, now))

    def _first_time(self, root: etree._Element, now: datetime) -> str:
        """The MessageID, which may be used once: a retry signs anew under a new one."""
        try:
            message_id = text(root.find(f"{Ns.SOAP('Header')}/{Ns.WSA('MessageID')}"), "MessageID")
        except ForgedError as error:
            raise invalid_request(str(error)) from error
        while self._seen and next(iter(self._seen.values())) <= now - _REPLAY_WINDOW:
            self._seen.popitem(last=False)
        if message_id in self._seen:
            raise event_fault(Event.SECURITY, "This MessageID was used before.")
        self._seen[message_id] = now
        return message_id

    def _issue(self, request: TokenRequest, requester: Requester, now: datetime, variant: Variant) -> etree._Element:
        size = self._secret_bytes or request.key_size // 8
        nonce = secrets.token_bytes(size)
        audience = _audience(request.applies_to)
        grant = Grant(
            audience=audience,
            claims=_granted(request.claims, requester, request.second_party),
            created_at=now,
            expires_at=request.expires_at,
            proof_key=nonce if request.entropy is None else p_sha1(request.entropy, nonce, size),
        )
        assertion_id, encrypted = self._issuers[audience].issue(grant, saml11=request.token_type is TokenProfile.SAML11)
        parts = _parts(request, grant, assertion_id, encrypted, nonce)
        response = response_of(parts, variant)
        if request.context is not None:
            response.set("Context", request.context)
        return node(Ns.WST("RequestSecurityTokenResponseCollection"), response, prefixes={"trust": Ns.WST.value})


def scripted_fault(
    event: Event, shape: FaultShape, status: int, now: datetime, available_after: datetime | None
) -> Reply:
    """A fault that a script asks for, in place of whatever was due; `status` is that of pages in place of a fault."""
    if shape is FaultShape.HTML:
        return Reply(status, f"<html><body><h1>{status}</h1>SYNTHETIC maintenance</body></html>".encode(), "text/html")
    if shape is FaultShape.EMPTY:
        return Reply(status, b"", "text/plain")
    return fault(event_fault(event, "", shape, available_after), _header(_FAULT, None, now))


_FAULT = Ns.WSA.value + "/soap/fault"


def _audience(applies_to: str) -> str:
    """The gateway's own address. What follows a relying party's in the request is a service of it (4.1.2.4)."""
    wanted = applies_to.casefold()
    for known, gateway in RELYING_PARTIES.items():
        if wanted == known or wanted.startswith(f"{known}/"):
            return gateway
    raise event_fault(Event.RELYING_PARTY)


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
    request: TokenRequest, grant: Grant, assertion_id: str, encrypted: etree._Element, nonce: bytes
) -> dict[str, etree._Element]:
    address = node(Ns.WSA("EndpointReference"), node(Ns.WSA("Address"), request.applies_to))
    token_type = request.token_type.value
    parts = {
        "TokenType": node(Ns.WST("TokenType"), token_type),
        "RequestType": node(Ns.WST("RequestType"), Ns.WST.value + "/Issue"),
        "KeyType": node(Ns.WST("KeyType"), Ns.WST.value + "/SymmetricKey"),
        "KeySize": node(Ns.WST("KeySize"), str(len(grant.proof_key) * 8)),
        "RequestedSecurityToken": node(Ns.WST("RequestedSecurityToken"), encrypted),
        "RequestedAttachedReference": _reference("RequestedAttachedReference", assertion_id, token_type),
        "RequestedUnattachedReference": _reference("RequestedUnattachedReference", assertion_id, token_type),
        "AppliesTo": node(Ns.WSP("AppliesTo"), address, prefixes={"wsp": Ns.WSP.value}),
        "RequestedProofToken": node(Ns.WST("RequestedProofToken"), _secret(nonce)),
        "Lifetime": node(
            Ns.WST("Lifetime"),
            node(Ns.WSU("Created"), timestamp(grant.created_at)),
            node(Ns.WSU("Expires"), timestamp(grant.expires_at)),
        ),
    }
    if request.entropy is not None:
        # Both sides contributed: the response names the algorithm and our part, never the key (WS-Trust 1.3, 4.4.4).
        computed = node(Ns.WST("ComputedKey"), COMPUTED_KEY_ALGORITHM)
        parts["RequestedProofToken"] = node(Ns.WST("RequestedProofToken"), computed)
        parts["Entropy"] = node(Ns.WST("Entropy"), _secret(nonce))
    return parts


def _secret(content: bytes) -> etree._Element:
    """Its Type says Nonce, as recorded, also where it is the key itself."""
    secret = base64.b64encode(content).decode()
    return node(Ns.WST("BinarySecret"), secret, attributes={"Type": Ns.WST.value + "/Nonce"})


def _reference(name: str, assertion_id: str, token_type: str) -> etree._Element:
    kind = TokenProfile.SAML11_ID if token_type == TokenProfile.SAML11 else TokenProfile.SAML_ID
    identifier = node(Ns.WSSE("KeyIdentifier"), assertion_id, attributes={"ValueType": kind.value})
    reference = node(
        Ns.WSSE("SecurityTokenReference"),
        identifier,
        attributes={Ns.WSSE11("TokenType"): token_type},
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
