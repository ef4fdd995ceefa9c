"""authorise: one request in flight for each key, and no storm whatever the token service says."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from pipeline.channels.asic_bn import AsicBusinessNames
from pipeline.ledger import tokens
from pipeline.lodgment.decisions import RetryPolicy
from pipeline.lodgment.failures import Blast, Failure, FailureClass, Party
from pipeline.lodgment.lodgment import OPERATOR_RELEASED, TOKEN_REQUESTED, Lodgment, Reason
from pipeline.lodgment.references import TokenKey
from pipeline.lodgment.states import State, Step
from pipeline.protocol.wstrust import SecurityToken
from pipeline.stages.authorise import Authorise
from pipeline.stages.contract import Timing
from tests.doubles.asic import make_channel, make_token
from tests.doubles.lodgments import a_lodgment
from tests.integration.stages.conftest import deliveries, drive

if TYPE_CHECKING:
    from tests.integration.stages.conftest import Bench

REVOKED = Failure(FailureClass.OUR_CREDENTIAL, "E2014", "", "It was revoked.", Party.OPERATOR, Blast.CREDENTIAL)


class Service:
    """A token service that answers when its gate is open."""

    def __init__(self, bench: "Bench", answer: Failure | None = None) -> None:
        self.gate = asyncio.Event()
        self.gate.set()
        self.reached = asyncio.Event()
        self.asked: list[TokenKey] = []
        self.under_way = 0
        self.most = 0
        self.answer = answer
        self._bench = bench

    async def ask(self, key: TokenKey) -> SecurityToken | Failure:
        self.asked.append(key)
        self.reached.set()
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            await self.gate.wait()
        finally:
            self.under_way -= 1
        return self.answer or replace(make_token(), expires_at=self._bench.now + timedelta(minutes=30))


def authorise(bench: "Bench", service: Service, *, slots: int = 8, worker: str = "one") -> Authorise:
    bench.channel = make_channel()
    return Authorise(bench.context(worker), service, RetryPolicy(), slots)


async def received(bench: "Bench", count: int, credential: str = "one") -> list[Lodgment]:
    rows = [replace(a_lodgment(), credential=credential) for _ in range(count)]
    await bench.add(*rows)
    return rows


async def states(bench: "Bench", rows: Sequence[Lodgment]) -> set[State]:
    return {(await bench.lodgment(row)).state for row in rows}


async def test_a_revoked_credential_is_asked_about_once_and_holds_all_that_follows(bench: "Bench") -> None:
    service = Service(bench, REVOKED)
    stage = authorise(bench, service)
    for _ in range(5):
        rows = await received(bench, 3)
        await drive(stage, deliveries(Step.AUTHORISE, *rows))
        assert await states(bench, rows) == {State.HELD}
        reason = (await bench.lodgment(rows[-1])).reason
        assert reason is not None
        assert (reason.code, reason.who) == ("E2014", Party.OPERATOR)
    assert len(service.asked) == 1
    bench.now += timedelta(minutes=2)
    await drive(stage, deliveries(Step.AUTHORISE, *await received(bench, 3)))
    assert len(service.asked) == 2


async def test_what_an_operator_releases_is_asked_for_at_once(bench: "Bench") -> None:
    service = Service(bench, REVOKED)
    stage = authorise(bench, service)
    [row] = await received(bench, 1)
    await drive(stage, deliveries(Step.AUTHORISE, row))
    held = await bench.lodgment(row)
    service.answer = None
    await bench.moved(held, held.moved(State.RECEIVED, due_at=bench.now, reason=Reason(OPERATOR_RELEASED, "Mended.")))
    await drive(stage, deliveries(Step.AUTHORISE, row))
    assert (await bench.lodgment(row)).state is State.AUTHORISED


async def test_a_token_that_the_agency_refused_is_replaced_at_once(bench: "Bench") -> None:
    service = Service(bench)
    stage = authorise(bench, service)
    [row] = await received(bench, 1)
    await drive(stage, deliveries(Step.AUTHORISE, row))
    authorised = await bench.lodgment(row)
    assert authorised.token_key is not None
    assert authorised.token_expires_at is not None
    async with bench.ledger.transaction() as tx:
        await tokens.discard(tx, authorised.token_key, authorised.token_expires_at)
    again = await received(bench, 2)
    await drive(stage, deliveries(Step.AUTHORISE, *again))
    assert await states(bench, again) == {State.AUTHORISED}
    assert len(service.asked) == 2


async def test_a_request_that_waits_for_its_slot_does_not_wear_out_its_lease(bench: "Bench") -> None:
    """Two workers, one slot each, two keys, and a service slower than a lease: no key is asked for twice at a time."""
    slow, quick = Service(bench), Service(bench)
    slow.gate.clear()
    first = authorise(bench, slow, slots=1)
    other = authorise(bench, quick, worker="other")
    rows = [*await received(bench, 1, "one"), *await received(bench, 1, "two")]
    working = asyncio.create_task(drive(first, deliveries(Step.AUTHORISE, *rows)))
    await asyncio.wait_for(slow.reached.wait(), 30)
    bench.now += timedelta(seconds=50)  # the second key's lease would be nearly over, had it been taken already
    waiting = next(row for row in rows if row.credential != slow.asked[0].credential)
    more = await received(bench, 1, waiting.credential)
    await drive(other, deliveries(Step.AUTHORISE, *more))
    assert [key.credential for key in quick.asked] == [waiting.credential]
    slow.gate.set()
    await working
    assert await states(bench, [*rows, *more]) == {State.AUTHORISED}
    assert len(slow.asked) == 1


async def test_a_request_never_outlasts_its_lease(bench: "Bench") -> None:
    service = Service(bench)
    service.gate.clear()
    bench.timing = Timing(token_wait=timedelta(milliseconds=50))
    stage = authorise(bench, service)
    [row] = await received(bench, 1)
    await drive(stage, deliveries(Step.AUTHORISE, row))
    parked = await bench.lodgment(row)
    assert parked.reason is not None
    assert (parked.state, parked.reason.code) == (State.PARKED, "sts.timeout")
    assert service.under_way == 0


async def test_while_one_worker_asks_the_others_wait_for_its_answer(bench: "Bench") -> None:
    service = Service(bench)
    service.gate.clear()
    stage, other = authorise(bench, service), authorise(bench, service, worker="other")
    [row] = await received(bench, 1)
    working = asyncio.create_task(drive(stage, deliveries(Step.AUTHORISE, row)))
    await asyncio.wait_for(service.reached.wait(), 30)
    more = await received(bench, 20)
    await drive(other, deliveries(Step.AUTHORISE, *more))
    assert await states(bench, more) == {State.PARKED}
    reasons = [(await bench.lodgment(one)).reason for one in more]
    assert {reason and reason.code for reason in reasons} == {TOKEN_REQUESTED}
    service.gate.set()
    told = await working
    assert await states(bench, [row, *more]) == {State.AUTHORISED}
    assert len([message for message in told if message.routing_key == Step.SEAL]) == 21
    assert (len(service.asked), service.most) == (1, 1)


@pytest.mark.parametrize("difference", ["environment", "credential", "applies_to", "claims", "key_size"])
def test_whatever_makes_tokens_differ_makes_their_keys_differ(difference: str) -> None:
    channel = make_channel()
    assert isinstance(channel, AsicBusinessNames)
    key = channel.token_key(a_lodgment())
    assert key is not None
    changed: object = {"claims": (), "key_size": 256}.get(difference, "another")
    assert replace(key, **{difference: changed}).hash() != key.hash()  # type: ignore[arg-type]  # one field by name
