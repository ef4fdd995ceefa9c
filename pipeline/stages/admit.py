"""admit: decide at the door whose jobs are taken in at once, and let the others wait until it is their sender's turn.

It comes before anything costly: of a job that waits, only the sender and the size are looked at.
"""

import json
from collections.abc import AsyncIterator, Sequence
from datetime import datetime

import structlog

from pipeline.broker.port import Delivery
from pipeline.ledger import lodgments, shares, waiting_jobs
from pipeline.ledger.waiting_jobs import WaitingJob
from pipeline.lodgment.shares import Admission, Asked, admit, needs_room
from pipeline.lodgment.states import Step
from pipeline.stages.contract import Context, Settled, Stage
from pipeline.stages.waiting_room import WaitingRoom

log = structlog.get_logger(__name__)

_LONGEST = 128
"""Characters of a sender's id or a job's that are looked at; longer ones are refused when they are read."""
_NOBODY = ""
"""The sender of jobs that do not say whose they are: they are refused, and share what one sender may have."""


class Admit:
    """The intake's use case for jobs that come. `receive` takes in what goes at once, the rest waits in `room`."""

    step = Step.RECEIVE

    def __init__(self, context: Context, receive: Stage, room: WaitingRoom) -> None:
        self._context = context
        self._receive = receive
        self._room = room

    async def handle(self, batch: Sequence[Delivery]) -> AsyncIterator[Settled]:
        seen = [_looked_at(delivery) for delivery in batch]
        admission = await self._decide([asked for asked, _ in seen])
        at_once = [delivery for delivery, tag in zip(batch, admission.tags, strict=True) if tag is None]
        if at_once:
            self._room.jobs_came()
            async for settled in self._receive.handle(at_once):
                yield settled
        # Only now: a batch that has to be handled again must not find its own later jobs waiting before its first.
        now = self._context.clock()
        waiting = [
            (delivery, self._waiting(delivery, *one, tag, now))
            for delivery, one, tag in zip(batch, seen, admission.tags, strict=True)
            if tag is not None
        ]
        if waiting:
            async with self._context.ledger.transaction() as tx:
                await waiting_jobs.add(tx, [job for _, job in waiting])
            self._room.jobs_came()
            log.info("admit.waiting", jobs=len(waiting), senders=len({job.sender_id for _, job in waiting}))
            yield Settled(tuple(delivery for delivery, _ in waiting))

    async def _decide(self, asked: Sequence[Asked]) -> Admission:
        now, policy = self._context.clock(), self._context.shares
        senders = {one.sender for one in asked}
        async with self._context.ledger.transaction() as tx:
            virtual = await shares.lock(tx, dict.fromkeys(senders, now))
            line = await waiting_jobs.line(tx, senders)
            admission = admit(asked, virtual, line, 0, policy, now)
            if needs_room(admission, line):
                room = policy.room - await lodgments.under_way(tx, policy.room)
                admission = admit(asked, virtual, line, room, policy, now)
            await shares.write(tx, admission.virtual)
        return admission

    def _waiting(
        self, delivery: Delivery, asked: Asked, job_id: str | None, tag: datetime, now: datetime
    ) -> WaitingJob:
        new_id = self._context.new_id()
        return WaitingJob(new_id, asked.sender, job_id, tag, asked.size, now, delivery.message_id, delivery.body)


def _looked_at(delivery: Delivery) -> tuple[Asked, str | None]:
    """Whose job it is, how large with its document, and its id where it has one; nothing else is checked."""
    try:
        fields = json.loads(delivery.body)
    except (ValueError, RecursionError):
        fields = None
    sender, job_id, size = _NOBODY, None, len(delivery.body)
    match fields:
        case {"sender": {"id": str(given)}, **rest} if _usable(given):
            sender = given
            match rest:
                case {"payload": {"reference": str(), "size": int(promised)}} if promised > 0:
                    size += promised
    match fields:
        case {"job_id": str(given)} if _usable(given):
            job_id = given
    return Asked(sender, size), job_id


def _usable(text: str) -> bool:
    return len(text) <= _LONGEST and text.isprintable()
