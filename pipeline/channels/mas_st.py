"""MAS-ST, the ATO's Security Token Service: one operation, Issue (MAS-ST 4.1).

Asking twice does no harm, so there is no unknown outcome here: what did not arrive is asked for again.
"""

import re
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from lxml import etree

from pipeline.channels import mas_st_faults as faults
from pipeline.channels.faults import FaultRule, available_after
from pipeline.channels.foreign_text import plain
from pipeline.lodgment.errors import RefusedError
from pipeline.lodgment.failures import Blast, Failure, FailureClass
from pipeline.lodgment.references import SAML_2_0, TokenKey
from pipeline.protocol.algorithms import TokenProfile
from pipeline.protocol.credential import Credential
from pipeline.protocol.namespaces import Ns
from pipeline.protocol.soap import CONTENT_TYPE, Fault, descendant, read_envelope
from pipeline.protocol.suites import V1_3, Suite
from pipeline.protocol.timestamps import instant_of
from pipeline.protocol.verify import EnvelopeError, verify_token_request
from pipeline.protocol.wstrust import Claim, Relationship, RelationshipId, SecurityToken, TokenRequest, WsTrustError
from pipeline.protocol.wstrust_reply import Expected, read_token
from pipeline.protocol.wstrust_request import ISSUE_ACTION, signed_request
from pipeline.protocol.xml import XmlError, parse

SELF_CHECK = "sts.self-check"
"""What we signed does not hold: nothing was sent, and this program or the token that signed is broken."""
REPLY_LIMIT = 1024 * 1024
"""Bytes; the recorded response has 13,000."""

_CLAIM = "http://vanguard.ebusiness.gov.au/2008/06/identity/claims/"
_IDENTITY_CLAIM = "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/"
MANDATORY_CLAIMS = tuple(
    _CLAIM + name for name in ("abn", "commonname", "credentialtype", "samlsubjectid", "fingerprint")
)
CLAIMS = (
    *MANDATORY_CLAIMS,
    f"{_CLAIM}sbr_personid",
    f"{_CLAIM}givennames",
    f"{_IDENTITY_CLAIM}surname",
    f"{_IDENTITY_CLAIM}emailaddress",
    f"{_CLAIM}credentialadministrator",
    f"{_CLAIM}stalecrlminutes",
    f"{_CLAIM}subjectdn",
    f"{_CLAIM}issuerdn",
    f"{_CLAIM}notafterdate",
    f"{_CLAIM}certificateserialnumber",
    f"{_CLAIM}previoussubject",
)
"""The 16 claims that ASIC and SBR want in every request, in the order of working clients (WIG 5.1, table 4)."""

_TOKEN_TYPES = {SAML_2_0: TokenProfile.SAML20, "1.1": TokenProfile.SAML11}
_EVENT_CODE = re.compile(r"E[0-9]{4}")
_EVENT_IN_REASON = re.compile(r"Event Code:\s*\[\s*(E[0-9]{4})\s*\]")
_DATE_RESOLUTION = timedelta(seconds=1)
_TIMESTAMP_RESOLUTION = timedelta(milliseconds=1)
LARGEST_SKEW = timedelta(hours=24)
"""A clock that seems to be off by more is not made up for: more likely the other side's is broken."""


@dataclass(frozen=True, slots=True)
class StsProfile:
    """How tokens are asked for; what is asked for, and where, is in the `TokenKey`."""

    lifetime: timedelta = timedelta(minutes=30)
    """More than 5 minutes and at most 8 hours (MAS-ST 4.1.2.10); what the response says is what counts."""
    mandatory_claims: frozenset[str] = frozenset(MANDATORY_CLAIMS)
    """Claims without which no token is wanted; the others are marked optional."""
    suite: Suite = V1_3
    back_date: timedelta = timedelta(0)
    """How far the request's Timestamp lies in the past, for a service whose clock runs behind ours unnoticed."""
    client_entropy: bool = False
    """Contribute to the proof key, as modern .NET clients do; without it the service makes the key alone."""
    claim_values: bool = False
    """Say what the claims abn and credentialtype must be when acting for another business, as .NET clients do."""
    with_context: bool = False
    """Send the message id as the Context too, which the response must then repeat (MAS-ST 4.1.2.1)."""
    relationship_id: RelationshipId = RelationshipId.QUALIFIED


