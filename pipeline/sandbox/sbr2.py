"""The sandbox's SBR2 gateways: one message in; a receipt, an error, a response, or scripted trouble out.

There are two, with one agency behind them: what was pushed at one can only be pulled there, and a document that was
taken at one is a duplicate at the other.
"""

import asyncio
from dataclasses import replace
from datetime import datetime, timedelta
from enum import StrEnum

from pipeline.protocol.ebms3 import PING_ACTION, PING_SERVICE, PullRequest, UserMessage
from pipeline.protocol.mime import Package, read_package
from pipeline.protocol.mime_reader import MimeError
from pipeline.sandbox.answer import Answer
from pipeline.sandbox.home import Home
from pipeline.sandbox.sbr2_answers import EMPTY, Answerer, RefusedError, error, receipt, wrong_receipt
from pipeline.sandbox.sbr2_book import Entry, Sbr2Book, Settled
from pipeline.sandbox.sbr2_document import PayEvent
from pipeline.sandbox.sbr2_message import Pushed, read_push
from pipeline.sandbox.sbr2_outcomes import NOT_AUTHORISED, not_authorised, outcome
from pipeline.sandbox.sbr2_scenarios import (
    Packed,
    PushTurn,
    Said,
    Sbr2Scenario,
    Sbr2Script,
    pull_turn,
    push_turn,
    read_script,
)
from pipeline.sandbox.sbr2_security import Admitted, Sbr2Sentry
from pipeline.sandbox.soap import Reply

GATEWAYS = ("first", "second")
_REFERENCE_LIMIT = 200


class Door(StrEnum):
    """A physical service of a gateway, by the last part of its path."""

    PUSH = "BulkBatch-async-push"
    PULL = "BulkBatch-async-pull"
    SYNC = "Single-sync"
    """Answers pings, and has no other service."""


def unavailable() -> Reply:
    """What stands before the message handler says when that is down."""
    return Reply(503, b"SYNTHETIC: the service is unavailable", "text/plain; charset=utf-8")


class Sbr2Gateways:
    """Judges messages, and keeps what is pushed in `book`."""

    def __init__(self, home: Home, book: Sbr2Book) -> None:
        self._sentry = Sbr2Sentry(home)
        self._answerer = Answerer(home.sbr2_agency)
        self._book = book

    async def answer(
        self, gateway: str, door: Door, content_type: str, body: bytes, now: datetime, *, closed: bool = False
    ) -> Answer:
        """The answer to a POST. Never raises for what a client could send. While the agency is `closed`, no pull gets
        an outcome.
        """
        message_id = None
        try:
            admitted = self._sentry.admit(_package(content_type, body), now)
            message_id = admitted.unit.info.message_id
            return await self._answer(gateway, door, admitted, now, closed=closed)
        except RefusedError as refusal:
            return Answer(error(refusal, message_id, now))

    async def _answer(self, gateway: str, door: Door, admitted: Admitted, now: datetime, *, closed: bool) -> Answer:
        match admitted.unit, door:
            case PullRequest() as question, Door.PULL:
                return await self._pull(gateway, admitted, question, now, closed=closed)
            case UserMessage() as message, Door.PUSH | Door.SYNC if _is_ping(message):
                return Answer(receipt(message.info.message_id, admitted.verified.references, now))
            case UserMessage() as message, Door.PUSH:
                return await self._push(gateway, admitted, message, now)
        raise RefusedError("EBMS:0001", f"{door} takes no such message")

    async def _push(self, gateway: str, admitted: Admitted, message: UserMessage, now: datetime) -> Answer:
        pushed = read_push(admitted, message, now)
        # Beside the loop: tens of thousands of records take their time.
        event = await asyncio.to_thread(pushed.document)
        fresh = Entry(
            message_id=pushed.message_id,
            gateway=gateway,
            sender=pushed.sender,
            credential=admitted.signer.abn,
            service=" ".join(pushed.service),
            software_id=pushed.software_id,
            document_sha256=event.sha256,
            first_seen=now.isoformat(),
            script=str(event.script),
        )
        return await self._book.push(
            fresh,
            lambda entry, original: _settle_push(
                replace(entry, seen=entry.seen + 1), original, fresh, (admitted, pushed, event), now
            ),
        )

    async def _pull(
        self, gateway: str, admitted: Admitted, question: PullRequest, now: datetime, *, closed: bool
    ) -> Answer:
        if not question.selected or len(question.selected) > _REFERENCE_LIMIT or question.mpc is not None:
            raise RefusedError("EBMS:0001", "a pull names the message that was pushed by RefToMessageId, and no mpc")
        if admitted.verified.attachments:
            raise RefusedError("EBMS:0007", "a pull has no attachments")

        def settle(entry: Entry | None) -> Settled[Answer]:
            return self._settle_pull(entry, gateway, admitted, question, now, closed=closed)

        return await self._book.pull(question.selected, now, settle)

    def _settle_pull(
        self,
        entry: Entry | None,
        gateway: str,
        admitted: Admitted,
        question: PullRequest,
        now: datetime,
        *,
        closed: bool,
    ) -> Settled[Answer]:
        asked = question.info.message_id
        # One text for all three: whose messages there are is nobody else's business.
        unknown = RefusedError("EBMS:0001", "no message with this RefToMessageId was pushed here")
        if entry is None or entry.credential != admitted.signer.abn:
            return Settled(Answer(error(unknown, asked, now)), None)
        counted = replace(entry, pulls=entry.pulls + 1)
        if entry.gateway != gateway:
            violation = f"pushed at the gateway {entry.gateway}, pulled at {gateway}"
            return Settled(Answer(error(unknown, asked, now)), counted, violation)
        if closed or not entry.due(now) or entry.events is None:
            return Settled(Answer(error(RefusedError(EMPTY, "nothing to pull yet"), asked, now)), counted)
        script = read_script(entry.script)
        turn = pull_turn(script, entry.pull_troubles)
        service, _, action = entry.service.partition(" ")
        if turn.packed is not Packed.RIGHT:
            reply = self._answerer.response(entry.message_id, (service, action), entry.events, turn.packed, now)
            return Settled(Answer(reply), replace(counted, pull_troubles=entry.pull_troubles + 1))
        if entry.response is not None and entry.content_type is not None:
            return Settled(Answer(Reply(200, entry.response, entry.content_type)), counted)
        reply = self._answerer.response(entry.message_id, (service, action), entry.events, turn.packed, now)
        return Settled(Answer(reply), replace(counted, content_type=reply.content_type, response=reply.body))


