"""The waiting room: jobs beyond their sender's share, given out by turns while there is room in the pipeline.

To the runner it is a queue like any other: what was taken is acknowledged when it is stored and its messages are
published, and a process that dies in between leaves it to the next. As in any other, that ends in quarantine.
"""

import asyncio
import contextlib
from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

import structlog

from pipeline.broker.port import Delivery
from pipeline.ledger import lodgments, quarantine, waiting_jobs
from pipeline.ledger.quarantine import Quarantined
from pipeline.ledger.session import Tx
from pipeline.ledger.waiting_jobs import WaitingJob
from pipeline.lodgment.errors import DependencyDownError
from pipeline.lodgment.states import Step
from pipeline.stages.contract import Context
from pipeline.stages.quarantine import WORN_OUT, WORN_OUT_CODE

log = structlog.get_logger(__name__)

_IN_HAND = timedelta(seconds=30)
"""How long a job is with one intake; one that takes longer over it may find that another has done the same."""
_LOOK_EVERY = 0.1
_LOOK_WHEN_EMPTY = 1.0
"""Seconds between looks; jobs that this process lets wait are seen at once."""
_LEAST_EVERY = timedelta(seconds=1)
"""One is given out so often when there is no room: everybody's turn comes, however busy others are."""
_BYTES = 4 * 1024 * 1024
"""Of a batch, and one job beyond: behind a large document nobody else's small one waits in the same hand."""
_ALONE_AFTER = timedelta(seconds=3)
"""When no job came for so long, those who wait have the pipeline to themselves. Before that, a small sender's may stand
behind others in the intake's queue."""
_DAMAGED_CODE = "vault.damaged"
_DAMAGED = "What is stored of this job was changed since: discard it, and push the job again."


class WaitingRoom:
    """What waits, as the intake's runner takes it; what was taken `delivery_limit` times in vain is given up."""

    def __init__(self, context: Context, delivery_limit: int) -> None:
        self._context = context
        self._delivery_limit = delivery_limit
        self._wake = asyncio.Event()
        self._in_hand: set[UUID] = set()
        self._closed = False
        self._not_before: datetime | None = None
        self._given_out_at: datetime | None = None
        self._came_at: datetime | None = None

    async def opened(self) -> "WaitingRoom":
        """Ready to be taken from.

        What a process that died has in hand comes first, so nothing is given out before it is free again.
        """
        async with self._context.ledger.transaction(read_only=True) as tx:
            self._not_before = await waiting_jobs.in_hands_until(tx)
        return self

    def jobs_came(self) -> None:
        """At the door, whether they were taken in at once or wait."""
        self._came_at = self._context.clock()
        self._wake.set()

    async def take(self, limit: int, linger: float) -> list[Delivery]:  # noqa: ARG002  - what waits need not be waited for
        """The next of the line, at most `limit`; empty once closed."""
        while not self._closed:
            self._wake.clear()
            pause = _LOOK_EVERY
            try:
                room = await self._room()
                if room is None:
                    pause = _LOOK_WHEN_EMPTY
                elif jobs := await self._next(min(limit, room)):
                    return [_delivery(one) for one in jobs]
            except DependencyDownError as error:
                log.warning("waiting_room.ledger_down", code=error.code)
                pause = _LOOK_WHEN_EMPTY
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), pause)
        return []

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        ids = {one.token for one in deliveries if isinstance(one.token, UUID)}
        async with self._context.ledger.transaction() as tx:
            await waiting_jobs.remove(tx, ids)
        self._in_hand -= ids

    async def close(self) -> None:
        """Give nothing out any more, and let others have what is in hand; without a ledger, time does."""
        self._closed = True
        self._wake.set()
        if self._in_hand:
            with contextlib.suppress(DependencyDownError):
                async with self._context.ledger.transaction() as tx:
                    await waiting_jobs.give_back(tx, self._in_hand)
        self._in_hand.clear()

    async def _room(self) -> int | None:
        """How many may be taken in now; None when nobody waits."""
        now = self._context.clock()
        most = self._most(now)
        async with self._context.ledger.transaction(read_only=True) as tx:
            if not await waiting_jobs.any_waits(tx):
                return None
            room = most - await lodgments.under_way(tx, most)
        if self._not_before is not None and now < self._not_before:
            return 0
        if room >= most // 4:  # fewer would make small batches, which cost more each
            return room
        waited_long = self._given_out_at is None or abs(now - self._given_out_at) >= _LEAST_EVERY
        return 1 if waited_long else 0

    def _most(self, now: datetime) -> int:
        """How many may be under way now."""
        if self._came_at is None:
            self._came_at = now
        alone = abs(now - self._came_at) >= _ALONE_AFTER
        return self._context.shares.room_alone if alone else self._context.shares.room

    async def _next(self, limit: int) -> list[WaitingJob]:
        if limit == 0:
            return []
        now = self._context.clock()
        async with self._context.ledger.transaction() as tx:
            taken = await waiting_jobs.take(tx, now, now + _IN_HAND, limit, _BYTES)
            jobs = await self._without_hopeless(tx, taken, now)
            # Before the commit: a take that is cancelled while it commits has them too.
            self._in_hand.update(one.id for one in jobs)
        self._given_out_at = now
        return jobs

    async def _without_hopeless(self, tx: Tx, taken: Sequence[WaitingJob], now: datetime) -> list[WaitingJob]:
        """Those to give out; the others are in quarantine from now on."""
        hopeless = {one.id: kept for one in taken if (kept := self._given_up(one, now)) is not None}
        if hopeless:
            await quarantine.add(tx, list(hopeless.values()))
            await waiting_jobs.remove(tx, hopeless)
            for one in hopeless.values():
                self._context.metrics.poison(Step.RECEIVE)
                log.error("waiting_room.given_up", code=one.code, job=one.job_id)
        return [one for one in taken if one.id not in hopeless]

    def _given_up(self, job: WaitingJob, now: datetime) -> Quarantined | None:
        if job.damaged:
            code, reason = _DAMAGED_CODE, _DAMAGED
        elif job.takes >= self._delivery_limit:
            code, reason = WORN_OUT_CODE, WORN_OUT
        else:
            return None
        return Quarantined(job.id, Step.RECEIVE, code, reason, job.job_id, None, job.message_id, job.body, now)


def _delivery(job: WaitingJob) -> Delivery:
    return Delivery(job.body, job.message_id, {}, redelivered=False, token=job.id)
