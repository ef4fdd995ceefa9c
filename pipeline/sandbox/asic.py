"""The sandbox's ASIC Business Names gateway: one request in; a reply, a fault, or scripted trouble out."""

import base64
import binascii
import hmac
from datetime import datetime, timedelta

from lxml import etree

from pipeline.protocol.namespaces import Ns
from pipeline.protocol.xml import XmlError, parse
from pipeline.sandbox.answer import Answer
from pipeline.sandbox.asic_book import AsicBook, Entry, Settled, Submission
from pipeline.sandbox.asic_messages import (
    AEST,
    ASIC_FAULT,
    SERVICES,
    Event,
    Finding,
    Message,
    Schemas,
    asic_fault,
    read_script,
    reply,
)
from pipeline.sandbox.asic_security import Sentry, security_fault
from pipeline.sandbox.home import Home
from pipeline.sandbox.scenarios import FINAL, Script, Turn, Verdict, take_turn
from pipeline.sandbox.soap import FaultError, Name, Reply, fault, node

_WARNINGS = (
    Event("S9101", "Warning", "SYNTHETIC: the name resembles a registered one.", details=("synthetic detail",)),
    Event("S9102", "Information", "SYNTHETIC: a fee notice follows.", misspelt=True),
)
_REJECTIONS = (
    Event(
        "S9001",
        "Error",
        "SYNTHETIC: the proposed name is not available.",
        location="/request/businessDocumentBody/proposedName",
        details=("identical to a registered name", "synthetic detail"),
    ),
    Event(
        "S9002",
        "Error",
        "SYNTHETIC: the holder's ABN is not active.",
        location="/request/businessDocumentBody/holder/abn",
        misspelt=True,
    ),
    Event("S9101", "Warning", "SYNTHETIC: the name resembles a registered one."),
)
_AUTHENTICATION_ERROR = Event("00005", "Error", "Authentication error")
"""WIG 5.2, figure 9."""


class Gateway:
    """Judges requests in the guide's terms. Registers lodgments in `book`."""

    def __init__(self, home: Home, book: AsicBook) -> None:
        self._services = {service.path: service for service in SERVICES}
        self._schemas = Schemas()
        self._sentry = Sentry(home)
        self._book = book
        login = f"{home.basic_user}:{home.basic_password_file.read_text()}"
        self._login = login.encode()

    async def answer(self, body: bytes, path: str, authorization: str | None, now: datetime) -> Answer:
        """The answer to a POST. Never raises for what a client could send."""
        try:
            return await self._answer(body, path, authorization, now)
        except FaultError as error:
            return Answer(fault(error))

    async def _answer(self, body: bytes, path: str, authorization: str | None, now: datetime) -> Answer:
        service = self._services.get(path)
        if service is None:
            raise asic_fault("FAULT.UNKNOWNSERVICE", "Unknown service")
        root = _parse(body)
        if authorization is None:
            self._sentry.check(root, now)
        bodies = root.findall(Ns.SOAP("Body"))
        if len(bodies) != 1 or len(bodies[0]) != 1:
            raise asic_fault("FAULT.INVALIDXML", "The Body must hold a single child element")
        message = self._schemas.read(service, bodies[0][0], now)
        if authorization is not None and not self._logged_in(authorization):
            rejected = Finding("rejected", (_AUTHENTICATION_ERROR,))
            return Answer(Reply(200, reply(message, rejected, now)))
        if service.updates:
            return await self._lodge(message, now)
        return Answer(Reply(200, reply(message, _query(message), now)))

    def _logged_in(self, authorization: str) -> bool:
        scheme, _, value = authorization.partition(" ")
        try:
            given = base64.b64decode(value, validate=True)
        except (ValueError, binascii.Error):
            return False
        return scheme.casefold() == "basic" and hmac.compare_digest(given, self._login)

    async def _lodge(self, message: Message, now: datetime) -> Answer:
        submission = Submission(
            sender=message.value("senderId"),
            reference=message.value("messageReferenceNumber"),
            service=message.service.message_type,
            body_sha256=message.body_sha256,
        )
        script = read_script(message)
        return await self._book.settle(submission, now, lambda entry: _settle(message, script, entry, now))


