"""What a lost broker carried is put back from the ledger, nothing else is touched, and job ids are told apart."""

from dataclasses import replace
from datetime import date, timedelta
from typing import TYPE_CHECKING
from uuid import UUID

import pytest

from pipeline.broker.messages import read_step_message
from pipeline.ledger import lodgments, quarantine, recovery
from pipeline.ledger.quarantine import Quarantined
from pipeline.lodgment.lodgment import NOT_BEFORE, Lodgment, Reason
from pipeline.lodgment.states import State, Step
from pipeline.stages.recover import Recover
from tests.doubles.lodgments import NOW, a_lodgment, fresh_id
from tests.integration.stages.test_stage_record import accepted

if TYPE_CHECKING:
    from tests.integration.stages.conftest import Bench

only_sqlite = pytest.mark.parametrize("bench", ["sqlite"], indirect=True)


async def carried(bench: "Bench") -> list[UUID]:
    async with bench.ledger.transaction(read_only=True) as tx:
        return await recovery.carried_by_messages(tx)


def waiting(state: State, **changes: object) -> Lodgment:
    tomorrow = NOW + timedelta(days=1)
    row = replace(a_lodgment(), state=state, due_at=tomorrow, resume=State.RECEIVED, reason=Reason(NOT_BEFORE, ""))
    return replace(row, **changes)  # type: ignore[arg-type]  # fields by name


async def test_each_message_that_was_lost_is_made_again_the_nearest_due_date_first(bench: "Bench") -> None:
    old, newer = a_lodgment(), replace(a_lodgment(), state=State.AUTHORISED)
    urgent = replace(a_lodgment(), due_date=date(2026, 11, 24))
    asleep = [waiting(State.PARKED), waiting(State.AWAITING), waiting(State.UNKNOWN)]
    held = replace(a_lodgment(), state=State.HELD, due_at=None)
    await bench.add(old, newer, urgent, *asleep, held)
    sealed = await bench.sealed()
    unread, attempt = await bench.sent(await bench.sealed(), None)
    await bench.answered(attempt, accepted(unread))
    under_way, _ = await bench.sent(await bench.sealed(), None)

    ids = await carried(bench)
    assert ids == [urgent.id, *sorted([old.id, newer.id, sealed.id, unread.id])]
    stage = Recover(bench.ledger, bench.clock, bench.timing.stuck_after)
    bench.now += timedelta(minutes=1)
    messages = await stage.put_back(ids)
    steps = {
        read_step_message(m.body).lodgment_id: (m.routing_key, read_step_message(m.body).attempt_id) for m in messages
    }
    assert steps == {
        urgent.id: (Step.AUTHORISE, None),
        old.id: (Step.AUTHORISE, None),
        newer.id: (Step.SEAL, None),
        sealed.id: (Step.SUBMIT, None),
        unread.id: (Step.RECORD, attempt.id),
    }
    assert list(steps) == ids
    assert (await bench.lodgment(old)).due_at == bench.now + bench.timing.stuck_after
    for row in (*asleep, held, under_way, unread):
        assert await bench.lodgment(row) == row

    again = await stage.put_back(ids)
    assert [message.message_id for message in again] == [message.message_id for message in messages]


@only_sqlite
async def test_what_moved_on_meanwhile_is_left_alone(bench: "Bench") -> None:
    row = a_lodgment()
    await bench.add(row)
    ids = await carried(bench)
    parked = await bench.moved(
        row, row.moved(State.PARKED, due_at=NOW + timedelta(days=1), resume=State.RECEIVED, reason=Reason("E1003", ""))
    )
    assert await Recover(bench.ledger, bench.clock, bench.timing.stuck_after).put_back(ids) == []
    assert await bench.lodgment(row) == parked


async def test_the_plan_counts_what_is_open_by_state(bench: "Bench") -> None:
    await bench.add(a_lodgment(), replace(a_lodgment(), due_date=date(2026, 11, 24)), waiting(State.PARKED))
    await bench.add(replace(a_lodgment(), state=State.HELD, due_at=None))
    await bench.add(replace(a_lodgment(), state=State.ACCEPTED, due_at=None))
    await bench.sent(await bench.sealed(), b"<reply/>")
    await bench.sent(await bench.sealed(), None)
    async with bench.ledger.transaction(read_only=True) as tx:
        view = await recovery.open_states(tx)
    assert [(one.state, one.count, one.earliest_due_date, one.answered) for one in view] == [
        (State.RECEIVED, 2, date(2026, 11, 24), 0),
        (State.SENDING, 2, None, 1),
        (State.PARKED, 1, None, 0),
        (State.HELD, 1, None, 0),
    ]


async def test_a_producers_job_ids_are_known_refused_or_unknown(bench: "Bench") -> None:
    one, two = a_lodgment(), a_lodgment()
    await bench.add(one, two)
    item = Quarantined(fresh_id(), Step.RECEIVE, "job.invalid", "no", "refused-1", None, "m", b"{}", received_at=NOW)
    async with bench.ledger.transaction() as tx:
        await quarantine.add(tx, [item])
        found = await recovery.known(tx, ["never-1", one.job_id, "refused-1", two.job_id, "never-0"])
    assert (found.states, found.refused, found.unknown) == ({"received": 2}, ["refused-1"], ["never-1", "never-0"])


@only_sqlite
async def test_after_a_restore_what_is_doubted_wakes_in_order(bench: "Bench") -> None:
    later, urgent = a_lodgment(), replace(a_lodgment(), due_date=date(2026, 11, 24))
    await bench.add(later, urgent, waiting(State.PARKED))
    async with bench.ledger.transaction(read_only=True) as tx:
        ids = await recovery.not_final(tx)
    stage = Recover(bench.ledger, bench.clock, bench.timing.stuck_after)
    assert await stage.doubt(ids, NOW, 0) == 2
    async with bench.ledger.transaction(read_only=True) as tx:
        due = await lodgments.due(tx, NOW + timedelta(seconds=1), 10)
    assert [row.id for row in due] == [urgent.id, later.id]
    assert await stage.doubt(ids, NOW, 0) == 0