def _settle_push(
    entry: Entry, original: str | None, fresh: Entry, said: tuple[Admitted, Pushed, PayEvent], now: datetime
) -> Settled[Answer]:
    """A document that was taken is not taken again: under its own MessageId it gets its receipt once more, under
    another it is a duplicate.
    """
    admitted, _, event = said
    if fresh.document_sha256 != entry.document_sha256:
        refusal = RefusedError("EBMS:0003", "this MessageId belongs to another document")
        answer = Answer(error(refusal, entry.message_id, now))
        return Settled(answer, entry, "the same MessageId came with another document")
    if original is not None:
        return Settled(Answer(_duplicate(entry.message_id, original, now)), entry)
    violation = None if fresh.gateway == entry.gateway else f"pushed at {entry.gateway}, and again at {fresh.gateway}"
    turn = push_turn(event.script, entry.push_troubles)
    answer = Answer(_said(turn, admitted, now), turn.delivery, event.script.seconds)
    after = replace(entry, push_troubles=entry.push_troubles + turn.trouble)
    return Settled(answer, _taken(after, turn, event, now), violation)


def _taken(entry: Entry, turn: PushTurn, event: PayEvent, now: datetime) -> Entry:
    """The entry once the agency has done with the document what this turn has it do."""
    if entry.processed:
        return entry
    if turn.takes:
        due = _due(event.script, now)
        return replace(entry, processed=1, events=outcome(event), due_at=due, content_type=None, response=None)
    if turn.said is Said.RECEIPT:
        # Received, and found later to come from somebody who may not.
        events = not_authorised()
        return replace(entry, events=events, due_at=now.isoformat(), content_type=None, response=None)
    return entry


def _due(script: Sbr2Script, now: datetime) -> str | None:
    if script.scenario is not Sbr2Scenario.DELAYED:
        return now.isoformat()
    return None if script.times < 0 else (now + timedelta(seconds=script.seconds)).isoformat()


def _said(turn: PushTurn, admitted: Admitted, now: datetime) -> Reply:
    message_id, references = admitted.unit.info.message_id, admitted.verified.references
    match turn.said:
        case Said.RECEIPT:
            return receipt(message_id, references, now)
        case Said.WRONG_RECEIPT:
            return wrong_receipt(message_id, references, now)
        case Said.DUPLICATE:
            return _duplicate(message_id, message_id, now)
        case Said.NOT_AUTHORISED:
            return error(RefusedError("EBMS:0004", f"{NOT_AUTHORISED}: SYNTHETIC: not notified"), message_id, now)
        case Said.STALE_TOKEN:
            return error(RefusedError("EBMS:0101", "SYNTHETIC: the security token is not believed"), message_id, now)
        case Said.UNAVAILABLE:
            return unavailable()


def _duplicate(message_id: str, original: str, now: datetime) -> Reply:
    detail = f"CMN.ATO.GEN.DuplicateTransmission: this document was accepted as {original}"
    return error(RefusedError("EBMS:0004", detail), message_id, now)


def _is_ping(message: UserMessage) -> bool:
    """For nobody but the message handler itself (ebMS 3.0 core, 5.2.2.8)."""
    return (message.collaboration.service, message.collaboration.action) == (PING_SERVICE, PING_ACTION)


def _package(content_type: str, body: bytes) -> Package:
    try:
        return read_package(content_type, (body,))
    except MimeError as error:
        raise RefusedError("EBMS:0007", f"{error.code}: {error}") from error
