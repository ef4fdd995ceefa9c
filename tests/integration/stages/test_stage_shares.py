"""Fair shares through the stages: whose jobs wait at the door, and who is taken in first when there is room."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import date, timedelta
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from pipeline.broker.port import Delivery
from pipeline.gateway.documents import DocumentStore
from pipeline.ledger import lodgments, quarantine, waiting_jobs
from pipeline.ledger.quarantine import Quarantined
from pipeline.ledger.tables import waiting_job
from pipeline.lodgment.errors import DependencyDownError
from pipeline.lodgment.lodgment import Lodgment
from pipeline.lodgment.shares import SharePolicy
from pipeline.lodgment.states import State, Step
from pipeline.stages.admit import Admit
from pipeline.stages.contract import Context, Settled
from pipeline.stages.receive import Receive
from pipeline.stages.waiting_room import WaitingRoom
from tests.doubles.jobs import job
from tests.integration.stages.conftest import drive
from tests.integration.stages.test_stage_receive import pushed

if TYPE_CHECKING:
    from pipeline.broker.port import Outgoing
    from tests.integration.stages.conftest import Bench

POLICY = SharePolicy(each=timedelta(seconds=1), burst=timedelta(seconds=10.5), room=16, room_alone=26)
IN_HAND = timedelta(seconds=30)
ALONE_AFTER = timedelta(seconds=3)
LEAST_EVERY = timedelta(seconds=1)
DELIVERY_LIMIT = 4


def context(bench: "Bench") -> Context:
    return replace(bench.context(), shares=POLICY)


def receive(bench: "Bench") -> Receive:
    return Receive(context(bench), DocumentStore((), 50_000_000), "")


def room_of(bench: "Bench") -> WaitingRoom:
    return WaitingRoom(context(bench), DELIVERY_LIMIT)


def door(bench: "Bench") -> Admit:
    return Admit(context(bench), receive(bench), room_of(bench))


def jobs_of(sender: str, *job_ids: str) -> list[Delivery]:
    return pushed(*(job(job_id, sender={"id": sender, "type": "REGA"}) for job_id in job_ids))


def many(name: str, number: int) -> list[str]:
    return [f"{name}-{each:02}" for each in range(number)]


async def come(bench: "Bench", sender: str, *job_ids: str) -> "list[Outgoing]":
    return await drive(door(bench), jobs_of(sender, *job_ids))


async def taken_in(bench: "Bench", *job_ids: str) -> list[Lodgment]:
    async with bench.ledger.transaction(read_only=True) as tx:
        found = await lodgments.known_jobs(tx, job_ids)
    return [found[job_id] for job_id in job_ids if job_id in found]


async def still_waiting(bench: "Bench", *job_ids: str) -> set[str]:
    async with bench.ledger.transaction(read_only=True) as tx:
        return await waiting_jobs.known(tx, job_ids)


async def move_on(bench: "Bench", rows: Sequence[Lodgment]) -> None:
    """These are not under way any more."""
    async with bench.ledger.transaction() as tx:
        moves = [(row, row.moved(State.CANCELLED)) for row in rows]
        assert len(await lodgments.move(tx, moves)) == len(rows)


async def in_quarantine(bench: "Bench") -> list[Quarantined]:
    async with bench.ledger.transaction(read_only=True) as tx:
        found = [await quarantine.read(tx, one.id) for one in await quarantine.list_(tx, 10)]
    return [one for one in found if one is not None]


async def soon(room: WaitingRoom, limit: int) -> list[Delivery]:
    async with asyncio.timeout(5):
        return await room.take(limit, 0)


async def nothing_comes(room: WaitingRoom) -> bool:
    try:
        async with asyncio.timeout(0.3):
            await room.take(100, 0)
    except TimeoutError:
        return True
    return False


def ids(deliveries: Sequence[Delivery]) -> list[str]:
    return [json.loads(one.body)["job_id"] for one in deliveries]


async def test_beyond_burst_and_room_a_senders_jobs_wait_and_others_go_at_once(bench: "Bench") -> None:
    names = many("many", 40)
    told = await come(bench, "BUREAU", *names[:30]) + await come(bench, "BUREAU", *names[30:])
    assert len(told) == 16
    assert len(await taken_in(bench, *names)) == 16
    assert await still_waiting(bench, *names) == set(names[16:])
    assert [message.routing_key for message in await come(bench, "SMALL", "few")] == [Step.AUTHORISE]


async def test_nothing_is_done_with_a_job_that_waits(bench: "Bench") -> None:
    await come(bench, "BUREAU", *many("many", 20))
    broken = pushed(json.dumps({"job_id": "broken", "sender": {"id": "BUREAU"}}).encode())
    assert await drive(door(bench), broken) == []
    assert await still_waiting(bench, "broken") == {"broken"}


async def test_jobs_that_do_not_say_whose_they_are_share_what_one_sender_has(bench: "Bench") -> None:
    batch = pushed(*(b"{}", b"not JSON", b'{"sender": {"id": "a\\u0000b"}}', b"[" * 100_000) * 5)
    told = await drive(door(bench), batch)
    assert len([message for message in told if json.loads(message.body)["event"] == "refused"]) == 16


async def test_who_waits_is_taken_by_turns_whoever_came_first(bench: "Bench") -> None:
    await come(bench, "BUREAU", *many("many", 36))
    await come(bench, "MIDDLE", *many("some", 13))
    await move_on(bench, await taken_in(bench, *many("many", 36), *many("some", 13)))
    room = await room_of(bench).opened()
    taken = ids(await soon(room, 7))
    # The line stood at the bureau's first when the other came, ten small jobs of which went at once.
    assert [name for name in taken if name.startswith("some")] == []
    taken += ids(await soon(room, 10))
    assert [name for name in taken if name.startswith("some")] == many("some", 13)[10:]
    assert [name for name in taken if name.startswith("many")] == many("many", 30)[16:]


async def test_there_is_room_again_once_enough_have_gone_on(bench: "Bench") -> None:
    await come(bench, "BUREAU", *many("many", 36))
    rows = await taken_in(bench, *many("many", 16))
    room = await room_of(bench).opened()
    await soon(room, 100)  # however little room there is, a few go now and then
    await move_on(bench, rows[:3])
    assert await nothing_comes(room)
    await move_on(bench, rows[3:7])
    assert len(await soon(room, 100)) == 7


async def test_with_no_room_at_all_turns_come_all_the_same(bench: "Bench") -> None:
    await come(bench, "BUREAU", *many("many", 36))
    room = await room_of(bench).opened()
    assert ids(await soon(room, 100)) == many("many", 36)[16:17]


async def test_those_who_wait_have_more_room_while_nobody_lodges(bench: "Bench") -> None:
    await come(bench, "BUREAU", *many("many", 36))
    room = await room_of(bench).opened()
    assert len(await soon(room, 100)) == 1
    bench.now += ALONE_AFTER
    assert len(await soon(room, 100)) == 10
    room.jobs_came()
    bench.now += LEAST_EVERY
    assert len(await soon(room, 100)) == 1


async def test_what_was_taken_in_waits_no_more_and_what_was_given_back_comes_again_first(bench: "Bench") -> None:
    names = many("many", 36)
    await come(bench, "BUREAU", *names)
    await move_on(bench, await taken_in(bench, *names))
    first = await room_of(bench).opened()
    taken = await soon(first, 4)
    await first.ack(taken[:2])
    await first.close()
    assert await soon(first, 4) == []
    assert await still_waiting(bench, *names) == set(names[18:])
    second = await room_of(bench).opened()
    assert ids(await soon(second, 3)) == names[18:21]


async def test_what_a_dead_process_has_in_hand_is_not_overtaken(bench: "Bench") -> None:
    names = many("many", 36)
    await come(bench, "BUREAU", *names)
    await move_on(bench, await taken_in(bench, *names))
    dead = await room_of(bench).opened()
    assert ids(await soon(dead, 4)) == names[16:20]
    heir = await room_of(bench).opened()
    assert await nothing_comes(heir)
    bench.now += IN_HAND
    assert ids(await soon(heir, 6)) == names[16:22]


async def test_two_intakes_never_have_the_same_job_in_hand(bench: "Bench") -> None:
    await come(bench, "BUREAU", *many("many", 36))
    await move_on(bench, await taken_in(bench, *many("many", 36)))
    one, other = [await room_of(bench).opened() for _ in range(2)]
    assert set(ids(await soon(one, 5))).isdisjoint(ids(await soon(other, 5)))


async def test_a_large_document_waits_alone_in_a_hand(bench: "Bench") -> None:
    big = {"reference": "file:/nowhere", "size": 5_000_000, "sha256": "0" * 64}
    batch = [
        *jobs_of("BUREAU", *many("many", 18)),
        *pushed(job("large", sender={"id": "BUREAU", "type": "REGA"}, payload=big)),
        *jobs_of("BUREAU", "after"),
    ]
    await drive(door(bench), batch)
    await move_on(bench, await taken_in(bench, *many("many", 18)))
    room = await room_of(bench).opened()
    assert ids(await soon(room, 10)) == ["many-16", "many-17", "large"]
    assert ids(await soon(room, 10)) == ["after"]


async def test_a_damaged_job_is_kept_as_it_is_stored_and_stops_nobody(bench: "Bench") -> None:
    await come(bench, "BUREAU", *many("many", 18))
    await move_on(bench, await taken_in(bench, *many("many", 18)))
    async with bench.ledger.transaction() as tx:
        damage = sa.update(waiting_job).where(waiting_job.c.job_id == "many-16").values(body=b"damaged")
        await tx.connection.execute(damage)
    room = await room_of(bench).opened()
    taken = await soon(room, 10)
    assert ids(taken) == ["many-17"]
    told = await drive(receive(bench), taken)
    assert {message.routing_key.split(".")[0] for message in told} == {Step.AUTHORISE}
    [kept] = await in_quarantine(bench)
    assert (kept.code, kept.step, kept.job_id, kept.body) == ("vault.damaged", Step.RECEIVE, "many-16", b"damaged")
    assert await still_waiting(bench, "many-16") == set()


async def test_a_job_that_kills_its_process_each_time_takes_no_other_with_it_into_quarantine(bench: "Bench") -> None:
    """Processes die with what they have in hand; the third of the line is what they die of."""
    names = many("many", 20)
    await come(bench, "BUREAU", *names)
    await move_on(bench, await taken_in(bench, *names))
    hands: list[list[str]] = []
    room = await room_of(bench).opened()
    while await still_waiting(bench, *names):
        taken = await soon(room, 10)
        hands.append(ids(taken))
        if names[18] in hands[-1]:
            bench.now += IN_HAND
            room = await room_of(bench).opened()
        else:
            await room.ack(taken)
    assert hands[:2] == [names[16:20]] * 2
    assert hands[2:] == [[names[16]], [names[17]], [names[18]], [names[18]], [names[19]]]
    assert sum(names[18] in hand for hand in hands) == DELIVERY_LIMIT
    [kept] = await in_quarantine(bench)
    assert (kept.code, kept.step, kept.job_id) == ("delivery.limit", Step.RECEIVE, names[18])
    assert json.loads(kept.body)["job_id"] == names[18]


async def test_what_was_given_back_in_order_was_in_nobodys_hands(bench: "Bench") -> None:
    names = many("many", 20)
    await come(bench, "BUREAU", *names)
    await move_on(bench, await taken_in(bench, *names))
    for _ in range(DELIVERY_LIMIT + 1):
        room = await room_of(bench).opened()
        assert ids(await soon(room, 10)) == names[16:]
        await room.close()
    assert await in_quarantine(bench) == []


async def test_a_batch_that_is_handled_again_keeps_its_order(bench: "Bench") -> None:
    """The first time the ledger is lost between those that go at once and those that wait."""

    class Failing:
        step = Step.RECEIVE

        async def handle(self, batch: Sequence[Delivery]) -> AsyncIterator[Settled]:
            raise DependencyDownError("ledger.down", "lost")
            yield Settled(tuple(batch))

    names = many("many", 20)
    batch = jobs_of("BUREAU", *names)
    with pytest.raises(DependencyDownError):
        await drive(Admit(context(bench), Failing(), room_of(bench)), batch)
    assert await still_waiting(bench, *names) == set()
    await drive(door(bench), batch)
    gone = await taken_in(bench, *names)
    assert [row.job_id for row in gone] == names[: len(gone)]
    assert await still_waiting(bench, *names) == set(names[len(gone) :])


async def test_of_those_taken_in_together_the_least_slack_goes_first(bench: "Bench") -> None:
    batch = pushed(job("late"), job("soon", due_date="2026-01-05"), job("sooner", due_date="2026-01-04"))
    told = await drive(receive(bench), batch)
    order = [json.loads(message.body)["lodgment"] for message in told]
    rows = {row.job_id: str(row.id) for row in await taken_in(bench, "late", "soon", "sooner")}
    assert order == [rows["sooner"], rows["soon"], rows["late"]]
    assert (await taken_in(bench, "soon"))[0].due_date == date(2026, 1, 5)
