"""Submitting without a broker: the whole pipeline runs in this process until these jobs are where they can be left."""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import islice

from pipeline.bootstrap import Parts, opened
from pipeline.broker.messages import OutcomeEvent
from pipeline.broker.port import Exchange, Outgoing, Subscription
from pipeline.interfaces.cli.standing import Standing, token_failures
from pipeline.ledger import lanes, lodgments
from pipeline.lodgment.job import LodgmentJob
from pipeline.lodgment.lodgment import LANE_TURN
from pipeline.lodgment.states import State, Step
from pipeline.settings import Settings
from workers.process import Worker, run

_BATCH = 100
_LOOK_EVERY = 0.25
_LOOK_AT = 2_000
"""Jobs asked about at once."""
_REFUSALS = "outcome.*.refused.*"


@dataclass(frozen=True, slots=True)
class Patience:
    """Until when to stay: until every job has ended, or else at least waits; and no longer than so many seconds."""

    to_the_end: bool
    seconds: float | None


async def lodge_here(
    settings: Settings,
    jobs: Iterable[LodgmentJob],
    digests: Mapping[str, str],
    patience: Patience,
    on_ended: Callable[[int], None],
) -> list[Standing]:
    """Run as long as `patience` says; `on_ended` is told how many more jobs did. `digests` are the jobs' contents.

    Ctrl-C, SIGTERM and the end of patience: what is in hand is finished, the rest stays in the ledger.
    """
    async with opened(settings) as parts:
        refusals = await parts.broker.listen(_REFUSALS)
        heard: dict[str, Standing] = {}
        async with working(parts, tuple(Worker)) as stop, _listening(refusals, heard):
            pushed = await push(parts, jobs)
            await _rest(parts, {job_id: digests[job_id] for job_id in pushed}, heard, stop, patience, on_ended)
        stand = {one.job_id: one for one in await _look(parts, pushed, digests)}
    return [heard.get(job_id) or stand[job_id] for job_id in pushed]


@asynccontextmanager
async def working(parts: Parts, workers: Sequence[Worker]) -> AsyncIterator[asyncio.Event]:
    """Workers at work inside the block. Its end, and the event that SIGTERM and Ctrl-C set, stop them in good order."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(run(parts, workers, stop))
            try:
                yield stop
            finally:
                stop.set()
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


@asynccontextmanager
async def _listening(refusals: Subscription, heard: dict[str, Standing]) -> AsyncIterator[None]:
    async def listen() -> None:
        while deliveries := await refusals.take(_BATCH, 0.01):
            for delivery in deliveries:
                standing = Standing.of_event(OutcomeEvent.read(delivery.body))
                heard[standing.job_id] = standing
            await refusals.ack(deliveries)

    task = asyncio.create_task(listen())
    try:
        yield
    finally:
        await refusals.close()
        await task


async def push(parts: Parts, jobs: Iterable[LodgmentJob]) -> list[str]:
    """Publish to the broker of this process; the job ids."""
    job_ids = []
    remaining = iter(jobs)
    while batch := list(islice(remaining, _BATCH)):
        messages = [
            Outgoing(Exchange.JOBS, Step.RECEIVE, job.model_dump_json().encode(), job.job_id, priority=job.priority)
            for job in batch
        ]
        await parts.broker.publish(messages)
        job_ids += [job.job_id for job in batch]
    return job_ids


async def _rest(
    parts: Parts,
    pushed: Mapping[str, str],
    heard: dict[str, Standing],
    stop: asyncio.Event,
    patience: Patience,
    on_ended: Callable[[int], None],
) -> None:
    """Look again and again until all are at rest, it is time to stop, or time is up."""
    waiting = set(pushed)
    loop = asyncio.get_running_loop()
    ends = None if patience.seconds is None else loop.time() + patience.seconds
    while waiting and not stop.is_set() and (ends is None or loop.time() < ends):
        await asyncio.sleep(_LOOK_EVERY)
        before = len(waiting)
        waiting -= heard.keys()
        standings = await _look(parts, list(waiting), pushed)
        waiting -= {one.job_id for one in standings if one.ended}
        moving = any(not one.at_rest for one in standings)
        on_ended(before - len(waiting))
        if not (patience.to_the_end or moving):
            return
        in_lanes = bool(waiting) and all(one.ended or one.code == LANE_TURN for one in standings)
        if in_lanes and await _behind_held(parts, list(waiting)):
            return  # with `to_the_end` too: they wait for a person


async def _behind_held(parts: Parts, job_ids: Sequence[str]) -> bool:
    """Whether each of these, which all wait for their turn, has a held lodgment before it in its lane."""
    async with parts.ledger.transaction(read_only=True) as tx:
        rows = (await lodgments.known_jobs(tx, job_ids)).values()
        first = {row.order_key: row for row in rows}.values()
        holders = [await lanes.holder(tx, row) for row in first]
    return all(one is not None and one.state is State.HELD for one in holders)


async def _look(parts: Parts, job_ids: Sequence[str], digests: Mapping[str, str]) -> list[Standing]:
    """How these jobs stand. A row of the same id and other content is not theirs: a refusal is to be heard."""
    standings = []
    for asked in (job_ids[at : at + _LOOK_AT] for at in range(0, len(job_ids), _LOOK_AT)):
        async with parts.ledger.transaction(read_only=True) as tx:
            known = await lodgments.known_jobs(tx, asked)
            failed = await token_failures(tx, known.values())
        for job_id in asked:
            row = known.get(job_id)
            if row is None or row.content_digest != digests[job_id]:
                standings.append(Standing(job_id))
            else:
                standings.append(Standing.of_lodgment(row, failed.get(row.id)))
    return standings
