"""Polling at full scale: `python -m tests.acceptance.polls --help`. A bounded version is in `test_polls.py`."""

import argparse
import asyncio
import random
import secrets
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import timedelta

from pipeline.ledger import lodgments, migrate, watch
from pipeline.ledger.lodgment_rows import NewLodgment
from pipeline.ledger.session import Ledger
from pipeline.ledger.vault import Vault
from pipeline.lodgment.lodgment import AGENCY_DELAYED, Lodgment, Reason
from pipeline.lodgment.states import State
from pipeline.telemetry import configure_logs
from tests.acceptance.compressed import Compressed, unscheduled
from tests.doubles.lodgments import NOW, a_lodgment
from tests.doubles.plans import noted, pages, plan
from tests.services.postgres import PrivatePostgres

_PORTION = 2000
_DELAYED = Reason(AGENCY_DELAYED, "The agency has the document and has not finished processing it.")


@dataclass(frozen=True, slots=True)
class Sweep:
    """What one look at what is due reads, and how many lodgments it finds."""

    pages: int
    lodgments: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--open", type=int, default=250_000, help="open lodgments among which a sweep looks")
    parser.add_argument("--due", type=int, default=100, help="how many of them are due")
    parser.add_argument("--compressed", type=int, default=100_000, help="lodgments through a closedown of nine days")
    parser.add_argument("--seed", type=int, default=None)
    arguments = parser.parse_args()
    configure_logs("warning", json_lines=True)
    with ExitStack() as stack:
        server = PrivatePostgres()
        stack.callback(server.stop)
        server.start()
        asyncio.run(_run(server.url, arguments))


async def fill(ledger: Ledger, size: int, due: int) -> None:
    """Store lodgments that the agency has and is asked about again and again; `due` of them now, the rest later."""
    for start in range(0, size, _PORTION):
        rows = [_awaiting(number, due) for number in range(start, min(size, start + _PORTION))]
        async with ledger.transaction() as tx:
            await lodgments.add(tx, [NewLodgment(row, "{}", {}) for row in rows])
    async with ledger.transaction() as tx:
        await tx.connection.exec_driver_sql("ANALYZE lodgment")


async def sweep_pages(ledger: Ledger) -> Sweep:
    """Look once at what is due, to be polled and to be watched, as the scheduler does."""
    async with ledger.transaction() as tx:
        with noted(tx) as statements:
            found = await lodgments.due(tx, NOW, 500)
            await watch.due(tx, NOW, 500)
        return Sweep(await pages(tx, statements), len(found))


def _awaiting(number: int, due: int) -> Lodgment:
    later = timedelta(seconds=1 + number % 900)
    return replace(
        a_lodgment(NOW - timedelta(hours=1)),
        state=State.AWAITING,
        resume=State.RECEIVED,
        due_at=NOW if number < due else NOW + later,
        watch_at=NOW if number < due else NOW + later,
        sent_at=NOW - timedelta(minutes=59),
        agency_reference=f"synthetic-{number}",
        reason=_DELAYED,
    )


async def _run(url: str, arguments: argparse.Namespace) -> None:
    await asyncio.to_thread(migrate.upgrade, url)
    ledger = Ledger(url, Vault([b"synthetic master key, 32 bytes!!"]))
    try:
        if arguments.open:
            await _measure_sweep(ledger, arguments.open, arguments.due)
        if arguments.compressed:
            async with ledger.transaction() as tx:
                await tx.connection.exec_driver_sql("TRUNCATE lodgment CASCADE")
            await _measure_polls(ledger, arguments.compressed, arguments.seed)
    finally:
        await ledger.close()


async def _measure_sweep(ledger: Ledger, size: int, due: int) -> None:
    started = time.monotonic()
    await fill(ledger, size, due)
    _say(f"{size} open lodgments stored in {time.monotonic() - started:.0f} s, {due} of them due")
    found = await sweep_pages(ledger)
    _say(f"a sweep finds {found.lodgments} and reads {found.pages} pages")
    async with ledger.transaction() as tx:
        with noted(tx) as statements:
            await lodgments.due(tx, NOW, 500)
        explained = await plan(tx, statements[0])
    _say(f"by {', '.join(_nodes(explained))}, in {explained['Actual Total Time']} ms")


async def _measure_polls(ledger: Ledger, size: int, given: int | None) -> None:
    seed = secrets.randbelow(1_000_000) if given is None else given
    _say(
        f"seed {seed}: {size} lodgments, pushed in three hours, the agency closed for nine days from the second hour on"
    )
    run = Compressed(ledger, size, random.Random(seed))  # noqa: S311  - repeatable, not a secret
    started = time.monotonic()
    await run.run()
    taken = time.monotonic() - started
    polls = sum(len(pulls) for pulls in run.agency.pulls.values())
    _say(f"{taken:.0f} s: {await run.states()}; pushes {sum(run.agency.pushes.values())}, polls {polls}")
    _say(f"pushed more than once: {sum(number > 1 for number in run.agency.pushes.values())}")
    _say(f"polled beside the schedule: {len(unscheduled(run.agency, run.policy))}")
    work = polls + size
    parts = ", ".join(f"{name} {1000 * seconds / work:.2f}" for name, seconds in run.seconds.items())
    _say(f"milliseconds for each push or poll, agency double included: {parts}")


def _nodes(explained: dict[str, object]) -> Sequence[str]:
    inner = explained.get("Plans", [])
    assert isinstance(inner, list)
    here = f"{explained['Node Type']} {explained.get('Index Name', '')}".strip()
    return [here, *(name for one in inner for name in _nodes(one))]


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201  - a command's output


if __name__ == "__main__":
    main()
