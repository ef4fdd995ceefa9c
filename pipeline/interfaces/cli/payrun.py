"""`lodge sandbox payrun`: synthetic pay runs of any size, as a payroll product's export or as pay events."""

import csv
import json
import os
import random
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, date, datetime
from enum import StrEnum
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.interfaces.cli import screen
from pipeline.lodgment.errors import ConfigurationError

if TYPE_CHECKING:
    from pipeline.sandbox.pay_run import PayRun

_README = """SYNTHETIC. Employers, payees and amounts in this folder were made up; every tax file number is 111111111
(pending). Nothing in it is known to any agency, and none of it may be lodged anywhere but with the sandbox.
"""
_MOST = 1_000_000


class As(StrEnum):
    """What is written."""

    DOCUMENTS = "documents"
    CSV = "csv"
    NDJSON = "ndjson"


def payrun(
    employers: Annotated[int, typer.Option(min=1, max=_MOST, help="How many employers.")],
    payees: Annotated[int, typer.Option(min=1, help="How many people they pay between them: a few many, many few.")],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="DIR", help="A new folder.")],
    as_: Annotated[As, typer.Option("--as", help="Pay events, a file for each employer; or a payee table.")] = As.CSV,
    seed: Annotated[int, typer.Option(help="Another one, another pay run.")] = 1,
    pay_date: Annotated[
        str | None, typer.Option("--date", metavar="YYYY-MM-DD", help="The pay date; omitted: today, in UTC.")
    ] = None,
) -> None:
    """Write a synthetic pay run of any size to a new folder: a payee table for `lodge stp build`, or pay events.

    The same numbers, seed and date give the same bytes. No tax file number is in it, and no business is real. The
    folder also gets software-ids.csv, the ids under which these employers lodge: `lodge software-ids import` it once,
    then `lodge submit`.
    """
    from pipeline.sandbox.pay_run import PayRun, any_size

    moment = _moment(pay_date)
    chance = random.Random(seed)  # noqa: S311  - repeatable examples, not secrets
    try:
        found = list(any_size(employers, payees, chance))
    except ValueError as error:
        raise ConfigurationError("sandbox.payrun", f"--payees: {error}") from error
    try:
        out.mkdir(parents=True, mode=0o700)
    except FileExistsError as error:
        raise ConfigurationError(
            "sandbox.payrun", f"{out} is there already and is not added to: name another"
        ) from error
    except OSError as error:
        raise ConfigurationError("sandbox.payrun", f"{out} cannot be written: {error.strerror}") from error
    runs = (PayRun(one, f"SYN-{seed}-{one.number}-{moment:%Y%m%d}", moment, full=True) for one in found)
    (out / "README").write_text(_README)
    with (out / "software-ids.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("abn", "software_id"))
        rows.writerows((one.abn, one.software_id) for one in found)
    {As.DOCUMENTS: _documents, As.CSV: _csv, As.NDJSON: _ndjson}[as_](out, runs)
    screen.stdout().print(f"SYNTHETIC: {employers} employer(s) with {payees} payee(s) in {out}", soft_wrap=True)


def _moment(pay_date: str | None) -> datetime:
    """Midnight in UTC: the time of day would make every pay run another."""
    try:
        day = datetime.now(UTC).date() if pay_date is None else date.fromisoformat(pay_date)
    except ValueError as error:
        raise ConfigurationError("sandbox.payrun", "--date: must be a date as YYYY-MM-DD") from error
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def _documents(out: Path, runs: "Iterable[PayRun]") -> None:
    from pipeline.sandbox.pay_run import event_documents

    (out / "events").mkdir(mode=0o700)
    for run in runs:
        with (out / "events" / f"{run.employer.bms_id}.xml").open("wb") as file:
            file.writelines(event_documents(run))


def _csv(out: Path, runs: "Iterable[PayRun]") -> None:
    lines = _lines(runs)
    first = next(lines)
    with (out / "payees.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(first))
        writer.writeheader()
        writer.writerows(chain((first,), lines))
    _as_of(out / "payees.csv", first)


def _ndjson(out: Path, runs: "Iterable[PayRun]") -> None:
    first = None
    with (out / "payees.ndjson").open("w", encoding="utf-8") as file:
        for line in _lines(runs):
            first = first or line
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
    assert first is not None  # noqa: S101  - every pay run has a payee
    _as_of(out / "payees.ndjson", first)


def _lines(runs: "Iterable[PayRun]") -> Iterator[Mapping[str, str]]:
    from pipeline.sandbox.pay_run import table_lines

    return chain.from_iterable(map(table_lines, runs))


def _as_of(path: Path, line: Mapping[str, str]) -> None:
    """Written on its pay date, as far as anybody can tell: so that events built from it are the same each time."""
    moment = datetime.fromisoformat(f"{line['pay_date']}T00:00:00+00:00").timestamp()
    os.utime(path, (moment, moment))
