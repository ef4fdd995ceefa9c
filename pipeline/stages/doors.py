"""The doors of the agencies as one process sees them: what is closed, who may go, and what answers say.

All processes share the breakers through the ledger. While every door is open and nothing fails, a process reads them
once a second and writes nothing.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID

import structlog

from pipeline.ledger import channel_states
from pipeline.ledger.session import Tx
from pipeline.lodgment import breaker as breakers
from pipeline.lodgment.breaker import Breaker, BreakerPolicy, BreakerScope, BreakerState, Budget
from pipeline.lodgment.deadlines import least_first, slack
from pipeline.lodgment.doors import NOTHING_YET, Door, Said, Shut, bars, is_turned_away, said, silence
from pipeline.lodgment.errors import DependencyDownError
from pipeline.lodgment.failures import Failure
from pipeline.lodgment.lodgment import Lodgment
from pipeline.lodgment.outcome import Outcome
from pipeline.stages.breakers import tell
from pipeline.stages.contract import Context

log = structlog.get_logger(__name__)

UNLIMITED = Budget(rate=1e6, concurrency=1_000_000)
"""Agencies are asked as fast as we can, but for the ramp after an outage."""
HTTP_ERROR = 400
"""Replies from this status on are few and short, and say at once whether the agency is down; what the others say is
read by `record` alone."""
_FRESH = timedelta(seconds=1)
"""How long a process goes by what it read."""
_SHUT = frozenset({BreakerState.OPEN, BreakerState.PROBING})


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one request: the lodgment, the door that it went through, the verdict, and when it was begun."""

    row: Lodgment
    door: Door
    verdict: Outcome | Failure
    started_at: datetime


def door_of(context: Context, row: Lodgment) -> Door:
    """The door that this lodgment goes through next."""
    channel = context.channels[row.channel]
    return Door(row.channel, row.service, row.gateway or channel.gateway(), channel.asks(row))


def slack_of(context: Context, row: Lodgment, now: datetime) -> timedelta:
    """How much time this lodgment has to spare."""
    return slack(row.due_date, now, context.channels[row.channel].policy(row.service, row.action).expected)


