"""Jobs that wait for their sender's turn: sealed, in line, and looked up at a cost that does not grow with a bureau."""

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from pipeline.interfaces.cli.find import the_lodgment
from pipeline.ledger import lodgments, recovery, shares, waiting_jobs
from pipeline.ledger.lodgment_rows import NewLodgment
from pipeline.ledger.recovery import KnownJobs
from pipeline.ledger.tables import waiting_job
from pipeline.ledger.waiting_jobs import WaitingJob
from pipeline.lodgment.errors import RefusedError
from pipeline.lodgment.shares import SHARE_TURN, Line
from pipeline.lodgment.states import State
from tests.doubles.lodgments import NOW, a_lodgment, fresh_id
from tests.doubles.plans import noted, pages

if TYPE_CHECKING:
    from pipeline.ledger.session import Ledger

SECOND = timedelta(seconds=1)
LATER = NOW + 30 * SECOND
LARGE = 1024 * 1024
_MANY = 12_000
_FEW_PAGES = 120


def waiting(number: int, sender: str = "BUREAU", size: int = 100) -> WaitingJob:
    body = b'{"job_id": "synthetic"}' * 20
    return WaitingJob(fresh_id(), sender, f"{sender}-{number}", NOW + number * SECOND, size, NOW, f"m-{number}", body)


async def test_a_job_comes_back_as_it_was_and_is_sealed_meanwhile(ledger: "Ledger") -> None:
    kept = waiting(1)
    async with ledger.transaction() as tx:
        await waiting_jobs.add(tx, [kept])
        stored = bytes((await tx.connection.execute(sa.select(waiting_job.c.body))).scalar_one())
        assert b"synthetic" not in stored
        assert await waiting_jobs.take(tx, NOW, LATER, 10, LARGE) == [kept]


async def test_the_line_says_who_waits_and_where_it_begins(ledger: "Ledger") -> None:
    async with ledger.transaction() as tx:
        await shares.lock(tx, {"BUREAU": NOW, "SMALL": NOW})
        assert await waiting_jobs.line(tx, {"BUREAU", "SMALL"}) == Line(None, frozenset())
        assert not await waiting_jobs.any_waits(tx)
        await waiting_jobs.add(tx, [waiting(2), waiting(1)])
        assert await waiting_jobs.line(tx, {"BUREAU", "SMALL"}) == Line(NOW + SECOND, frozenset({"BUREAU"}))
        assert await waiting_jobs.line(tx, {"SMALL"}) == Line(NOW + SECOND, frozenset())


async def test_what_is_in_hand_is_nobody_elses_until_its_time_is_over(ledger: "Ledger") -> None:
    async with ledger.transaction() as tx:
        await waiting_jobs.add(tx, [waiting(number) for number in range(5)])
        first = await waiting_jobs.take(tx, NOW, LATER, 2, LARGE)
        assert [one.job_id for one in await waiting_jobs.take(tx, NOW, LATER, 2, LARGE)] == ["BUREAU-2", "BUREAU-3"]
        assert await waiting_jobs.in_hands_until(tx) == LATER
        again = await waiting_jobs.take(tx, LATER, LATER + SECOND, 2, LARGE)
        assert again == [replace(one, takes=1) for one in first]
        await waiting_jobs.remove(tx, [one.id for one in again])
        await waiting_jobs.give_all_back(tx)
        assert await waiting_jobs.in_hands_until(tx) is None
        assert await waiting_jobs.known(tx, ["BUREAU-0", "BUREAU-2", "never"]) == {"BUREAU-2"}


async def test_no_more_bytes_are_taken_than_asked_for_but_for_one_job(ledger: "Ledger") -> None:
    async with ledger.transaction() as tx:
        await waiting_jobs.add(tx, [waiting(number, size=40) for number in range(5)])
        assert len(await waiting_jobs.take(tx, NOW, LATER, 5, 100)) == 3


async def test_whose_jobs_wait_is_told_the_most_first(ledger: "Ledger") -> None:
    async with ledger.transaction() as tx:
        await waiting_jobs.add(tx, [waiting(1, "MIDDLE"), *(waiting(number) for number in range(3))])
        assert [(one.sender_id, one.count) for one in await waiting_jobs.standing(tx, 10)] == [
            ("BUREAU", 3),
            ("MIDDLE", 1),
        ]


async def test_who_asks_for_a_job_that_waits_is_told_that_it_does(ledger: "Ledger") -> None:
    async with ledger.transaction() as tx:
        await waiting_jobs.add(tx, [waiting(1)])
        with pytest.raises(RefusedError) as refusal:
            await the_lodgment(tx, "BUREAU-1")
        assert refusal.value.code == SHARE_TURN
        found = await recovery.known(tx, ["BUREAU-1", "never"])
        assert found == KnownJobs({SHARE_TURN: 1}, [], ["never"])


async def test_only_what_is_on_its_way_counts_as_under_way(ledger: "Ledger") -> None:
    rows = [a_lodgment() for _ in range(6)]
    async with ledger.transaction() as tx:
        await lodgments.add(tx, [NewLodgment(row, "{}", {}) for row in rows])
        parked = rows[0].moved(State.PARKED, due_at=LATER, resume=State.RECEIVED)
        replayed = replace(rows[2].moved(State.AUTHORISED, due_at=LATER), replayed_at=NOW)
        cancelled = rows[1].moved(State.CANCELLED)
        assert await lodgments.move(tx, [(rows[0], parked), (rows[1], cancelled), (rows[2], replayed)])
        assert await lodgments.under_way(tx, 10) == 3
        assert await lodgments.under_way(tx, 2) == 2


async def test_a_bureaus_thousands_make_no_look_at_the_line_longer(postgresql_ledger: "Ledger") -> None:
    async with postgresql_ledger.transaction() as tx:
        await shares.lock(tx, {"BUREAU": NOW, "SMALL": NOW})
        await waiting_jobs.add(tx, [waiting(number) for number in range(_MANY)])
    async with postgresql_ledger.transaction() as tx:
        with noted(tx) as statements:
            await waiting_jobs.line(tx, {"BUREAU", "SMALL"})
            await waiting_jobs.any_waits(tx)
            await waiting_jobs.take(tx, NOW, LATER, 3, LARGE)
            await waiting_jobs.known(tx, ["BUREAU-7"])
        [(whole,)] = await tx.connection.execute(
            sa.text("SELECT pg_relation_size('waiting_job') / current_setting('block_size')::int")
        )
        assert await pages(tx, statements) < _FEW_PAGES < whole
