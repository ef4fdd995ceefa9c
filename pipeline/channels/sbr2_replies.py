"""SBR2's replies: a receipt or an error to a push, an outcome or "nothing yet" to a pull. Nothing here raises for what
a gateway could send.

A receipt says that the message arrived and no more; the outcome is only ever pulled.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.channels.faults import TURNED_AWAY, turned_away
from pipeline.channels.foreign_text import plain
from pipeline.channels.sbr2_faults import AGENCY_RULES, DUPLICATE, UNKNOWN_ERROR, is_permission, rule_for
from pipeline.channels.sbr2_profile import Sbr2Profile
from pipeline.lodgment.failures import Blast, Failure, FailureClass, Party
from pipeline.lodgment.outcome import MessageEvent, Outcome, Result, Severity
from pipeline.protocol.as4_receipts import ReceiptFault, disagreements
from pipeline.protocol.as4_signed_info import As4SignatureError
from pipeline.protocol.as4_verify import RESPONSE_POLICY, verify_message
from pipeline.protocol.ebms3 import Ebms3Error, ErrorSignal, Receipt, SignedReference, Unit, UserMessage
from pipeline.protocol.ebms3_payloads import payloads
from pipeline.protocol.ebms3_reader import read_envelope, read_messaging
from pipeline.protocol.gzip_stream import GzipError
from pipeline.protocol.mime import Attachment, Package, read_package
from pipeline.protocol.mime_reader import MimeError
from pipeline.protocol.namespaces import Ns
from pipeline.protocol.sbr_events import EventItem, SbrEvent, read_events
from pipeline.protocol.soap import Fault
from pipeline.protocol.xml import XmlError, parse

_PIECE = 64 * 1024
_MESSAGE_ID = re.compile(r"[A-Za-z0-9._%+=-]{1,200}@[A-Za-z0-9.-]{1,200}")
_STALE = frozenset({"InvalidSecurityToken", "MessageExpired", "FailedAuthentication", "FailedCheck"})
_ASK_AGAIN = "Whether it was lodged is not known. It is sent again by itself under the same message id."


@dataclass(frozen=True, slots=True)
class Asked:
    """What a reply must answer. `pulled` is the MessageId whose outcome was asked for, None for a push."""

    reference: str
    message_id: str
    references: tuple[SignedReference, ...]
    pulled: str | None
    parent: str
    """The DocumentID of the payer's own record."""


def read_reply(profile: Sbr2Profile, status: int, content_type: str, body: bytes, asked: Asked) -> Outcome | Failure:
    """What a gateway said to a push or a pull."""
    try:
        pieces = (body[start : start + _PIECE] for start in range(0, len(body), _PIECE))
        package = read_package(content_type, pieces)
        reply = read_envelope(package.root)
    except (MimeError, XmlError, Ebms3Error) as error:
        shape = f"HTTP status {status}, content type {plain(content_type, 100)}, {len(body)} bytes"
        return _by_status(status) or _unknown(f"reply.{_tail(error.code)}", f"{error}; {shape}")
    if len(reply.units) > 1:
        return _unknown("reply.units", f"{len(reply.units)} messages in one reply, where one was asked for")
    return _of_unit(profile, reply.units[0], package, asked) if reply.units else _of_fault(reply.fault, status)


def _of_unit(profile: Sbr2Profile, unit: Unit, package: Package, asked: Asked) -> Outcome | Failure:
    match unit:
        case ErrorSignal():
            return _of_error(unit, asked)
        case Receipt() if asked.pulled is None:
            return _of_receipt(unit, asked)
        case UserMessage() if asked.pulled is not None:
            return _of_response(profile, unit, package, asked)
    return _unknown("reply.unit", f"the gateway answered with a {type(unit).__name__}, which answers nothing we asked")


def _of_receipt(receipt: Receipt, asked: Asked) -> Outcome | Failure:
    wrong = [one for one in disagreements(receipt, asked.message_id, asked.references) if one.fault in _NOT_OURS]
    if wrong:
        places = ", ".join(sorted({f"{one.fault.value} {plain(one.place or '', 100)}" for one in wrong}))
        return _unknown("reply.receipt", f"the receipt does not fit what was sent: {places}")
    return Outcome(Result.DELAYED, asked.reference, agency_reference=asked.message_id)


_NOT_OURS = frozenset(ReceiptFault) - {ReceiptFault.NO_DIGESTS}
"""A receipt without digests acknowledges the message; one with other digests than ours acknowledges something else."""


def _of_error(signal: ErrorSignal, asked: Asked) -> Outcome | Failure:
    if signal.nothing_yet and asked.pulled is not None:
        return Outcome(Result.DELAYED, asked.reference)
    nested = [code for error in signal.errors for code in error.nested_codes]
    said = plain(" ".join(filter(None, (error.detail or error.description for error in signal.errors))))
    if not DUPLICATE.isdisjoint(nested):
        return Outcome(Result.DELAYED, asked.reference, agency_reference=_original(said, asked))
    first = next((error for error in signal.errors if not error.nothing_yet), signal.errors[0])
    code, rule = rule_for(nested, first.code)
    return rule.failure(code, said or plain(first.short_description or ""))


def _original(said: str, asked: Asked) -> str:
    """The MessageId under which the agency has the payload. Where it names none, it can only be ours: the payload holds
    its own submission id.
    """
    others = [found for found in _MESSAGE_ID.findall(said) if found != asked.message_id]
    return others[0] if others else asked.message_id


