"""replay: put lodgments of a frozen list on their way once more, in stages, and see in what each of them ends.

Everything is in rows: a replay goes on where it stood, whichever scheduler looks next.
"""

from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID

import structlog

from pipeline.broker.port import Outgoing
from pipeline.ledger import identity, live_times, lodgments, operators, quarantine, replay_items, replays, successors
from pipeline.ledger.operators import OperatorAction
from pipeline.ledger.quarantine import Fate, Settling
from pipeline.ledger.replay_items import Mark
from pipeline.ledger.session import Tx
from pipeline.lodgment.lodgment import OPERATOR_REPLAYED, Lodgment, Reason
from pipeline.lodgment.replay import Known, Mode, Ruling, known, lodged_again, replayed, rule
from pipeline.lodgment.replay_pace import begun, looked
from pipeline.lodgment.replay_run import (
    ItemState,
    Replay,
    ReplayPolicy,
    ReplayState,
    allowance,
    ended,
    halted_by,
    paced,
    room_left,
    stage_over,
)
from pipeline.stages.contract import Context, onward

log = structlog.get_logger(__name__)

_EVENTS = {ReplayState.HALTED: "replay.halted", ReplayState.DONE: "replay.completed"}


class ReplayStage:
    """The scheduler's use case for replays: several schedulers may run it, each replay is with one at a time."""

    def __init__(self, context: Context, policy: ReplayPolicy | None = None) -> None:
        self._context = context
        self._policy = policy or ReplayPolicy()
        self._last: UUID | None = None

    async def advance(self, room: int) -> list[Outgoing]:
        """The messages for what goes out now of the replay whose turn it is; publish them. `room` is how many more may
        stand in the queues of the steps before live work has to wait for a replay.

        A crash before they are published costs time only: each row is due, a little later.
        """
        async with self._context.ledger.transaction() as tx:
            one = await replays.take(tx, self._last) or await replays.take(tx, None)
            if one is None:
                return []
            self._last = one.id
            seen = await self._see(tx, one)
            seen = await self._judge(tx, seen)
            seen = await self._pace(tx, seen, busy=one.open > 0)
            after, publications = await self._start(tx, seen, room)
            if after != one:
                await replays.change(tx, after)
        self._tell(one, after)
        return publications

    async def _see(self, tx: Tx, one: Replay) -> Replay:
        """Read in what those on their way have ended."""
        now = self._context.clock()
        rows = await replay_items.settled(tx, one.id, now - self._policy.patience, self._policy.portion)
        ends = [
            (item_id, end)
            for item_id, started_at, row in rows
            if (end := ended(row, started_at, now, self._policy)) is not None
        ]
        await replay_items.end(tx, one.id, ends, now)
        for _, end in ends:
            self._context.metrics.replayed(end.state)
        failed = sum(end.failed for _, end in ends)
        return replace(one, ended=one.ended + len(ends), failed=one.failed + failed)

    async def _judge(self, tx: Tx, one: Replay) -> Replay:
        """Halt, go on to the next stage, or be done."""
        if one.state is not ReplayState.RUNNING:
            return one
        if one.left == 0:
            over = one.open == 0
            return replace(one, state=ReplayState.DONE, finished_at=self._context.clock()) if over else one
        code = halted_by(await replay_items.recent(tx, one, self._policy.recent), one, self._policy)
        if code is not None:
            return replace(one, state=ReplayState.HALTED, halt_code=code)
        if stage_over(one, self._policy):
            return replace(one, stage=one.stage + 1, stage_started=0)
        return one

    async def _pace(self, tx: Tx, one: Replay, *, busy: bool) -> Replay:
        """See now and then what live work takes, and give way to it. `busy`: some were on their way until now."""
        now, policy = self._context.clock(), self._policy.pace
        if one.state is not ReplayState.RUNNING or one.started_at is None:
            return one
        if one.pace is None:
            first = one.started_at - policy.before
            live = await live_times.taken(tx, first, one.started_at, now, policy.most)
            return replace(one, pace=begun(one.rate, live, now, policy))
        if abs(now - one.pace.looked_at) < policy.every:
            return one
        since = max(one.pace.since, now - policy.window)
        live = await live_times.taken(tx, since, now, now, policy.most)
        return replace(one, pace=looked(one.pace, one.rate, live, now, policy, busy=busy))

    async def _start(self, tx: Tx, one: Replay, room: int) -> tuple[Replay, list[Outgoing]]:
        """Put on their way as many as may go now."""
        now = self._context.clock()
        if one.state is not ReplayState.RUNNING:
            return one, []
        room = room_left(one, room, await replay_items.unsent(tx, one.id), self._policy)
        number = allowance(one, now, room, self._policy)
        if number == 0:
            return one, []
        rows = await replay_items.portion(tx, one, number)
        rulings = {row.id: rule(row, one.mode, now, self._context.timing.token_margin) for row in rows}
        going = [row for row in rows if rulings[row.id].mode is not None]
        if one.mode is Mode.NEW_REFERENCE:
            marks, gone = await self._lodge_again(tx, one, going)
        else:
            marks, gone = await self._send_again(tx, one, going, rulings)
        left_alone = [row.id for row in rows if rulings[row.id].mode is None]
        marks += [Mark(row_id, ItemState.SKIPPED, rulings[row_id].known, None) for row_id in left_alone]
        await replay_items.mark(tx, one, marks, now)
        sent = sum(mark.state is ItemState.STARTED for mark in marks)
        after = replace(
            paced(one, now, sent, room, self._policy),
            started=one.started + sent,
            stage_started=one.stage_started + sent,
            # A row short of what was asked for: whatever the counters say, no more are waiting.
            skipped=one.skipped + len(marks) - sent if len(rows) == number else one.total - one.started - sent,
            cursor=rows[-1].id if rows else one.cursor,
        )
        return after, [onward(row) for row in gone]

    async def _send_again(
        self, tx: Tx, one: Replay, rows: Sequence[Lodgment], rulings: dict[UUID, Ruling]
    ) -> tuple[list[Mark], list[Lodgment]]:
        """Under their own references."""
        now = self._context.clock()
        due_at = now + self._context.timing.stuck_after
        reason = Reason(OPERATOR_REPLAYED, f"Replayed by {one.started_by}: {one.reason}")
        moves = []
        for row in rows:
            mode = rulings[row.id].mode
            assert mode is not None  # noqa: S101  - only those that go
            moves.append((row, replayed(row, mode, now, due_at, reason)))
        # Locked since they were read: nobody can have moved one.
        won = await lodgments.move(tx, moves)
        assert len(won) == len(moves)  # noqa: S101
        await replay_items.restart_watch(tx, won)
        # What is in quarantine of them was why they were held; left there, it would have them held again.
        who = one.started_by or one.created_by
        await quarantine.settle_of(tx, sorted(won), Settling(Fate.RELEASED, who, f"replay {one.id}: {one.reason}", now))
        await self._note(tx, one, [(row.id, "replay") for row in rows])
        marks = [Mark(row.id, ItemState.STARTED, rulings[row.id].known, rulings[row.id].mode) for row in rows]
        return marks, [after for _, after in moves]

    async def _lodge_again(self, tx: Tx, one: Replay, rows: Sequence[Lodgment]) -> tuple[list[Mark], list[Lodgment]]:
        """Under new references, as new lodgments; each old one stays as it is."""
        now = self._context.clock()
        due_at = now + self._context.timing.stuck_after
        ledger = (await identity.read(tx)).id
        pairs = []
        for row in rows:
            text = f"Lodged again by {one.started_by}, in place of job {row.job_id}, reference {row.reference}"
            reason = Reason(OPERATOR_REPLAYED, f"{text}: {one.reason}")
            pairs.append((row, lodged_again(row, self._context.new_id(), ledger, now, due_at, reason)))
        added = await successors.add(tx, pairs)
        marks = []
        notes = []
        for old, new in pairs:
            if new.id not in added:
                marks.append(Mark(old.id, ItemState.SKIPPED, Known.JOB_ID_TAKEN, None))
                continue
            marks.append(Mark(old.id, ItemState.STARTED, known(old), Mode.NEW_REFERENCE, new.id))
            notes.append((old.id, f"lodged again as {new.job_id}, {new.reference}"))
            notes.append((new.id, f"lodged in place of {old.job_id}, {old.reference}"))
        await self._note(tx, one, notes)
        return marks, [new for _, new in pairs if new.id in added]

    async def _note(self, tx: Tx, one: Replay, deeds: Sequence[tuple[UUID, str]]) -> None:
        """Keep with each lodgment who did it and why, for whoever explains it later."""
        now, who = self._context.clock(), one.started_by or one.created_by
        if one.approved_by is not None:
            who = f"{who}, approved by {one.approved_by}"
        why = f"replay {one.id}: {one.reason}"
        await operators.add(
            tx, [OperatorAction(self._context.new_id(), now, who, deed, row_id, why) for row_id, deed in deeds]
        )

    def _tell(self, before: Replay, after: Replay) -> None:
        went, came = after.started - before.started, after.ended - before.ended
        if went or came:
            log.info("replay.advanced", replay=str(after.id), stage=after.stage, started=went, ended=came)
        if after.stage != before.stage:
            log.info("replay.stage_completed", replay=str(after.id), stage=before.stage, failed=after.failed)
        self._tell_pace(before, after)
        if after.state is not before.state:
            tell = log.warning if after.state is ReplayState.HALTED else log.info
            tell(_EVENTS[after.state], replay=str(after.id), code=after.halt_code, ended=after.ended)

    def _tell_pace(self, before: Replay, after: Replay) -> None:
        now_why, why = (None if one.pace is None else one.pace.why for one in (after, before))
        if after.speed < before.speed and before.pace is not None:
            self._context.metrics.replay_slowed()
            log.info("replay.slowed", replay=str(after.id), speed=round(after.speed, 2), why=now_why)
        elif why is not None and now_why is None:
            log.info("replay.unhindered", replay=str(after.id), speed=round(after.speed, 2))
        self._context.metrics.replay_speed(after.speed if after.state is ReplayState.RUNNING else 0.0)
