"""Replays in the ledger: the frozen list, who may have a lodgment, and what a hundred thousand of them cost."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from uuid import UUID

import pytest

from pipeline.ledger import lodgments, replay_items, replay_plan, replay_reports, replays
from pipeline.ledger.lodgment_rows import NewLodgment
from pipeline.ledger.replay_items import Mark
from pipeline.ledger.session import Ledger
from pipeline.lodgment.lodgment import Lodgment, Reason
from pipeline.lodgment.replay import Known, Mode, known, rule
from pipeline.lodgment.replay_run import End, ItemState, Recent, Replay, ReplayState, cancelled, started
from pipeline.lodgment.selection import Condition, read_conditions
from pipeline.lodgment.states import State
from tests.doubles.lodgments import NOW, a_lodgment, fresh_id
from tests.doubles.plans import noted, pages, plan
from tests.doubles.standings import every_standing, in_standing
from tests.integration.ledger.samples import new

MARGIN = timedelta(seconds=230)
GOOD_UNTIL = NOW + MARGIN
EVERYTHING = read_conditions(["channel=asic_bn"])


def held(code: str = "E1", **changes: object) -> Lodgment:
    row = in_standing(State.HELD, code, sent=True, held_over=False, known_there=False, envelope=True, token=None)
    return replace(row, **changes)  # type: ignore[arg-type]  # fields by name


def a_replay(mode: Mode = Mode.SAFEST) -> Replay:
    return Replay(fresh_id(), NOW, "ana@desk", "mended", "synthetic", mode)


async def store(ledger: Ledger, rows: Sequence[Lodgment]) -> None:
    for start in range(0, len(rows), 1000):
        async with ledger.transaction() as tx:
            await lodgments.add(tx, new(rows[start : start + 1000]))


async def frozen(
    ledger: Ledger,
    mode: Mode = Mode.SAFEST,
    conditions: Sequence[Condition] = EVERYTHING,
    jobs: list[str] | None = None,
) -> Replay:
    one = a_replay(mode)
    async with ledger.transaction() as tx:
        await replays.add(tx, one)
        await replay_plan.freeze(tx, one, conditions, jobs, GOOD_UNTIL)
        groups = await replay_plan.groups(tx, one.id)
        total = sum(found.count for found in groups if found.state is ItemState.WAITING)
        one = replace(one, total=total, barred=sum(found.count for found in groups) - total)
        await replays.change(tx, one)
    return one


async def listed(ledger: Ledger, one: Replay) -> dict[UUID, replay_reports.Item]:
    async with ledger.transaction(read_only=True) as tx:
        return {item.lodgment_id: item for item in await replay_reports.list_(tx, one.id, None, 10_000)}


@pytest.mark.parametrize("mode", list(Mode))
async def test_the_list_says_of_every_standing_what_the_rule_says(sqlite_ledger: Ledger, mode: Mode) -> None:
    rows = list(every_standing())
    await store(sqlite_ledger, rows)
    items = await listed(sqlite_ledger, await frozen(sqlite_ledger, mode))
    assert items.keys() == {row.id for row in rows}
    for row in rows:
        ruling = rule(row, mode, NOW, MARGIN)
        item = items[row.id]
        assert (item.known, item.was_state, item.was_code) == (known(row), row.state, row.reason and row.reason.code)
        assert (item.state is ItemState.WAITING) == (ruling.mode is not None), row


async def test_postgresql_freezes_the_same_list(postgresql_ledger: Ledger) -> None:
    rows = list(every_standing())[::7]
    await store(postgresql_ledger, rows)
    items = await listed(postgresql_ledger, await frozen(postgresql_ledger))
    found = {row.id: (known(row), rule(row, Mode.SAFEST, NOW, MARGIN).mode is not None) for row in rows}
    assert {key: (item.known, item.state is ItemState.WAITING) for key, item in items.items()} == found


SELECTED = {
    "state=held": {"a", "b"},
    "state=held and code=E*": {"a"},
    "state!=held": {"c"},
    "code!=E1": {"b", "c"},
    "code=E1,Z*": {"a", "b"},
    "code=E_": set(),
    "abn=11000002568": {"b"},
    "sender=OTHER": {"c"},
    "service=business-names and action=bnLodgeApplication and credential=ABRD*": {"a", "b", "c"},
    "who=operator": {"b"},
    "label.batch=tonight": {"a"},
    "label.batch!=tonight": {"b", "c"},
    "label.none=tonight": set(),
    "received>=2026-11-24T00:00Z": {"c"},
    "received<2026-11-24T00:00Z": {"a", "b"},
    "finished>=2026-11-24T00:00+11:00": {"c"},
    "due>=2026-12-01 and due<2026-12-02": {"b"},
    "job=job-a,job-b": {"a", "b"},
}


async def test_conditions_choose_by_everything_that_the_ledger_knows(ledger: Ledger) -> None:
    from pipeline.lodgment.failures import Party

    moment = datetime(2026, 11, 24, 12, tzinfo=UTC)
    rows = {
        "a": held(job_id="job-a"),
        "b": held(
            job_id="job-b",
            party_abn="11000002568",
            due_date=date(2026, 12, 1),
            reason=Reason("Z9", "synthetic", Party.OPERATOR),
        ),
        "c": replace(
            a_lodgment(),
            job_id="job-c",
            sender_id="OTHER",
            state=State.ACCEPTED,
            due_at=None,
            received_at=moment,
            finished_at=moment,
        ),
    }
    names = {row.id: name for name, row in rows.items()}
    async with ledger.transaction() as tx:
        labels = {"a": {"batch": "tonight"}, "b": {"batch": "yesterday"}, "c": {}}
        await lodgments.add(tx, [NewLodgment(row, "{}", labels[name]) for name, row in rows.items()])
    chosen = {}
    for text in SELECTED:
        one = await frozen(ledger, conditions=read_conditions([text]))
        chosen[text] = {names[key] for key in await listed(ledger, one)}
    assert chosen == SELECTED
    one = await frozen(ledger, conditions=(), jobs=["job-b", "job-of-nobody"])
    assert {names[key] for key in await listed(ledger, one)} == {"b"}


async def test_a_lodgment_is_in_one_open_replay_and_free_again_when_that_is_cancelled(ledger: Ledger) -> None:
    row = held()
    await store(ledger, [row])
    first = await frozen(ledger)
    second = await frozen(ledger)
    assert (first.total, second.total, second.barred) == (1, 0, 1)
    assert (await listed(ledger, second))[row.id].known is Known.CLAIMED
    async with ledger.transaction() as tx:
        locked = await replays.lock(tx, first.id)
        assert locked is not None
        await replays.change(tx, cancelled(locked, NOW))
        assert await replay_items.drop(tx, first.id) == 1
    assert (await frozen(ledger)).total == 1


async def test_of_two_plans_in_the_same_instant_one_gets_the_lodgment(postgresql_ledger: Ledger) -> None:
    await store(postgresql_ledger, [held() for _ in range(20)])
    made = await asyncio.gather(*(frozen(postgresql_ledger) for _ in range(4)))
    assert sum(one.total for one in made) == 20


async def test_what_was_lodged_again_is_not_lodged_again(ledger: Ledger) -> None:
    rejected = in_standing(
        State.REJECTED, "E1", sent=True, held_over=False, known_there=True, envelope=True, token=None
    )
    await store(ledger, [rejected, a_lodgment()])
    first = await frozen(ledger, Mode.NEW_REFERENCE)
    assert first.total == 1
    async with ledger.transaction() as tx:
        mark = Mark(rejected.id, ItemState.STARTED, Known.REJECTED, Mode.NEW_REFERENCE, rejected.id)
        await replay_items.mark(tx, first, [mark], NOW)
        await replay_items.end(tx, first.id, [(rejected.id, End(State.ACCEPTED, None, failed=False))], NOW)
    again = await frozen(ledger, Mode.NEW_REFERENCE)
    assert (await listed(ledger, again))[rejected.id].known is Known.LODGED_AGAIN


async def test_nothing_starts_under_new_references_in_the_ledger_that_nobody_approved(ledger: Ledger) -> None:
    from pipeline.lodgment.errors import RefusedError

    rejected = in_standing(
        State.REJECTED, "E1", sent=True, held_over=False, known_there=True, envelope=True, token=None
    )
    await store(ledger, [rejected])
    one = await frozen(ledger, Mode.NEW_REFERENCE)
    forced = replace(one, state=ReplayState.RUNNING, started_at=NOW, started_by="ana@desk")
    with pytest.raises(RefusedError, match="approval") as refusal:
        async with ledger.transaction() as tx:
            await replays.change(tx, forced)
    assert refusal.value.code == "ledger.refused"


async def test_a_replay_that_one_scheduler_has_is_left_out_by_another(postgresql_ledger: Ledger) -> None:
    await store(postgresql_ledger, [held()])
    one = await frozen(postgresql_ledger)
    async with postgresql_ledger.transaction() as tx:
        await replays.change(tx, started(one, "ana@desk", NOW, None, None))
    async with postgresql_ledger.transaction() as first, postgresql_ledger.transaction() as second:
        assert (await replays.take(first, None)) is not None
        assert (await replays.take(second, None)) is None


async def test_the_last_that_ended_are_counted_by_code_in_their_stage_and_since_somebody_looked(ledger: Ledger) -> None:
    rows = [held() for _ in range(6)]
    await store(ledger, rows)
    one = replace(started(await frozen(ledger), "ana@desk", NOW, None, None), stage=1)
    ends = [
        (NOW - timedelta(minutes=1), End(State.HELD, "E1", failed=True)),
        (NOW, End(State.HELD, "E1", failed=True)),
        (NOW, End(State.PARKED, "E1", failed=True)),
        (NOW, End(State.HELD, "E2", failed=True)),
        (NOW, End(State.ACCEPTED, None, failed=False)),
    ]
    async with ledger.transaction() as tx:
        marks = [Mark(row.id, ItemState.STARTED, Known.SENT_BEFORE, Mode.SAME_BYTES) for row in rows]
        await replay_items.mark(tx, one, marks[:5], NOW)
        await replay_items.mark(tx, replace(one, stage=0), marks[5:], NOW)
        for row, (at, end) in zip(rows, ends, strict=False):
            await replay_items.end(tx, one.id, [(row.id, end)], at)
        await replay_items.end(tx, one.id, [(rows[5].id, End(State.HELD, "E1", failed=True))], NOW)
        assert await replay_items.recent(tx, one, 100) == Recent(4, {"E1": 2, "E2": 1})
        results = await replay_reports.results(tx, one.id)
    assert {(found.state, found.code, found.again, found.count) for found in results} == {
        (State.HELD, "E1", True, 3),
        (State.PARKED, "E1", True, 1),
        (State.HELD, "E2", False, 1),
        (State.ACCEPTED, None, False, 1),
    }


async def test_planning_is_one_statement_and_a_portion_costs_the_same_however_long_the_list(
    postgresql_ledger: Ledger,
) -> None:
    """Statements and pages read, on PostgreSQL: with a hundred and with three thousand on the list, at its end."""
    cost = {}
    for size in (100, 3_000):
        rows = [held(code=f"size-{size}") for _ in range(size)]
        await store(postgresql_ledger, rows)
        one = a_replay()
        async with postgresql_ledger.transaction() as tx:
            await replays.add(tx, one)
            with noted(tx) as statements:
                await replay_plan.freeze(tx, one, read_conditions([f"code=size-{size}"]), None, GOOD_UNTIL)
            assert len(statements) == 1
            [group] = await replay_plan.groups(tx, one.id)
            assert (group.count, group.state) == (size, ItemState.WAITING)
        async with postgresql_ledger.transaction() as tx:
            await tx.connection.exec_driver_sql("ANALYZE lodgment, replay_item")
            await tx.connection.exec_driver_sql("SET LOCAL plan_cache_mode = force_generic_plan")
            ids = sorted(row.id for row in rows)
            one = replace(one, cursor=ids[-51], judged_since=NOW)
            with noted(tx) as statements:
                portion = await replay_items.portion(tx, one, 20)
                await replay_items.settled(tx, one.id, NOW, 500)
                await replay_items.recent(tx, one, 1000)
            assert [row.id for row in portion] == ids[-50:-30]
            assert len(statements) == 3
            cost[size] = await pages(tx, statements)
            sequential = scans(await plan(tx, statements[0]))
    assert not sequential
    assert cost[3_000] <= cost[100] * 2 + 50, cost


def scans(found: dict[str, object]) -> list[str]:
    """The tables that a plan reads from one end to the other."""
    below = found.get("Plans")
    inner = [name for part in below for name in scans(part)] if isinstance(below, list) else []
    return [*inner, str(found["Relation Name"])] if found["Node Type"] == "Seq Scan" else inner