class Doors:
    """One process's view of the breakers, and its part in what they become."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._known: dict[str, Breaker] = {}
        self._read_at: datetime | None = None
        self._good: dict[str, int] = {}
        """Answers of a door that works, not told yet, by its name."""
        self._told_at: dict[str, datetime] = {}
        self._quiet: dict[str, int] = {}
        """How many questions in a row were answered with nothing yet, by the door's name."""
        self._shut_at: dict[str, datetime] = {}
        """When a door was last seen not to be open, by its name."""

    async def look(self, tx: Tx) -> None:
        """Read what is known of the doors, if that was not done in the last second."""
        await self._look(tx)

    def shut(self, row: Lodgment) -> Shut | None:
        """The door that is closed to this lodgment, as far as this process knows."""
        for door in self._levels(row):
            breaker = self._known.get(door.name, Breaker())
            if breaker.state in _SHUT:
                return Shut(door, breaker)
        return None

    async def barred(self, tx: Tx, rows: Sequence[Lodgment]) -> dict[UUID, Shut]:
        """Those that must wait, each with the door that is closed to it. The others may be sent now.

        Where a door has just begun to answer, so many are let through as its ramp says, the least slack first.
        """
        await self._look(tx)
        if all(one.state is BreakerState.CLOSED for one in self._known.values()):
            return {}
        # Whoever is let through would be turned back by what was so a second ago.
        await self._read(tx)
        closed: dict[UUID, Shut] = {}
        ramping: dict[str, list[tuple[Lodgment, Door]]] = {}
        for row in rows:
            for door in self._levels(row):
                breaker = self._known.get(door.name, Breaker())
                if bars(breaker, row):
                    closed[row.id] = Shut(door, breaker)
                    break
                if breaker.state is BreakerState.RAMPING:
                    ramping.setdefault(door.name, []).append((row, door))
        for name in sorted(ramping):
            closed |= await self._ramped(tx, [(row, door) for row, door in ramping[name] if row.id not in closed])
        return closed

    def _levels(self, row: Lodgment) -> tuple[Door, Door]:
        door = door_of(self._context, row)
        return door.whole, door

    async def _ramped(self, tx: Tx, pairs: Sequence[tuple[Lodgment, Door]]) -> dict[UUID, Shut]:
        """Take what the ramp of one door still has to give."""
        if not pairs:
            return {}
        now, door = self._context.clock(), pairs[0][1]
        policy = self._context.breakers.of(door)
        before = await channel_states.lock(tx, BreakerScope.CHANNEL, door.name)
        if before.state in _SHUT:
            self._known[door.name] = before
            return {row.id: Shut(door, before) for row, _ in pairs if bars(before, row)}
        admission = breakers.admit(before, policy, UNLIMITED, now, 0)
        first = least_first((row for row, _ in pairs), lambda row: slack_of(self._context, row, now))
        after = breakers.spent(admission.breaker, policy, now, min(admission.count, len(first)))
        await self._write(tx, door, before, after)
        return {row.id: Shut(door, after) for row in first[admission.count :]}

    async def heard(self, answers: Iterable[Answer]) -> None:
        """What these answers say of their doors. A ledger that is away costs the count, and nothing else."""
        by_door: dict[str, list[Answer]] = {}
        for answer in answers:
            for door in (answer.door.whole, answer.door):
                by_door.setdefault(door.name, []).append(replace(answer, door=door))
        if not by_door:
            return
        try:
            await self._look(None)
            for name in sorted(by_door):
                await self._count(by_door[name])
        except DependencyDownError as error:
            log.warning("doors.ledger_down", code=error.code, doors=len(by_door))

    async def _count(self, answers: Sequence[Answer]) -> None:
        door, now = answers[0].door, self._context.clock()
        policy, breaker = self._context.breakers.of(door), self._known.get(door.name, Breaker())
        if door.service is None and breaker.state is BreakerState.CLOSED:
            return  # a person closes a whole channel; answers close doors
        found = [(self._judged(one, breaker, policy), one.row.party_abn) for one in self._telling(answers, breaker)]
        failures = [(judged, employer) for judged, employer in found if isinstance(judged, Failure)]
        self._good[door.name] = self._good.get(door.name, 0) + sum(judged is Said.WORKS for judged, _ in found)
        if not failures and not self._worth_telling(door.name, breaker, policy, now):
            return
        async with self._context.ledger.transaction() as tx:
            before = await channel_states.lock(tx, BreakerScope.CHANNEL, door.name)
            after = before
            if before.state not in _SHUT or any(one.row.id == before.canary_id for one in answers):
                for _ in range(self._good[door.name]):
                    after = self._after(after, policy, now)
                for failure, employer in failures:
                    after = self._after(after, policy, now, failure, employer)
            await self._write(tx, door, before, after)
        self._good[door.name] = 0
        self._told_at[door.name] = now

    def _telling(self, answers: Sequence[Answer], breaker: Breaker) -> list[Answer]:
        """Those that say something of now: what was under way when the door closed proves nothing, whichever way it
        ends, and it may end long after.
        """
        if breaker.state in _SHUT:
            return [one for one in answers if one.row.id == breaker.canary_id]
        since = breaker.opened_at or self._shut_at.get(answers[0].door.name)
        return [one for one in answers if since is None or one.started_at >= since]

    def _judged(self, answer: Answer, breaker: Breaker, policy: BreakerPolicy) -> Failure | Said:
        """The failure that this answer counts as, or what it says."""
        name, found = answer.door.name, said(answer.verdict, asked=answer.door.asks)
        if found in {Said.DOWN, Said.TURNED_AWAY} and isinstance(answer.verdict, Failure):
            return answer.verdict
        if found is Said.WORKS:
            self._quiet[name] = 0
        if found is not Said.QUIET:
            return found
        if breaker.state is BreakerState.PROBING:
            quiet_before = breaker.cause is not None and breaker.cause.code == NOTHING_YET
            return silence(1) if quiet_before else Said.WORKS
        self._quiet[name] = run = self._quiet.get(name, 0) + 1
        if breaker.state is BreakerState.RAMPING:
            return Said.WORKS
        if not policy.quiet or run < policy.quiet:
            return Said.QUIET
        self._quiet[name] = 0
        return silence(run)

    def _after(
        self,
        breaker: Breaker,
        policy: BreakerPolicy,
        now: datetime,
        failure: Failure | None = None,
        employer: str | None = None,
    ) -> Breaker:
        if failure is not None and failure.code == NOTHING_YET and breaker.state is BreakerState.CLOSED:
            # A long run of them has been counted already.
            return breakers.opened(breaker, policy, now, failure, self._context.spread())
        alone = employer if failure is not None and is_turned_away(failure) else None
        return breakers.answered(breaker, policy, now, failure, self._context.spread(), alone)

    def _worth_telling(self, name: str, breaker: Breaker, policy: BreakerPolicy, now: datetime) -> bool:
        """Whether answers of a door that works matter to anybody: not while nothing failed lately."""
        if not self._good[name]:
            return False
        if breaker.state is not BreakerState.CLOSED:
            return True
        since = breaker.window_since
        uneasy = breaker.consecutive > 0 or (
            breaker.failures > 0 and since is not None and since <= now < since + policy.window
        )
        if not uneasy:
            self._good[name] = 0
        told = self._told_at.get(name)
        return uneasy and (told is None or not told <= now < told + _FRESH)

    async def _look(self, tx: Tx | None) -> None:
        now = self._context.clock()
        if self._read_at is not None and self._read_at <= now < self._read_at + _FRESH:
            return
        if tx is not None:
            await self._read(tx)
            return
        async with self._context.ledger.transaction(read_only=True) as reading:
            await self._read(reading)

    async def _read(self, tx: Tx) -> None:
        self._known = await channel_states.every(tx, BreakerScope.CHANNEL)
        self._read_at = self._context.clock()
        for name, one in self._known.items():
            self._note(name, one)
            self._context.metrics.breaker(BreakerScope.CHANNEL, name, one.state, one.state)

    async def _write(self, tx: Tx, door: Door, before: Breaker, after: Breaker) -> None:
        if after != before:
            await channel_states.write(tx, BreakerScope.CHANNEL, door.name, after)
        tell(self._context.metrics, BreakerScope.CHANNEL, door.name, before, after)
        self._known[door.name] = after
        self._note(door.name, after)

    def _note(self, name: str, breaker: Breaker) -> None:
        if breaker.state is not BreakerState.CLOSED:
            self._shut_at[name] = self._context.clock()