@dataclass(frozen=True, slots=True)
class StsRequest:
    """One message to the token service, signed. It must not be sent twice: a second try is a new request."""

    url: str
    headers: tuple[tuple[str, str], ...]
    body: bytes = field(repr=False)
    wanted: TokenRequest
    message_id: str
    skew: timedelta


def request(
    profile: StsProfile,
    credential: Credential,
    key: TokenKey,
    message_id: str,
    now: datetime,
    nonce: str,
    skew: timedelta = timedelta(0),
    entropy: bytes | None = None,
) -> StsRequest:
    """Ask for the token that `key` describes. `message_id` (a URI) and `nonce` (letters and digits) must be fresh.

    So must `entropy`, of as many bytes as the key is to have, where the profile has us contribute; else it is not sent.
    `skew` is what `clock_skew` measured last: the times in the message are on the service's clock, `now` is on ours.

    Raises:
        RefusedError: `sts.act-as` and the codes of `WsTrustError`: nothing that can be asked for. `sts.self-check`:
            the signature that was just made does not hold, or does not cover what it must.
    """
    try:
        relationship = _relationship(profile, credential, key, nonce)
        wanted = TokenRequest(
            applies_to=key.applies_to,
            claims=_claims(profile, key, relationship),
            lifetime=profile.lifetime,
            key_size=key.key_size,
            token_type=_TOKEN_TYPES[key.saml_version],
            relationship=relationship,
            context=message_id if profile.with_context else None,
            entropy=entropy if profile.client_entropy else None,
        )
        body = signed_request(
            wanted,
            credential,
            key.sts,
            message_id,
            now + skew,
            nonce,
            suite=profile.suite,
            back_date=profile.back_date,
        )
        verify_token_request(body, credential.certificate_der, profile.suite)
    except EnvelopeError as error:
        raise RefusedError(SELF_CHECK, f"the token request is not sent, {error.code}: {error}") from error
    except (WsTrustError, XmlError) as error:
        raise RefusedError(error.code, f"no token can be asked for: {error}") from error
    headers = (("Content-Type", f'{CONTENT_TYPE}; action="{ISSUE_ACTION}"'),)
    return StsRequest(key.sts, headers, body, wanted, message_id, skew)


def _claims(profile: StsProfile, key: TokenKey, relationship: Relationship | None) -> tuple[Claim, ...]:
    values: dict[str, str] = {}
    if profile.claim_values and relationship is not None:
        values = {f"{_CLAIM}abn": relationship.second_party, f"{_CLAIM}credentialtype": "ABR_Device"}
    return tuple(Claim(uri, uri not in profile.mandatory_claims, values.get(uri)) for uri in key.claims)


def _relationship(profile: StsProfile, credential: Credential, key: TokenKey, nonce: str) -> Relationship | None:
    """The first party is always the credential's own ABN (MAS-ST 3.3.1.4)."""
    if key.second_party is None or key.second_party == credential.abn:
        return None
    if key.software_id is None:
        raise RefusedError(
            "sts.act-as",
            "to act for another business the lodgment needs a software_id, which that business has authorised",
        )
    return Relationship(
        f"_{nonce}", credential.abn, key.second_party, key.software_id, id_attribute=profile.relationship_id
    )


def read_reply(sent: StsRequest, status: int, body: bytes, now: datetime) -> SecurityToken | Failure:
    """The token in the reply, its times on our clock, or why there is none. Never raises for what a server could send.

    Whether a reply is SOAP is seen from its body: faults come with HTTP 400 and 500, and gateways write their own pages
    under any content type.
    """
    if len(body) > REPLY_LIMIT:
        return faults.NOT_BELIEVED.failure("sts.size", f"the reply has {len(body)} bytes, more than {REPLY_LIMIT}")
    try:
        content = read_envelope(body)
    except XmlError as error:
        code = error.code if status == 200 else f"http.{status}"
        return faults.rule_for_status(status).failure(code, str(error))
    if isinstance(content, Fault):
        return _failure_of(content, sent)
    try:
        token = read_token(content, body, Expected(sent.wanted, sent.message_id, now + sent.skew))
    except WsTrustError as error:
        return faults.NOT_BELIEVED.failure(error.code, str(error))
    return replace(token, created_at=token.created_at - sent.skew, expires_at=token.expires_at - sent.skew)


