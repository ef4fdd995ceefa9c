"""`lodge example`: the shipped batch through the sandbox agencies, held at the end to what must have happened."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.interfaces.cli import screen

if TYPE_CHECKING:
    from rich.progress import Progress

    from pipeline.bootstrap import Parts
    from pipeline.ledger.quarantine import Quarantined
    from pipeline.lodgment.lodgment import Lodgment
    from pipeline.sandbox.example import ExampleJob
    from pipeline.settings import Settings

_LOOK_EVERY = 0.25
_CHUNK = 100


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command("example")(example)


def example(
    size: Annotated[int, typer.Option(min=30, help="About how many lodgments.")] = 300,
    patience: Annotated[float, typer.Option(help="Seconds to wait for the last one.")] = 110,
) -> None:
    """Lodge the example batch through the sandbox agencies, and check where each lodgment ended.

    Everything is synthetic and stays on this machine. The batch meets every trouble that an agency can make: business
    rules broken, late answers, outages with and without a return time, connections cut before and after processing,
    half replies, refused tokens. Every run lodges a batch of its own in the ledger under LODGE_HOME (var/).

    Exit code 1 if any lodgment is not where the batch says it must be, or the agency's book says that one was
    processed more than once.
    """
    import uvloop

    from pipeline.settings import load_settings
    from pipeline.telemetry import configure_logs

    settings = load_settings()
    settings.home.mkdir(parents=True, exist_ok=True)
    log = settings.home / "example.log"
    with log.open("a") as stream:
        configure_logs("info", json_lines=True, stream=stream)
        ended = uvloop.run(_lodge(settings, size, patience))
    _show(ended)
    screen.stderr().print(f"\nlog: {log}")
    if ended.faults:
        raise typer.Exit(1)


@dataclass(frozen=True, slots=True)
class _Seen:
    """What the ledger and the agency's book say after the batch."""

    rows: Mapping[str, "Lodgment"]
    kept: Sequence["Quarantined"]
    book: Mapping[str, Mapping[str, object]]


@dataclass(frozen=True, slots=True)
class _Ended:
    """The finished batch: how many ended where and why, and each that is not where it must be."""

    counts: Mapping[tuple[str, str, str, str], int]
    faults: Sequence[str]
    jobs: int
    attempts: int
    most_processed: int
    """How often the agency processed the reference that it processed most often."""
    seconds: float
    rejected: str | None
    """The job id of a rejected lodgment, to look at."""


async def _lodge(settings: "Settings", size: int, patience: float) -> _Ended:
    from pipeline.bootstrap import now, opened
    from pipeline.broker.port import Exchange, Outgoing
    from pipeline.lodgment.states import Step
    from pipeline.sandbox.example import example_batch
    from pipeline.sandbox.home import open_home
    from pipeline.sandbox.server import Sandbox
    from workers.process import Worker, run

    screen.stderr().print("starting the sandbox agencies and six workers …")
    async with AsyncExitStack() as stack:
        sandbox = await stack.enter_async_context(Sandbox(open_home(settings.home.resolve() / "sandbox", now())))
        quick = {"environment": "sandbox", "sandbox_url": sandbox.url, "sweep_every": timedelta(milliseconds=250)}
        parts = await stack.enter_async_context(opened(settings.model_copy(update=quick)))
        stop = asyncio.Event()
        working = asyncio.create_task(run(parts, tuple(Worker), stop))
        started = time.monotonic()
        batch = example_batch(now(), size=size, name=f"example-{now():%Y%m%dT%H%M%S}")
        try:
            for first in range(0, len(batch), _CHUNK):
                chunk = batch[first : first + _CHUNK]
                await parts.broker.publish(
                    [Outgoing(Exchange.JOBS, Step.RECEIVE, one.job, one.job_id) for one in chunk]
                )
            with screen.progress() as progress:
                seen = await _watch(parts, batch, progress, started + patience, working)
        finally:
            stop.set()
            await working
    return _judge(batch, seen, time.monotonic() - started)


