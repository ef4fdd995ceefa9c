import asyncio
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import pytest

from pipeline.ledger import lodgments
from pipeline.ledger.lodgment_rows import NewLodgment
from pipeline.ledger.session import Ledger
from pipeline.lodgment.errors import RefusedError
from pipeline.lodgment.failures import Party
from pipeline.lodgment.lodgment import LANE_TURN, TOKEN_REQUESTED, Lodgment, Reason
from pipeline.lodgment.references import TokenKeyHash
from pipeline.lodgment.states import FINAL, State
from tests.doubles.lodgments import NOW, a_lodgment, fresh_id
from tests.integration.ledger.samples import SOON, a_full_lodgment, new, parked


async def _take_in(ledger: Ledger, *items: Lodgment) -> None:
    async with ledger.transaction() as tx:
        assert await lodgments.add(tx, new(items)) == {item.id for item in items}


async def _move(ledger: Ledger, *moves: tuple[Lodgment, Lodgment]) -> set[UUID]:
    async with ledger.transaction() as tx:
        return await lodgments.move(tx, moves)


async def _load(ledger: Ledger, *items: Lodgment) -> list[Lodgment]:
    async with ledger.transaction(read_only=True) as tx:
        found = await lodgments.load(tx, [item.id for item in items])
    return [found[item.id] for item in items]


async def test_gives_back_every_field_as_it_was(ledger: Ledger) -> None:
    full, bare = a_full_lodgment(), a_lodgment()
    await _take_in(ledger, full, bare)
    assert await _load(ledger, full, bare) == [full, bare]


async def test_leaves_out_unknown_ids(ledger: Ledger) -> None:
    async with ledger.transaction(read_only=True) as tx:
        assert await lodgments.load(tx, [fresh_id()]) == {}
        assert await lodgments.load(tx, []) == {}
        assert await lodgments.known_jobs(tx, ["nobody's"]) == {}


async def test_takes_a_job_once_and_finds_the_original(ledger: Ledger) -> None:
    first, other = a_lodgment(), a_lodgment()
    await _take_in(ledger, first)
    again = replace(a_lodgment(), job_id=first.job_id)
    async with ledger.transaction() as tx:
        assert await lodgments.add(tx, new([again, other])) == {other.id}
        assert await lodgments.known_jobs(tx, [first.job_id, "unknown"]) == {first.job_id: first}


async def test_takes_one_of_two_jobs_that_race(ledger: Ledger) -> None:
    jobs = [a_lodgment() for _ in range(20)]
    rivals = [[replace(a_lodgment(), job_id=job.job_id) for job in order] for order in (jobs, jobs[::-1], jobs[5:])]

    async def take(batch: list[Lodgment]) -> set[UUID]:
        async with ledger.transaction() as tx:
            return await lodgments.add(tx, new(batch))

    taken = await asyncio.gather(*map(take, rivals))
    assert sum(map(len, taken)) == len(jobs)


async def test_refuses_a_second_lodgment_under_one_reference_without_quoting_the_row(ledger: Ledger) -> None:
    first = a_lodgment()
    twin = replace(a_lodgment(), reference=first.reference)
    await _take_in(ledger, first)
    with pytest.raises(RefusedError) as refusal:
        await _take_in(ledger, twin)
    assert refusal.value.code == "ledger.refused"
    assert twin.job_id not in str(refusal.value)
    await _take_in(ledger, replace(twin, sender_id="another sender"))


@pytest.mark.parametrize(("state", "due_at"), [(State.PARKED, None), (State.HELD, SOON), (State.ACCEPTED, SOON)])
async def test_refuses_a_row_that_nobody_would_look_at_or_that_would_be_woken_for_nothing(
    ledger: Ledger, state: State, due_at: None
) -> None:
    with pytest.raises(RefusedError, match="due_at"):
        await _take_in(ledger, replace(a_lodgment(), state=state, due_at=due_at))


async def test_keeps_the_producers_documents_apart(ledger: Ledger) -> None:
    item = a_lodgment()
    labels = {"run": "2026-11", "nul": "a\0b", "surrogate": "\ud800", "emoji": "🧾"}
    async with ledger.transaction() as tx:
        await lodgments.add(tx, [NewLodgment(item, '{"job_id":"x"}', labels)])
    async with ledger.transaction(read_only=True) as tx:
        found = await lodgments.document(tx, item.id)
        assert found is not None
        assert found.job == '{"job_id":"x"}'
        assert await lodgments.labels(tx, item.id) == labels | {"nul": "a\ufffdb", "surrogate": "\ufffd"}
        assert await lodgments.labels(tx, fresh_id()) == {}
        assert await lodgments.document(tx, fresh_id()) is None