def unreachable(failure: Failure) -> Failure:
    """A failed conversation with the token service: nothing was lodged by it, so it is only ever a reason to wait."""
    return replace(failure, kind=FailureClass.UNAVAILABLE, blast=Blast.CHANNEL)


def blames_the_clock(failure: Failure) -> bool:
    """Whether asking once more with a corrected `skew` may help, where the exchange that failed has measured one."""
    return failure.code in faults.CLOCK_CODES


def measured_skew(
    body: bytes | None, server_date: datetime | None, sent_at: datetime, received_at: datetime
) -> timedelta | None:
    """How far the service's clock is ahead of ours, by its reply; None when the reply tells no time.

    The Timestamp in the reply's Security header is the better witness: it has milliseconds, and comes from the clock
    that judges our requests. The HTTP `Date` has whole seconds and may be some gateway's; pages have nothing else.
    """
    stamped = None if body is None else _security_created(body)
    if stamped is not None:
        return clock_skew(stamped, sent_at, received_at, _TIMESTAMP_RESOLUTION)
    return None if server_date is None else clock_skew(server_date, sent_at, received_at)


def clock_skew(
    server_date: datetime, sent_at: datetime, received_at: datetime, resolution: timedelta = _DATE_RESOLUTION
) -> timedelta:
    """How far the server's clock is ahead of ours, by a time that it wrote, cut to `resolution`.

    Zero unless the difference is certain: the server wrote it at some moment between our sending and receiving.
    """
    if server_date > received_at:
        return server_date - received_at
    latest = server_date + resolution
    return latest - sent_at if latest < sent_at else timedelta(0)


def _security_created(body: bytes) -> datetime | None:
    try:
        root = parse(body, REPLY_LIMIT)
        created = root.find(f"{Ns.SOAP('Header')}/{Ns.WSSE('Security')}/{Ns.WSU('Timestamp')}/{Ns.WSU('Created')}")
        return None if created is None else instant_of(created)
    except XmlError:
        return None


def _failure_of(fault: Fault, sent: StsRequest) -> Failure:
    """The event code from the Detail, else from the nested subcode, else from the Reason, which repeats it as text."""
    code, rule = _code_and_rule(fault)
    if sent.wanted.relationship is not None and code in faults.ABOUT_THE_BUSINESS:
        rule = replace(rule, blast=Blast.EMPLOYER)
    return rule.failure(code, fault.reason, _on_our_clock(available_after(fault.detail, UTC), sent.skew))


def _on_our_clock(moment: datetime | None, skew: timedelta) -> datetime | None:
    try:
        return None if moment is None else moment - skew
    except OverflowError:
        return None


def _code_and_rule(fault: Fault) -> tuple[str, FaultRule]:
    event = _event_code(fault)
    default = faults.UNKNOWN_RECEIVER if fault.codes[:1] == ("Receiver",) else faults.UNKNOWN_SENDER
    if event is not None:
        return event, faults.EVENT_RULES.get(event, default)
    for code in reversed(fault.codes):
        if code in faults.SUBCODE_RULES:
            return code, faults.SUBCODE_RULES[code]
    return plain(".".join(fault.codes), 100) or "sts.fault", default


def _event_code(fault: Fault) -> str | None:
    named = None if fault.detail is None else descendant(fault.detail, "EventCode")
    candidates = ("" if named is None else _text(named), *reversed(fault.codes))
    for candidate in candidates:
        if _EVENT_CODE.fullmatch(candidate):
            return candidate
    found = _EVENT_IN_REASON.search(fault.reason)
    return found[1] if found else None


def _text(node: etree._Element) -> str:
    return (node.text or "").strip()
