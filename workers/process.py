"""A process with one worker in it, or with all six."""

import asyncio
import gc
import signal
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from enum import StrEnum

import structlog

from pipeline.bootstrap import Parts, opened
from pipeline.expiry_watch import ExpiryWatch
from pipeline.ledger import lodgments, tokens, waiting_jobs
from pipeline.lodgment.errors import DependencyDownError
from pipeline.runner import Activity, Periodic, pause
from pipeline.settings import Settings
from pipeline.stages.sweep import SweepWatch
from workers import intake, outcome, scheduler, signer, token, transport
from workers.memory import keep_memory_private

log = structlog.get_logger(__name__)

_LOOK_AGAIN = 1.0


class Worker(StrEnum):
    """The six workers, by the name under which `lodge worker` starts them."""

    INTAKE = "intake"
    TOKEN = "token"  # noqa: S105  - a worker's name
    SIGNER = "signer"
    TRANSPORT = "transport"
    OUTCOME = "outcome"
    SCHEDULER = "scheduler"


_ACTIVITIES: Mapping[Worker, Callable[[Parts], list[Activity]]] = {
    Worker.INTAKE: intake.activities,
    Worker.TOKEN: token.activities,
    Worker.SIGNER: signer.activities,
    Worker.TRANSPORT: transport.activities,
    Worker.OUTCOME: outcome.activities,
    Worker.SCHEDULER: scheduler.activities,
}

_SIGN = frozenset((Worker.TOKEN, Worker.SIGNER))
"""Those that open the keyring, and so keep watch over it."""
_WATCH_EVERY = 30.0
_SWEEPS_EVERY = 15.0


async def serve(settings: Settings, workers: Sequence[Worker]) -> None:
    """Work until SIGTERM or SIGINT, then finish and ack what is in hand."""
    keep_memory_private()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with AsyncExitStack() as stack:
        parts = await _opened(stack, settings, stop)
        if parts is None:
            return
        if settings.metrics_port is not None:
            parts.metrics.serve(settings.metrics_port)
        _spare_the_collector()
        await run(parts, workers, stop)


def _spare_the_collector() -> None:
    """What start-up made lives as long as the process; looking through it over and over costs a tenth."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


async def _opened(stack: AsyncExitStack, settings: Settings, stop: asyncio.Event) -> Parts | None:
    """The parts, once ledger and broker are there: they may start after us. None when it is time to stop first."""
    while not stop.is_set():
        try:
            return await stack.enter_async_context(opened(settings))
        except DependencyDownError as error:
            log.warning("worker.waiting", code=error.code, reason=str(error))
            await pause(stop, _LOOK_AGAIN)
    return None


async def run(parts: Parts, workers: Sequence[Worker], stop: asyncio.Event) -> None:
    """Work until `stop` is set."""
    if parts.settings.embedded:
        await _take_over(parts)
    running = [activity for worker in workers for activity in _ACTIVITIES[worker](parts)]
    if not _SIGN.isdisjoint(workers):
        running += _expiry_watch(parts)
    running.append(Periodic("sweep-watch", SweepWatch(parts.context).look, _SWEEPS_EVERY, parts.metrics))
    async with asyncio.TaskGroup() as group:
        for activity in running:
            group.create_task(activity.run())
        log.info("worker.started", workers=[str(worker) for worker in workers], worker=parts.context.worker)
        await stop.wait()
        for activity in running:
            activity.stop()
    log.info("worker.stopped", worker=parts.context.worker)


def _expiry_watch(parts: Parts) -> list[Activity]:
    keyring = parts.keyring()
    if keyring is None:
        return []
    watch = ExpiryWatch(keyring, parts.metrics, parts.context.clock)
    return [Periodic("expiry-watch", watch.look, _WATCH_EVERY, parts.metrics)]


async def _take_over(parts: Parts) -> None:
    """Put what is not final back on the queues: the embedded broker forgot it, and nobody else has it."""
    async with parts.ledger.transaction() as tx:
        await tokens.free(tx)
        await waiting_jobs.give_all_back(tx)
        woken = await lodgments.wake_everything(tx, parts.context.clock())
    log.info("worker.recovered", lodgments=woken)