async def test_moves_every_field_that_may_change(ledger: Ledger) -> None:
    before, full = a_lodgment(), a_full_lodgment()
    await _take_in(ledger, before)
    after = replace(
        before,
        state=full.state,
        version=full.version,
        due_at=full.due_at,
        resume=full.resume,
        reason=full.reason,
        tally=full.tally,
        token_key=full.token_key,
        token_expires_at=full.token_expires_at,
        envelope_id=full.envelope_id,
        attempt_id=full.attempt_id,
        attempts=full.attempts,
        sent_at=full.sent_at,
        agency_reference=full.agency_reference,
        document_number=full.document_number,
        finished_at=full.finished_at,
    )
    assert await _move(ledger, (before, after)) == {before.id}
    assert await _load(ledger, before) == [after]


async def test_moves_only_what_is_as_before_says(ledger: Ledger) -> None:
    good, stale, elsewhere, unknown = (a_lodgment() for _ in range(4))
    await _take_in(ledger, good, stale, elsewhere)
    wrong_version, wrong_state = replace(stale, version=5), replace(elsewhere, state=State.SEALED)
    won = await _move(
        ledger,
        (good, good.moved(State.AUTHORISED, due_at=SOON)),
        (wrong_version, wrong_version.moved(State.AUTHORISED, due_at=SOON)),
        (wrong_state, wrong_state.moved(State.SENDING, due_at=SOON)),
        (unknown, unknown.moved(State.AUTHORISED, due_at=SOON)),
    )
    assert won == {good.id}
    assert await _load(ledger, stale, elsewhere) == [stale, elsewhere]


async def test_lets_one_of_many_writers_win_each_row(ledger: Ledger) -> None:
    items = [a_lodgment() for _ in range(100)]
    await _take_in(ledger, *items)
    moves = [(item, item.moved(State.AUTHORISED, due_at=SOON)) for item in items]
    won = await asyncio.gather(*(_move(ledger, *order) for order in (moves, moves[::-1], moves[30:70], moves)))
    assert sorted(row for winner in won for row in winner) == sorted(item.id for item in items)
    assert {item.version for item in await _load(ledger, *items)} == {1}


async def test_moves_nothing_when_the_transaction_fails(ledger: Ledger) -> None:
    item = a_lodgment()
    await _take_in(ledger, item)

    async def fail_midway() -> None:
        async with ledger.transaction() as tx:
            await lodgments.move(tx, [(item, item.moved(State.AUTHORISED, due_at=SOON))])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail_midway()
    assert await _load(ledger, item) == [item]


async def test_takes_foreign_text_in_a_reason(ledger: Ledger) -> None:
    item = a_lodgment()
    await _take_in(ledger, item)
    held = item.moved(State.HELD, reason=Reason("odd", "nul \0, half \udfff, quote ' \" \\u0000 €", Party.OPERATOR))
    assert await _move(ledger, (item, held)) == {item.id}
    (found,) = await _load(ledger, item)
    assert found.reason == Reason("odd", "nul \ufffd, half \ufffd, quote ' \" \\u0000 €", Party.OPERATOR)


async def test_finds_by_id_reference_job_and_prefix(ledger: Ledger) -> None:
    early, late = a_lodgment(NOW), replace(a_lodgment(NOW + timedelta(days=30)), job_id="pay-run 7")
    await _take_in(ledger, early, late)

    async def find(text: str) -> list[UUID]:
        async with ledger.transaction(read_only=True) as tx:
            return [found.id for found in await lodgments.find(tx, text)]

    for text in (str(late.id), late.id.hex, str(late.id).upper(), late.reference, "pay-run 7", str(late.id)[:8]):
        assert await find(text) == [late.id], text
    for text in (str(late.id)[:7], "zzzzzzzz", "", "pay-run", "\0", str(fresh_id())):
        assert await find(text) == [], text
    assert await find(str(early.id)[:18]) == [early.id]


