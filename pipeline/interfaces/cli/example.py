"""`lodge example`: the shipped batch through the sandbox agencies, held at the end to what must have happened."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.interfaces.cli import screen
from pipeline.lodgment.errors import ConfigurationError

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
    employers: Annotated[int, typer.Option(min=40, help="How many employers lodge a pay event.")] = 200,
    payees: Annotated[int, typer.Option(min=1, help="How many people they pay between them.")] = 5_000,
    names: Annotated[int, typer.Option(min=30, help="About how many business name applications go along.")] = 60,
    patience: Annotated[float, typer.Option(min=1, max=86_400, help="Seconds to wait for the last one.")] = 110,
) -> None:
    """Lodge an example pay run through the sandbox agencies, and check where each lodgment ended.

    A bureau's employers lodge their pay events with Single Touch Payroll, and some business name applications go to
    ASIC meanwhile. Everything is synthetic and stays on this machine. The batch meets every trouble that an agency can
    make: records and whole events refused, permissions missing, outcomes that take their time, duplicates, connections
    cut before and after processing, broken and forged replies, refused tokens. Every run lodges a batch of its own in
    the ledger under LODGE_HOME (var/).

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
        ended = uvloop.run(_lodge(settings, _Size(employers, payees, names), patience))
    _show(ended)
    screen.stderr().print(f"\nlog: {log}")
    if ended.faults:
        raise typer.Exit(1)


@dataclass(frozen=True, slots=True)
class _Size:
    """Of the batch, as the options say."""

    employers: int
    payees: int
    names: int


@dataclass(frozen=True, slots=True)
class _Seen:
    """What the ledger and the agency's book say after the batch."""

    rows: Mapping[str, "Lodgment"]
    kept: Sequence["Quarantined"]
    book: Mapping[str, Mapping[str, object]]


@dataclass(frozen=True, slots=True)
class _Ended:
    """The finished batch: how many ended where and why, and each that is not where it must be."""

    counts: Mapping[tuple[str, str, str, str, str], int]
    faults: Sequence[str]
    jobs: int
    attempts: int
    most_processed: int
    """How often the agency processed the reference that it processed most often."""
    seconds: float
    partly: str | None
    """The job id of a pay event that was accepted in part, to look at."""


async def _lodge(settings: "Settings", size: _Size, patience: float) -> _Ended:
    from pipeline.bootstrap import now, opened
    from pipeline.broker.port import Exchange, Outgoing
    from pipeline.lodgment.states import Step
    from pipeline.sandbox.home import open_home
    from pipeline.sandbox.server import Sandbox
    from workers.process import Worker, run

    screen.stderr().print("starting the sandbox agencies and six workers …")
    async with AsyncExitStack() as stack:
        sandbox = await stack.enter_async_context(Sandbox(open_home(settings.home.resolve() / "sandbox", now())))
        quick = {"environment": "sandbox", "sandbox_url": sandbox.url, "sweep_every": timedelta(milliseconds=250)}
        parts = await stack.enter_async_context(opened(settings.model_copy(update=quick)))
        await _register(parts, size.employers)
        stop = asyncio.Event()
        working = asyncio.create_task(run(parts, tuple(Worker), stop))
        started = time.monotonic()
        batch = _batch(size, now())
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


async def _register(parts: "Parts", employers: int) -> None:
    """The employers' software ids, as their provider has them before anything is lodged; jobs name none."""
    from pipeline.bootstrap import now
    from pipeline.ledger import software_ids
    from pipeline.profiles import payroll_product
    from pipeline.sandbox.pay_run import registered_ids

    product = payroll_product(parts.settings)
    assert product is not None  # noqa: S101  - the sandbox has one
    async with parts.ledger.transaction() as tx:
        await software_ids.add(tx, registered_ids(employers, product, now()))


def _batch(size: _Size, moment: datetime) -> "list[ExampleJob]":
    """The applications and the pay run, in the order in which they are pushed."""
    from pipeline.sandbox.example import example_batch
    from pipeline.sandbox.pay_run_example import pay_run_batch

    run = f"{moment:%Y%m%dT%H%M%S}"
    try:
        pay_run = pay_run_batch(moment, count=size.employers, payees=size.payees, name=f"payrun-{run}")
    except ValueError as error:
        raise ConfigurationError("example.payees", f"--payees: {error}") from error
    names = example_batch(moment, size=size.names, name=f"example-{run}")
    return names + pay_run


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
    # SBR2 has the reference with our domain behind it.
    return _Seen(rows, kept, {line["reference"].partition("@")[0]: line for line in lines})


def _judge(batch: "Sequence[ExampleJob]", seen: _Seen, seconds: float) -> _Ended:
    counts: Counter[tuple[str, str, str, str, str]] = Counter()
    for job_id, row in seen.rows.items():
        fields = json.loads(next(one.job for one in batch if one.job_id == job_id))
        reason = row.reason
        counts[
            row.channel,
            fields.get("labels", {}).get("scenario", ""),
            str(row.state),
            reason.code if reason else "",
            reason.text if reason else "",
        ] += 1
    ours = {one.job_id for one in batch}
    for item in seen.kept:
        if item.job_id in ours:
            counts["", "", "refused", item.code, item.reason] += 1
    partly = next((job_id for job_id, row in seen.rows.items() if row.state == "partially_accepted"), None)
    attempts = sum(row.attempts for row in seen.rows.values())
    processed = [int(str(seen.book.get(row.reference, {}).get("processed", 0))) for row in seen.rows.values()]
    return _Ended(
        counts=counts,
        faults=_faults(batch, seen),
        jobs=len(batch),
        attempts=attempts,
        most_processed=max(processed, default=0),
        seconds=seconds,
        partly=partly,
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
    by_channel = sorted(ended.counts.items(), key=lambda item: (item[0][0], item[0][2], item[0]))
    rows = [(key[0], number, *key[1:]) for key, number in by_channel]
    heads = ("channel", "jobs", "the agency's trouble", "state", "code", "reason")
    console.print(screen.table("Outcomes", heads, rows))
    right = ended.jobs - len(ended.faults)
    console.print(
        f"\n{right} of {ended.jobs} jobs are where they must be; {ended.attempts} attempts, "
        f"by the agency's own book no reference was processed more than {ended.most_processed} time(s); "
        f"{ended.seconds:.1f} s"
    )
    for fault in ended.faults[:20]:
        console.print(f"  WRONG: {fault}")
    console.print("\nwhere to look next:\n  .venv/bin/lodge status")
    if ended.partly is not None:
        console.print(f"  .venv/bin/lodge explain {ended.partly}")
