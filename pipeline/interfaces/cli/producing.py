"""Submitting through RabbitMQ: jobs are pushed with confirms, and outcomes are listened for."""

import time
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import ThreadPoolExecutor

from pipeline.broker.listener import OutcomeListener
from pipeline.broker.producer import Producer
from pipeline.interfaces.cli.standing import Standing
from pipeline.lodgment.job import LodgmentJob
from pipeline.settings import Settings

_SLICE = 0.5
"""Seconds without an event after which to look whether to go on."""


def push(settings: Settings, jobs: Iterable[LodgmentJob], on_confirmed: Callable[[str], None]) -> None:
    """Push and have every job confirmed.

    Raises:
        UnconfirmedError: some jobs were not; pushing the whole input again is safe, a known job is known by its id.
    """
    with Producer(settings.broker_urls, settings.namespace) as producer:
        producer.push_many(jobs, on_confirmed=on_confirmed)


def push_and_wait(
    settings: Settings,
    jobs: Iterable[LodgmentJob],
    job_ids: Collection[str],
    timeout: float | None,
    *,
    on_ended: Callable[[int], None],
) -> list[Standing]:
    """Push, and listen until every job has ended; Ctrl-C and `timeout` seconds without any news end it early."""
    standings = {job_id: Standing(job_id) for job_id in job_ids}
    open_jobs = set(job_ids)
    # The listener must be served while jobs are pushed: what it does not read in time is lost with its connection.
    with OutcomeListener(settings.broker_urls, settings.namespace) as listener, ThreadPoolExecutor(1) as pool:
        pushing = pool.submit(push, settings, jobs, lambda _: None)
        news = time.monotonic()
        try:
            while open_jobs and not (pushing.done() and pushing.exception()):
                for event in listener.events(_SLICE):
                    standing = Standing.of_event(event)
                    if standing.job_id in open_jobs:
                        news = time.monotonic()
                        standings[standing.job_id] = standing
                        if standing.ended:
                            open_jobs.discard(standing.job_id)
                            on_ended(1)
                    if not open_jobs:
                        break
                if pushing.done() and timeout is not None and time.monotonic() > news + timeout:
                    break
        except KeyboardInterrupt:
            pass  # what is known so far is told; the rest goes on without us
        pushing.result()
    return list(standings.values())
