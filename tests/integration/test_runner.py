"""The runner against a broker that goes away and stages that fail."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from pipeline import runner as running_module
from pipeline.broker.embedded import EmbeddedBroker
from pipeline.broker.port import Delivery, Exchange, Outgoing, Subscription, later
from pipeline.lodgment.errors import DependencyDownError, RefusedError
from pipeline.lodgment.states import Step
from pipeline.runner import Pace, Runner
from pipeline.stages.contract import Settled
from pipeline.telemetry import Metrics

PACE = Pace(batch=4, first_pause=0.01, longest_pause=0.02)


class MovingOut(EmbeddedBroker):
    """Refuses the first messages of each kind that it is told to refuse."""

    def __init__(self) -> None:
        super().__init__()
        self.refusals = 0
        self.closed_doors = 0
        self.published: list[Outgoing] = []

    async def publish(self, messages: Sequence[Outgoing]) -> None:
        if self.refusals:
            self.refusals -= 1
            raise DependencyDownError("broker.down", "away")
        await super().publish(messages)
        self.published += messages

    async def subscribe(self, queue: str, prefetch: int) -> Subscription:
        if self.closed_doors:
            self.closed_doors -= 1
            raise DependencyDownError("broker.down", "away")
        return await super().subscribe(queue, prefetch)


class OneByOne:
    """Settles each delivery by itself, with a message onward, as `submit` does with replies."""

    step = Step.SUBMIT

    def __init__(self) -> None:
        self.begun = 0
        self.cut_off = 0

    async def handle(self, batch: Sequence[Delivery]) -> AsyncIterator[Settled]:
        self.begun += 1
        try:
            for delivery in batch:
                yield Settled((delivery,), (Outgoing(Exchange.STEPS, Step.RECORD, delivery.body, delivery.message_id),))
        except GeneratorExit:
            self.cut_off += 1
            raise


class Hopeless:
    """A stage that no message gets through."""

    def __init__(self, step: Step, poison: bytes) -> None:
        self.step = step
        self.handled = 0
        self._poison = poison

    async def handle(self, batch: Sequence[Delivery]) -> AsyncIterator[Settled]:
        self.handled += 1
        if any(delivery.body == self._poison for delivery in batch):
            raise RefusedError("test.poison", "always")
        yield Settled(tuple(batch))


@pytest.fixture
async def broker() -> AsyncIterator[MovingOut]:
    one = MovingOut()
    await one.open()
    yield one
    await one.close()


@asynccontextmanager
async def running(runner: Runner) -> AsyncIterator[None]:
    task = asyncio.create_task(runner.run())
    try:
        yield
    finally:
        runner.stop()
        await task


async def until(holds: Callable[[], bool]) -> None:
    deadline = asyncio.get_running_loop().time() + 30
    while asyncio.get_running_loop().time() < deadline:
        if holds():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it did not come to pass in 30 s")


def to_submit(body: bytes) -> Outgoing:
    return Outgoing(Exchange.STEPS, Step.SUBMIT, body, body.decode())


async def test_a_broker_that_goes_away_after_the_commit_does_not_cut_off_what_is_under_way(broker: MovingOut) -> None:
    await broker.publish([to_submit(b"1"), to_submit(b"2"), to_submit(b"3")])
    stage = OneByOne()
    broker.refusals = 3
    async with running(Runner(stage, broker, PACE, Metrics())):
        await until(lambda: sum(m.routing_key == Step.RECORD for m in broker.published) == 3)
    assert (stage.begun, stage.cut_off) == (1, 0)


async def test_told_to_stop_while_the_broker_is_away_it_finishes_what_is_under_way(broker: MovingOut) -> None:
    await broker.publish([to_submit(b"1"), to_submit(b"2"), to_submit(b"3")])
    stage = OneByOne()
    broker.refusals = 1_000_000
    async with running(Runner(stage, broker, PACE, Metrics())):
        await until(lambda: broker.refusals < 999_999)
    assert (stage.begun, stage.cut_off) == (1, 0)
    assert (await broker.depths())[Step.SUBMIT] == 3


async def test_a_broker_that_is_away_at_the_start_is_waited_for(broker: MovingOut) -> None:
    await broker.publish([to_submit(b"1")])
    broker.closed_doors = 3
    async with running(Runner(OneByOne(), broker, PACE, Metrics())):
        await until(lambda: any(m.routing_key == Step.RECORD for m in broker.published))


async def test_one_poison_among_many_is_found_and_the_rest_goes_on(broker: MovingOut) -> None:
    await broker.publish([to_submit(b"1"), to_submit(b"2"), to_submit(b"poison"), to_submit(b"4")])
    async with running(Runner(Hopeless(Step.SUBMIT, b"poison"), broker, PACE, Metrics())):
        await until(lambda: any(m.exchange is Exchange.DEAD for m in broker.published))
    [kept] = [m for m in broker.published if m.exchange is Exchange.DEAD]
    assert kept.body == b"poison"
    assert (await broker.depths())[Step.QUARANTINE] == 1


async def test_what_quarantine_itself_cannot_keep_stays_in_its_queue_and_does_not_spin(broker: MovingOut) -> None:
    await broker.publish([Outgoing(Exchange.DEAD, Step.SUBMIT, b"poison", "poison")])
    stage = Hopeless(Step.QUARANTINE, b"poison")
    runner = Runner(stage, broker, replace(PACE, longest_pause=3600), Metrics())
    async with running(runner):
        await until(lambda: stage.handled == 1)
        await broker.publish([Outgoing(Exchange.DEAD, Step.SUBMIT, b"good", "good")])
        await until(lambda: stage.handled == 2)
    assert (await broker.depths())[Step.QUARANTINE] == 1
    assert stage.handled == 2


async def test_a_defect_of_the_runner_ends_the_process_instead_of_stalling_it(
    broker: MovingOut, monkeypatch: pytest.MonkeyPatch
) -> None:
    metrics = Metrics()
    monkeypatch.setattr(metrics, "poison", _break)
    await broker.publish([to_submit(b"poison")])
    runner = Runner(Hopeless(Step.SUBMIT, b"poison"), broker, PACE, metrics)
    with pytest.raises(ExceptionGroup):
        await asyncio.wait_for(runner.run(), 30)


def _break(*_: object) -> None:
    raise ZeroDivisionError


class Slow:
    """Keeps each batch in hand until its first message is let go."""

    step = Step.SUBMIT

    def __init__(self) -> None:
        self.in_hand: list[list[bytes]] = []
        self._let_go: dict[bytes, asyncio.Event] = {}

    async def handle(self, batch: Sequence[Delivery]) -> AsyncIterator[Settled]:
        bodies = [delivery.body for delivery in batch]
        self.in_hand.append(bodies)
        await self._event(bodies[0]).wait()
        self.in_hand.remove(bodies)
        yield Settled(tuple(batch))

    def let_go(self, body: bytes) -> None:
        self._event(body).set()

    def has(self, body: bytes) -> bool:
        return any(body in bodies for bodies in self.in_hand)

    def _event(self, body: bytes) -> asyncio.Event:
        return self._let_go.setdefault(body, asyncio.Event())


FEW = replace(PACE, batch=2, overlap=1)


def to_submit_later(number: int) -> Outgoing:
    body = f"later {number}".encode()
    return Outgoing(Exchange.STEPS, later(Step.SUBMIT), body, body.decode())


async def test_a_live_message_overtakes_all_that_gives_way_and_finds_a_slot_of_its_own(broker: MovingOut) -> None:
    await broker.publish([to_submit_later(number) for number in range(100)])
    stage = Slow()
    first = Runner(stage, broker, PACE, Metrics())
    async with running(first), running(Runner(stage, broker, FEW, Metrics(), queue=later(Step.SUBMIT), after=first)):
        await until(lambda: stage.has(b"later 0"))
        await broker.publish([to_submit(b"live")])
        await until(lambda: stage.has(b"live"))
        assert stage.in_hand == [[b"later 0", b"later 1"], [b"live"]]
        assert (await broker.depths())[later(Step.SUBMIT)] == 98
        stage.let_go(b"later 0")
        await until(lambda: not stage.has(b"later 0"))
        assert stage.in_hand == [[b"live"]], "while it is in hand, nothing begins that gives way"
        stage.let_go(b"live")
        await until(lambda: stage.has(b"later 2"))
        stage.let_go(b"later 2")
        await until(lambda: stage.has(b"later 4"))
        stage.let_go(b"later 4")
        for number in range(6, 100, 2):
            stage.let_go(f"later {number}".encode())
        await until(lambda: not stage.in_hand)


async def test_what_gives_way_goes_on_in_the_busiest_night(broker: MovingOut, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running_module, "_LONGEST_WAY", 0.01)
    await broker.publish([to_submit(b"live"), to_submit_later(0)])
    stage = Slow()
    first = Runner(stage, broker, PACE, Metrics())
    async with running(first), running(Runner(stage, broker, FEW, Metrics(), queue=later(Step.SUBMIT), after=first)):
        await until(lambda: stage.has(b"live"))
        await until(lambda: stage.has(b"later 0"))
        assert stage.has(b"live")
        stage.let_go(b"live")
        stage.let_go(b"later 0")