async def test_says_who_is_blocked_in_a_lane_and_whose_turn_it_is(ledger: Ledger) -> None:
    first, second, third = (replace(a_lodgment(NOW + timedelta(hours=n)), order_key="lane") for n in range(3))
    second, third = parked(second, LANE_TURN), parked(third, LANE_TURN)
    loner, unordered = replace(a_lodgment(), order_key="other lane"), a_lodgment(NOW + timedelta(days=1))
    everyone = [first, second, third, loner, unordered]
    await _take_in(ledger, *everyone)

    async def look() -> tuple[set[UUID], list[Lodgment]]:
        async with ledger.transaction(read_only=True) as tx:
            blocked = await lodgments.blocked_in_lane(tx, [item.id for item in everyone])
            return blocked, await lodgments.next_in_lane(tx, ["lane", "other lane", "no lane"])

    assert await look() == ({second.id, third.id}, [])
    await _move(ledger, (first, first.moved(State.REJECTED)))
    assert await look() == ({third.id}, [second])
    await _move(ledger, (second, second.moved(State.HELD)))
    assert await look() == ({third.id}, [])


async def test_lets_nothing_overtake_in_a_lane_what_was_sent_though_it_was_taken_in_later(ledger: Ledger) -> None:
    earlier, later = (replace(a_lodgment(NOW + timedelta(hours=n)), order_key="lane") for n in range(2))
    sent = replace(later, state=State.AWAITING, resume=State.RECEIVED, sent_at=NOW, attempts=1)
    await _take_in(ledger, replace(earlier, state=State.SEALED), sent)
    async with ledger.transaction(read_only=True) as tx:
        assert await lodgments.blocked_in_lane(tx, [earlier.id, sent.id]) == {earlier.id}


async def test_gives_out_what_is_due_longest_due_first(ledger: Ledger) -> None:
    items = [replace(a_lodgment(), due_at=NOW + timedelta(minutes=n)) for n in (3, 1, 2, 30)]
    asleep = replace(a_lodgment(), state=State.HELD, due_at=None)
    await _take_in(ledger, *items, asleep)
    async with ledger.transaction() as tx:
        assert await lodgments.due(tx, NOW, 10) == []
        assert await lodgments.due(tx, NOW + timedelta(minutes=3), 10) == [items[1], items[2], items[0]]
        assert await lodgments.due(tx, NOW + timedelta(minutes=3), 2) == [items[1], items[2]]


async def test_gives_what_is_due_to_one_scheduler_only(postgresql_ledger: Ledger) -> None:
    items = [replace(a_lodgment(), due_at=NOW + timedelta(seconds=n)) for n in range(6)]
    await _take_in(postgresql_ledger, *items)
    async with postgresql_ledger.transaction() as one, postgresql_ledger.transaction() as two:
        assert await lodgments.due(one, SOON, 4) == items[:4]
        assert await lodgments.due(two, SOON, 4) == items[4:]


async def test_finds_who_waits_for_a_token(ledger: Ledger) -> None:
    key, other_key = TokenKeyHash("a" * 64), TokenKeyHash("b" * 64)
    waiting = [replace(parked(a_lodgment(NOW + timedelta(hours=n)), TOKEN_REQUESTED), token_key=key) for n in range(3)]
    strangers = [
        replace(waiting[0], id=fresh_id(), job_id="1", reference=a_lodgment().reference, token_key=other_key),
        replace(parked(a_lodgment(), "channel.outage"), token_key=key),
        replace(a_lodgment(), token_key=key),
    ]
    await _take_in(ledger, *strangers, *waiting)
    async with ledger.transaction(read_only=True) as tx:
        assert await lodgments.waiting_for_token(tx, [key], 10) == waiting
        assert await lodgments.waiting_for_token(tx, [key], 2) == waiting[:2]


async def test_wakes_what_a_dead_process_had_in_hand(ledger: Ledger) -> None:
    in_hand = {State.RECEIVED, State.AUTHORISED, State.SEALED, State.SENDING}
    asleep = {*FINAL, State.HELD}
    items = [replace(a_lodgment(), state=state, due_at=None if state in asleep else SOON) for state in State]
    await _take_in(ledger, *items)
    async with ledger.transaction() as tx:
        assert await lodgments.wake_everything(tx, NOW) == len(in_hand)
        assert {item.state for item in await lodgments.due(tx, NOW, 100)} == in_hand


async def test_postpones_without_moving_and_lets_sleepers_sleep(ledger: Ledger) -> None:
    busy, held = a_lodgment(), replace(a_lodgment(), state=State.HELD, due_at=None)
    await _take_in(ledger, busy, held)
    later = SOON + timedelta(hours=1)
    async with ledger.transaction() as tx:
        await lodgments.postpone(tx, [busy.id, held.id], later)
    assert await _load(ledger, busy, held) == [replace(busy, due_at=later), held]
