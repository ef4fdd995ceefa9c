"""`lodge stp`: pay events from tables of payees."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.interfaces.cli import screen
from pipeline.lodgment.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable

group = typer.Typer(no_args_is_help=True, help="Single Touch Payroll: pay events from a table of payees.")
_EXPECTED = frozenset({".csv", ".ndjson", ".jsonl"})


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.add_typer(group, name="stp")


@group.command("build")
def build(
    table: Annotated[
        Path, typer.Argument(metavar="PAYEES", help="CSV with a header, or NDJSON: a line for each payee.")
    ],
    out: Annotated[
        Path, typer.Option("-o", "--out", help="A new folder, a file in it for each payer; or one file, NAME.xml.")
    ],
    mapping: Annotated[
        Path | None, typer.Option(help="TOML file that says how the columns of your export are called.")
    ] = None,
    update: Annotated[
        bool, typer.Option("--update", help="Update events: corrections without a payment, for --action Update.")
    ] = False,
    at: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="When the events were made, in UTC; omitted: when the table was written."),
    ] = None,
    errors: Annotated[int, typer.Option(min=1, help="How many problems to tell.")] = 50,
) -> None:
    """Build pay events from a table of payees, for `lodge submit`.

    A line is a payee. Lines of one payer, branch and payroll system (payer_abn or payer_wpn, branch, bms_id) stand
    together and become one event, its totals the sums of the period columns. `lodge stp columns` lists the columns,
    docs/stp-input.md explains them and the mapping file.

    All of the table is checked before anything is written, and nothing is written if anything is wrong: each problem
    names line, column, rule and what to do, never the value. The table is read twice and never held. Files are
    readable by their owner alone; delete them once they are lodged. The same table built again gives the same bytes, so
    submitting them again lodges nothing twice.

    What the agency's schema asks for is not public: an event that is built may still be refused.

    Exit code 1: the table has problems, nothing was written.
    """
    from pipeline.channels.payee_rows import Terms
    from pipeline.interfaces.cli.payee_mapping import read_names
    from pipeline.interfaces.cli.session import now
    from pipeline.interfaces.cli.stp_building import Order, build

    if table.suffix.lower() not in _EXPECTED:
        raise ConfigurationError(
            "stp.table", f"{table}: must end in .csv, .ndjson or .jsonl, so that it is known how to read it"
        )
    moment = now()
    one_file = out.suffix.lower() == ".xml"
    try:
        order = Order(
            path=table,
            names=read_names(mapping),
            out=out,
            one_file=one_file,
            terms=Terms(update=update, now=moment),
            written_at=_written_at(table, at, moment),
            told=errors,
        )
        with _progress() as advance:
            built = build(order, advance)
    except OSError as error:
        raise ConfigurationError("stp.table", f"{error.filename or table}: {error.strerror}") from error
    if built.problems:
        console = screen.stderr()
        for problem in built.problems:
            console.print(screen.shown(problem), soft_wrap=True)
        if built.more:
            console.print(f"… and {built.more} more.")
        console.print(f"{len(built.problems) + built.more} problem(s): NOTHING was written.")
        raise typer.Exit(1)
    action = " --action Update" if update else ""
    screen.stdout().print(
        f"{built.payers} event(s) of {built.payees} payee(s) in {out}\nnext: lodge submit {out}{action} --dry-run",
        soft_wrap=True,
    )


@group.command("columns")
def columns(
    json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """List the columns of a payee table: name, whether required, form, and where each lands in the event."""
    from dataclasses import asdict

    from pipeline.channels.payee_columns import payee_columns, payer_columns, total_columns

    found = [
        (part, column)
        for part, of_part in (("payer", payer_columns()), ("payee", payee_columns()), ("total", total_columns()))
        for column in of_part.values()
    ]
    if json:
        screen.print_json([{"part": part, **asdict(column), "form": column.form.value} for part, column in found])
        return
    rows = [
        (part, one.name, "yes" if one.required else "", "|".join(one.choices) or one.form.value, one.place)
        for part, one in found
    ]
    screen.stdout().print(
        screen.table("Columns of a payee table", ("part", "column", "required", "form", "place"), rows)
    )


def _written_at(table: Path, at: str | None, moment: datetime) -> datetime:
    if at is None:
        return min(datetime.fromtimestamp(table.stat().st_mtime, UTC), moment)
    try:
        given = datetime.fromisoformat(at)
    except ValueError as error:
        text = f"--at: must be a date and time in UTC, for example {moment:%Y-%m-%dT%H:%M:%SZ}"
        raise ConfigurationError("stp.at", text) from error
    if given.utcoffset() != timedelta(0) or given > moment:
        raise ConfigurationError("stp.at", "--at: must be in UTC and say so with a final Z, and not be in the future")
    return given


@contextmanager
def _progress() -> "Iterator[Callable[[], None]]":
    """A count on stderr while the block runs; nothing where nobody looks."""
    bar = screen.progress()
    bar.disable = not bar.console.is_terminal
    with bar:
        task = bar.add_task("lines, each read twice", total=None)
        yield lambda: bar.advance(task)