def _settle(message: Message, script: Script, entry: Entry, now: datetime) -> Settled[Answer]:
    """A known reference gets its first answer again (WIG 3.7), and never with another document."""
    if entry.body_sha256 != message.body_sha256:
        other = Event("S9900", "Error", "SYNTHETIC: this messageReferenceNumber belongs to another document.")
        rejected = Finding("rejected", (other,))
        answer = Answer(Reply(200, reply(message, rejected, now)))
        return Settled(answer, violation="the same reference came with another business document")
    turn = take_turn(script, entry.troubles, entry.first_seen, now)
    if entry.response is not None:
        kept = Reply(200, entry.response)
        return Settled(Answer(kept, turn.delivery, script.seconds), trouble=turn.trouble)
    said = _say(message, script, turn, now)
    answer = Answer(said, turn.delivery, script.seconds)
    return Settled(answer, said.body if turn.verdict in FINAL else None, trouble=turn.trouble)


def _say(message: Message, script: Script, turn: Turn, now: datetime) -> Reply:
    match turn.verdict:
        case Verdict.NOTHING:
            return Reply(200, b"")
        case Verdict.UNAVAILABLE:
            return fault(unavailable())
        case Verdict.UNAVAILABLE_UNTIL:
            return fault(unavailable(now + timedelta(seconds=script.seconds)))
        case Verdict.STALE_TOKEN:
            return fault(security_fault("InvalidSecurityToken", "An invalid security token was provided"))
        case Verdict.INVALID:
            return fault(asic_fault("FAULT.INVALIDXML", "The request does not validate against the service XML Schema"))
        case verdict:
            return Reply(200, reply(message, _finding(message, verdict), now))


def _finding(message: Message, verdict: Verdict) -> Finding:
    number = f"SYN{message.body_sha256[:9].upper()}"
    registered = node(message.service.tag("businessNameNumber"), number)
    match verdict:
        case Verdict.REJECTED:
            return Finding("rejected", _REJECTIONS)
        case Verdict.DELAYED:
            return Finding("delayed")
        case Verdict.RESULT_FAULT:
            return Finding("fault")
        case Verdict.ACCEPTED_WITH_WARNINGS:
            return Finding("accepted", _WARNINGS, number, (registered,))
        case _:
            return Finding("accepted", (), number, (registered,))


def unavailable(until: datetime | None = None) -> FaultError:
    """FAULT.UNAVAILABLE, with the time at which to come back in text and detail if it is known (WIG 4.3.3.2)."""
    subcodes = (
        Name("FAULT.UNAVAILABLE", "asic", ASIC_FAULT),
        Name("FAULT.ASICNOTRESPONDING", "asic", ASIC_FAULT),
    )
    if until is None:
        return FaultError.by_receiver(subcodes, "The connection timed out")
    moment = until.astimezone(AEST).isoformat(timespec="milliseconds")
    available_after = node(f"{{{ASIC_FAULT}}}AvailableAfter", moment, prefixes={"asic": ASIC_FAULT})
    detail = node(f"{{{ASIC_FAULT}}}FaultDetail", available_after)
    return FaultError.by_receiver(subcodes[:1], f"The service is expected to be available after {moment}", (detail,))


def _query(message: Message) -> Finding:
    """A ping is returned as it came (WIG 6.3.3). A name is available unless it says that it is taken."""
    if message.service.message_type == "ping":
        return Finding("accepted", body=tuple(message.body))
    name = message.body.findtext(message.service.tag("proposedName"), "")
    available = "false" if "taken" in name.casefold() else "true"
    return Finding("accepted", body=(node(message.service.tag("available"), available),))


def _parse(body: bytes) -> etree._Element:
    try:
        root = parse(body)
    except XmlError as error:
        raise asic_fault("FAULT.MALFORMEDXML", f"The request was not well formed XML: {error}") from error
    if root.tag == Ns.SOAP("Envelope"):
        return root
    if etree.QName(root).localname == "Envelope":
        raise FaultError((), "Only SOAP 1.2 is spoken here", code="VersionMismatch")
    raise asic_fault("FAULT.INVALIDXML", "The message must be a SOAP Envelope")