def _of_response(profile: Sbr2Profile, message: UserMessage, package: Package, asked: Asked) -> Outcome | Failure:
    try:
        message, attachments = _believed(profile, message, package)
        if message.info.ref_to_message_id != asked.pulled:
            return _unknown("reply.reference", "the response answers another message than the one that was asked about")
        documents = [b"".join(payload.document(profile.response_limit)) for payload in payloads(message, attachments)]
        events = [event for document in documents for event in read_events(document)]
    except (Ebms3Error, GzipError, XmlError, As4SignatureError) as error:
        return _unknown(f"reply.{_tail(error.code)}", f"the response cannot be believed: {error}")
    if not events:
        return _unknown("reply.empty", "the response holds no message events")
    return _outcome(events, asked)


def _believed(
    profile: Sbr2Profile, message: UserMessage, package: Package
) -> tuple[UserMessage, tuple[Attachment, ...]]:
    """The message and its attachments as far as they are signed, where the policy asks for a signature."""
    signed = parse(package.root).find(f"{Ns.SOAP('Header')}/{Ns.WSSE('Security')}/{Ns.DS('Signature')}") is not None
    if not profile.signed_responses and (not signed or not profile.agency_certificates):
        return message, package.attachments
    verified = verify_message(
        package.root,
        package.attachments,
        RESPONSE_POLICY,
        lambda named: named if named in profile.agency_certificates else None,
    )
    (unit,) = read_messaging(verified.messaging)
    if not isinstance(unit, UserMessage):
        raise Ebms3Error("ebms.unit", "what is signed is no user message")
    return unit, verified.attachments


def _outcome(events: Sequence[SbrEvent], asked: Asked) -> Outcome | Failure:
    """Errors in the payer's own record, or in none, refuse the event; errors in payees' records refuse those alone."""
    items = [item for event in events for item in event.items]
    errors = [item for item in items if item.severity is Severity.ERROR]
    refused = next((item for item in errors if is_permission(item.code)), None)
    if refused is not None:
        code, rule = rule_for((refused.code,), "")
        return rule.failure(code, refused.detailed_text or refused.short_text)
    if not errors and any(event.maximum_severity is Severity.ERROR for event in events):
        return _unknown("reply.severity", "the response says that there are errors and names none")
    if not errors:
        result = Result.ACCEPTED
    elif all(_about_payees(item, asked.parent) for item in errors):
        result = Result.PARTIALLY_ACCEPTED
    else:
        result = Result.REJECTED
    told = tuple(one for item in items for one in _message_events(item))
    return Outcome(result, asked.reference, events=told)


def _about_payees(item: EventItem, parent: str) -> bool:
    records = [location.instance for location in item.locations if location.instance is not None]
    return bool(records) and parent not in records


def _message_events(item: EventItem) -> list[MessageEvent]:
    """One for each place that the item is about."""
    text = plain(item.detailed_text or item.short_text)
    details = tuple(plain(f"{name}: {value}", 200) for name, value in item.parameters)
    places = [(one.path, one.instance) for one in item.locations] or [(None, None)]
    return [
        MessageEvent(
            plain(item.code, 100),
            item.severity,
            text,
            None if path is None else plain(path),
            details,
            record=None if record is None else plain(record, 100),
        )
        for path, record in places
    ]


def _of_fault(fault: Fault | None, status: int) -> Failure:
    """A SOAP fault beside the ebMS way: of whatever stands before the message handler."""
    if fault is None:
        return _unknown("reply.empty", "the reply says nothing")
    code = plain(".".join(fault.codes), 100) or "soap:Fault"
    if not _STALE.isdisjoint(fault.codes):
        advice = "The gateway refused the security token. It is sealed again with a new one, under the same message id."
        return Failure(FailureClass.STALE_TOKEN, code, plain(fault.reason), advice, Party.NOBODY)
    known = next((found for found in AGENCY_RULES if found in fault.reason), None)
    if known is not None:
        return AGENCY_RULES[known].failure(known, fault.reason)
    by_status = _by_status(status) if status not in {400, 500} else None
    if by_status is not None:
        return by_status
    if fault.codes[:1] == ("Sender",):
        return UNKNOWN_ERROR.failure(code, fault.reason)
    return _unknown(code, fault.reason)


def _by_status(status: int) -> Failure | None:
    """What an HTTP status says where no readable reply does. 503 and 429 refuse before anything is processed, and so
    does what says 401, 403, 404 or 405 in the gateway's place; 500, 502 and 504 may have come after.
    """
    code = f"http.{status}"
    match status:
        case 429 | 503 | 302 | 303 | 307:
            advice = "The gateway takes nothing now. Nothing to do: it is sent again by itself."
            return Failure(FailureClass.UNAVAILABLE, code, "", advice, Party.NOBODY, Blast.CHANNEL)
        case _ if status in TURNED_AWAY:
            return turned_away(status)
        case 413:
            advice = "The gateway refuses the message as too large: split the event, and lodge its parts as new jobs."
            return Failure(FailureClass.OUR_DOCUMENT, code, "", advice, Party.PRODUCER)
        case _ if 300 <= status < 500 and status not in {400, 408}:
            advice = "Nothing takes messages at this address. Check the gateway's address in the settings."
            return Failure(FailureClass.OUR_DOCUMENT, code, "", advice, Party.OPERATOR, Blast.CHANNEL)
        case _ if status >= 400:
            return _unknown(code, f"the gateway answered with HTTP status {status} and no message")
        case _:
            return None


def _unknown(code: str, detail: str) -> Failure:
    return Failure(FailureClass.UNKNOWN, code, plain(detail), _ASK_AGAIN, Party.NOBODY)


def _tail(code: str) -> str:
    return code.split(".", 1)[-1]
