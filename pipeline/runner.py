"""Drives any stage: take a batch, handle it, publish what follows, ack last. The one place that catches everything."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import structlog

from pipeline.broker.port import Broker, Delivery, Exchange, Feed, Outgoing, Subscription
from pipeline.lodgment.errors import DependencyDownError, PipelineError
from pipeline.lodgment.states import Step
from pipeline.stages.contract import Stage
from pipeline.stages.quarantine import CODE_HEADER, REASON_HEADER, STEP_HEADER
from pipeline.telemetry import Metrics

log = structlog.get_logger(__name__)

T = TypeVar("T")

_LONGEST_WAY = 1.0
"""Seconds for which a batch gives way to others."""


class Activity(Protocol):
    """Something that runs until it is told to stop, and then finishes what it has in hand."""

    def stop(self) -> None: ...

    async def run(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Pace:
    """How a stage is fed: at most `batch * overlap` deliveries are in hand."""

    batch: int = 50
    linger: float = 0.01
    """Seconds to wait for a batch to fill once its first delivery is there."""
    overlap: int = 2
    """Batches handled at the same time."""
    first_pause: float = 0.2
    longest_pause: float = 15.0
    """Seconds between tries while the ledger or the broker is down."""


class Runner:
    """One stage at work until told to stop."""

    def __init__(
        self,
        stage: Stage,
        broker: Broker,
        pace: Pace,
        metrics: Metrics,
        *,
        queue: str | None = None,
        feed: Callable[[], Awaitable[Feed]] | None = None,
        after: "Runner | None" = None,
    ) -> None:
        """It works on what `feed` opens, or else on `queue`, which is the stage's own unless given.

        Batches begin when `after` has none in hand, or a second later.
        """
        self._stage = stage
        self._broker = broker
        self._pace = pace
        self._metrics = metrics
        self._queue = queue or stage.step
        self._feed = feed or self._subscribe
        self._after = after
        self._at_work = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Finish and ack what is in hand, take nothing new; `run` then returns."""
        self._stopping.set()

    async def rest(self, seconds: float) -> None:
        """Until it has no batch in hand, but no longer than so many seconds."""
        await pause(self._idle, seconds)

    async def run(self) -> None:
        try:
            subscription = await self._insist(self._feed)
        except DependencyDownError:
            return  # told to stop before there was a broker to consume from
        free = asyncio.Semaphore(self._pace.overlap)
        stopped = asyncio.create_task(self._stopping.wait())
        try:
            async with asyncio.TaskGroup() as at_work:
                while not self._stopping.is_set():
                    await free.acquire()
                    batch = await self._next(subscription, stopped)
                    if not batch and not self._stopping.is_set():
                        # Alive but consuming nothing is the failure that nobody sees: better to end and start again.
                        raise DependencyDownError("broker.consumer", f"the consumer of {self._stage.step} ended")
                    if batch:
                        await self._give_way()
                        at_work.create_task(self._work_off(subscription, batch, free))
        finally:
            stopped.cancel()
            await subscription.close()

    async def _subscribe(self) -> Subscription:
        return await self._broker.subscribe(self._queue, self._pace.batch * self._pace.overlap)

    async def _give_way(self) -> None:
        """Let the one that goes first finish what it has in hand; but not for ever, or a busy night would stop us."""
        if self._after is not None:
            await self._after.rest(_LONGEST_WAY)

    async def _work_off(self, subscription: Feed, batch: Sequence[Delivery], free: asyncio.Semaphore) -> None:
        self._at_work += 1
        self._idle.clear()
        try:
            await self._work(subscription, batch)
        finally:
            self._at_work -= 1
            if not self._at_work:
                self._idle.set()
            free.release()

    async def _next(self, subscription: Feed, stopped: "asyncio.Task[bool]") -> list[Delivery]:
        """The next batch, or nothing when it is time to stop; what a cancelled take held goes back to the queue."""
        take = asyncio.create_task(subscription.take(self._pace.batch, self._pace.linger))
        await asyncio.wait({take, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if take.done():
            return take.result()
        take.cancel()
        await asyncio.gather(take, return_exceptions=True)
        return []

    async def _work(self, subscription: Feed, batch: Sequence[Delivery]) -> None:
        """Handle until everything is settled: wait out what is down, halve what fails, quarantine the last one."""
        waiting = list(batch)
        seconds = self._pace.first_pause
        while waiting:
            try:
                await self._handle(subscription, waiting)
            except DependencyDownError as error:
                self._down(error, len(waiting))
                if self._stopping.is_set():
                    return
                await pause(self._stopping, seconds)
                seconds = min(seconds * 2, self._pace.longest_pause)
            except Exception as error:  # noqa: BLE001  - the one broad except: it ends in halves, then in quarantine
                if len(waiting) > 1:
                    half = len(waiting) // 2
                    await self._work(subscription, waiting[:half])
                    await self._work(subscription, waiting[half:])
                    return
                with contextlib.suppress(DependencyDownError):
                    await self._quarantine(subscription, waiting.pop(), error)

    async def _handle(self, subscription: Feed, waiting: list[Delivery]) -> None:
        """Let the stage work to its end, also without a broker: ending it would cut off requests that are under way."""
        unpublished: DependencyDownError | None = None
        with self._metrics.handling(self._stage.step, len(waiting)):
            async for settled in self._stage.handle(tuple(waiting)):
                try:
                    await self._publish(settled.publications)
                except DependencyDownError as error:
                    unpublished = error
                    continue
                await subscription.ack(settled.deliveries)
                self._metrics.settled(self._stage.step, len(settled.deliveries))
                done = {id(delivery) for delivery in settled.deliveries}
                waiting[:] = [delivery for delivery in waiting if id(delivery) not in done]
        if unpublished is not None:
            raise unpublished

    async def _quarantine(self, subscription: Feed, delivery: Delivery, error: Exception) -> None:
        """Keep the poison with its reason. Published before it is acked: a crash between the two only repeats it."""
        code = error.code if isinstance(error, PipelineError) else f"defect.{type(error).__name__}"
        log.error("runner.poison", step=self._stage.step, code=code, message=delivery.message_id, exc_info=error)
        self._metrics.poison(self._stage.step)
        headers = {STEP_HEADER: str(self._stage.step), CODE_HEADER: code, REASON_HEADER: _safe(error)}
        if self._stage.step is Step.QUARANTINE:
            # It comes back to the same queue: nothing may be dropped here, nor turn in circles at full speed.
            await pause(self._stopping, self._pace.longest_pause)
        await self._publish([Outgoing(Exchange.DEAD, self._stage.step, delivery.body, delivery.message_id, headers)])
        await subscription.ack([delivery])

    async def _publish(self, messages: Sequence[Outgoing]) -> None:
        """Until the broker has them: they follow from what is committed already.

        Raises:
            DependencyDownError: not yet, and it is time to stop; the deliveries go back and are handled again.
        """
        if messages:
            await self._insist(lambda: self._broker.publish(messages))

    async def _insist(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Ask the broker until it answers, or until it is time to stop."""
        seconds = self._pace.first_pause
        while True:
            try:
                return await ask()
            except DependencyDownError as error:
                if self._stopping.is_set():
                    raise
                self._down(error, 0)
                await pause(self._stopping, seconds)
                seconds = min(seconds * 2, self._pace.longest_pause)

    def _down(self, error: DependencyDownError, in_hand: int) -> None:
        self._metrics.dependency_down(self._stage.step, error.code)
        log.warning("runner.dependency_down", step=self._stage.step, code=error.code, in_hand=in_hand)


def _safe(error: Exception) -> str:
    """A reason that can be shown: our own texts quote no payload; of foreign exceptions only the type is told."""
    return str(error)[:1000] if isinstance(error, PipelineError) else f"unexpected {type(error).__name__}; see the log"


class Periodic:
    """A loop that no delivery drives. `work` says whether there is more to do at once; `wake` ends its pauses."""

    def __init__(
        self,
        name: str,
        work: Callable[[], Awaitable[bool]],
        every: float,
        metrics: Metrics,
        wake: asyncio.Event | None = None,
    ) -> None:
        self._name = name
        self._work = work
        self._every = every
        self._metrics = metrics
        self._wake = wake or asyncio.Event()
        self._stopping = False

    def stop(self) -> None:
        self._stopping = True
        self._wake.set()

    async def run(self) -> None:
        while not self._stopping:
            self._wake.clear()
            try:
                more = await self._work()
            except DependencyDownError as error:
                self._metrics.dependency_down(self._name, error.code)
                log.warning("periodic.dependency_down", name=self._name, code=error.code)
                more = False
            if not more and not self._stopping:
                await pause(self._wake, self._every)


class Pool(Generic[T]):
    """Keeps up to `size` pieces of work going that no delivery drives, and never waits for the slowest of them.

    `take` gives at most so many pieces as it is asked for; it is asked again at once while it gives any, and else when
    `wake` is set, a piece is done, or after `every` seconds. A piece that meets a defect goes to `give_up` with a code.
    """

    def __init__(
        self,
        name: str,
        take: Callable[[int], Awaitable[Sequence[T]]],
        work: Callable[[T], Awaitable[None]],
        give_up: Callable[[T, str], Awaitable[None]],
        size: int,
        every: float,
        metrics: Metrics,
        wake: asyncio.Event,
    ) -> None:
        self._name = name
        self._take = take
        self._work = work
        self._give_up = give_up
        self._free = size
        self._every = every
        self._metrics = metrics
        self._wake = wake
        self._stopping = False

    def stop(self) -> None:
        """Finish what is in hand, take nothing new; `run` then returns."""
        self._stopping = True
        self._wake.set()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as at_work:
            while not self._stopping:
                self._wake.clear()
                taken = await self._taken() if self._free else ()
                for piece in taken:
                    self._free -= 1
                    at_work.create_task(self._do(piece))
                if not taken and not self._stopping:
                    await pause(self._wake, self._every)

    async def _taken(self) -> Sequence[T]:
        try:
            return await self._take(self._free)
        except DependencyDownError as error:
            self._metrics.dependency_down(self._name, error.code)
            log.warning("pool.dependency_down", name=self._name, code=error.code)
            return ()

    async def _do(self, piece: T) -> None:
        try:
            await self._work(piece)
        except Exception as error:
            # As in Runner._work: one piece must not end the rest.
            code = f"defect.{type(error).__name__}"
            log.exception("pool.poison", name=self._name, code=code)
            await self._give_up(piece, code)
        finally:
            self._free += 1
            self._wake.set()


async def pause(stopping: asyncio.Event, seconds: float) -> None:
    """Wait, but not longer than until it is time to stop."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stopping.wait(), seconds)