async def _watch(
    parts: "Parts", batch: "Sequence[ExampleJob]", progress: "Progress", deadline: float, working: "asyncio.Task[None]"
) -> _Seen:
    """Show where the batch stands until all of it is where it must be, or it is too late."""
    task = progress.add_task("lodging", total=len(batch))
    while True:
        seen = await _look(parts, batch)
        faults = _faults(batch, seen)
        states = Counter(str(row.state) for row in seen.rows.values())
        standing = " · ".join(f"{number} {state.replace('_', ' ')}" for state, number in sorted(states.items()))
        progress.update(task, completed=len(batch) - len(faults), description=f"lodging   {standing}")
        if not faults or time.monotonic() > deadline or working.done():
            return seen
        await asyncio.sleep(_LOOK_EVERY)


async def _look(parts: "Parts", batch: "Sequence[ExampleJob]") -> _Seen:
    from pipeline.gateway.exchange import Request
    from pipeline.ledger import lodgments, quarantine

    async with parts.ledger.transaction(read_only=True) as tx:
        rows = await lodgments.known_jobs(tx, {one.job_id for one in batch})
        kept = await quarantine.list_(tx, 1000)
    book = await parts.agency.exchange(Request(f"{parts.environment.agency_url}/sandbox/book", (), (), "GET"))
    lines = [json.loads(line) for line in (book.body or b"").splitlines()]
    return _Seen(rows, kept, {line["reference"]: line for line in lines})


def _judge(batch: "Sequence[ExampleJob]", seen: _Seen, seconds: float) -> _Ended:
    counts: Counter[tuple[str, str, str, str]] = Counter()
    for job_id, row in seen.rows.items():
        fields = json.loads(next(one.job for one in batch if one.job_id == job_id))
        reason = row.reason
        counts[
            fields.get("labels", {}).get("scenario", ""),
            str(row.state),
            reason.code if reason else "",
            reason.text if reason else "",
        ] += 1
    ours = {one.job_id for one in batch}
    for item in seen.kept:
        if item.job_id in ours:
            counts["", "refused", item.code, item.reason] += 1
    rejected = next((job_id for job_id, row in seen.rows.items() if row.state == "rejected"), None)
    attempts = sum(row.attempts for row in seen.rows.values())
    processed = [int(str(seen.book.get(row.reference, {}).get("processed", 0))) for row in seen.rows.values()]
    return _Ended(
        counts=counts,
        faults=_faults(batch, seen),
        jobs=len(batch),
        attempts=attempts,
        most_processed=max(processed, default=0),
        seconds=seconds,
        rejected=rejected,
    )


def _faults(batch: "Sequence[ExampleJob]", seen: _Seen) -> list[str]:
    """A line for every job that is not where it must be, by the ledger's word and by the agency's."""
    return [fault for one in batch if (fault := _fault(one, seen)) is not None]


def _fault(one: "ExampleJob", seen: _Seen) -> str | None:
    expected = one.expected
    if expected.state is None:
        refused = any(i.job_id == one.job_id and i.code.startswith(expected.code or "") for i in seen.kept)
        return None if refused else f"{one.job_id} must be refused with {expected.code}"
    row = seen.rows.get(one.job_id)
    if row is None:
        return f"{one.job_id} must be {expected.state}, but is not in the ledger"
    code = row.reason.code if row.reason else ""
    if row.state is not expected.state or not code.startswith(expected.code or ""):
        return f"{one.job_id} must be {expected.state} {expected.code or ''}, but is {row.state} {code}"
    line = seen.book.get(row.reference, {})
    if line.get("processed", 0) != expected.processed or line.get("violations", 0):
        return f"{one.job_id} must be processed {expected.processed} times, but the agency's book says {dict(line)}"
    return None


def _show(ended: _Ended) -> None:
    console = screen.stdout()
    rows = [(number, *key) for key, number in sorted(ended.counts.items(), key=lambda item: (item[0][1], item[0]))]
    console.print(screen.table("Outcomes", ("jobs", "the agency's trouble", "state", "code", "reason"), rows))
    right = ended.jobs - len(ended.faults)
    console.print(
        f"\n{right} of {ended.jobs} jobs are where they must be; {ended.attempts} attempts, "
        f"by the agency's own book no reference was processed more than {ended.most_processed} time(s); "
        f"{ended.seconds:.1f} s"
    )
    for fault in ended.faults[:20]:
        console.print(f"  WRONG: {fault}")
    console.print("\nwhere to look next:\n  .venv/bin/lodge status")
    if ended.rejected is not None:
        console.print(f"  .venv/bin/lodge explain {ended.rejected}")
