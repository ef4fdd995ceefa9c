"""`lodge software-ids`: the ids by which the ATO knows that a client uses this provider's software."""

import asyncio
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.interfaces.cli.screen import print_json, shown, stderr, stdout, table, when, write_private
from pipeline.interfaces.cli.session import reading, settings_of
from pipeline.lodgment.errors import ConfigurationError, RefusedError
from pipeline.lodgment.software_id import SoftwareId, SoftwareIdError, control_digit

if TYPE_CHECKING:
    from pipeline.lodgment.subscription import RegisteredId
    from pipeline.settings import Settings

_PROBLEMS_SHOWN = 50
_EVERYTHING = 10_000_000
_COMPARE = (
    "compare it with what the client told the ATO; if the ATO knows the client by it, --allow-failing-control-digit"
)

group = typer.Typer(
    no_args_is_help=True,
    help="Software ids (SSID): one for each payroll product and employer or agent, looked up for every lodgment.",
)
Which = Annotated[str, typer.Argument(metavar="ID", help="The ten digits, leading zeroes included.")]
Product = Annotated[
    str | None,
    typer.Option("--product", metavar="NAME", help="The payroll product; omitted: setting software.product."),
]
Reason = Annotated[str, typer.Option("--reason", help="Why, for the audit.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.add_typer(group, name="software-ids")


@group.command("list")
def list_(
    context: typer.Context,
    text: Annotated[str, typer.Argument(metavar="[TEXT]", help="Beginning of an id, an ABN or a WPN.")] = "",
    product: Annotated[str | None, typer.Option("--product", metavar="NAME", help="Of this product only.")] = None,
    retired: Annotated[bool, typer.Option("--retired", help="Also those that are no longer in use.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=1_000_000, help="At most so many, by ABN.")] = 100,
    as_json: Json = False,
) -> None:
    """List registered software ids. Changes nothing."""
    found = asyncio.run(_list(settings_of(context), text, product, limit, retired=retired))
    if as_json:
        print_json([_fields(one) for one in found])
        return
    if not found:
        stdout().print("No software id is registered there.")
        return
    rows = [
        (
            one.software_id,
            one.whose.party,
            one.whose.product,
            one.origin,
            one.checked,
            one.created_at,
            _use(one),
            one.note,
        )
        for one in found
    ]
    columns = ("id", "ABN or WPN", "product", "origin", "checked", "since", "use", "note")
    stdout().print(table("Software ids", columns, rows))
    if len(found) == limit:
        stderr().print(f"Perhaps there are more: these are the first {limit} (--limit).")


@group.command("show")
def show(context: typer.Context, which: Which, as_json: Json = False) -> None:
    """Show one registered id: whose it is, where it comes from, who did what. Changes nothing."""
    one = asyncio.run(_read(settings_of(context), the_id(which)))
    if as_json:
        print_json(_fields(one))
        return
    for name, value in _fields(one).items():
        if value is not None:
            stdout().print(f"  {name.replace('_', ' '):<16}{shown(value)}", soft_wrap=True)
    if one.software_id.control_fault is not None:
        stderr().print(f"Allowed although its {one.software_id.control_fault}.")


@group.command("check")
def check(context: typer.Context, which: Which) -> None:
    """Explain the rule on one id, and say whether it is registered here. Changes nothing; needs no ledger.

    Two digits that changed places go unnoticed by this rule, so compare a mistyped id with the registered one.
    Exit code 1: the rule does not hold and the id is not registered.
    """
    software_id = the_id(which)
    first_nine, last = software_id.digits[:9], software_id.digits[9]
    total = sum(map(int, first_nine))
    console = stdout()
    console.print(
        f"{'+'.join(first_nine)} = {total}; {total} modulo 10 = {control_digit(first_nine)}; tenth digit: {last}"
    )
    console.print(software_id.control_fault or "The control digit holds.")
    try:
        found = asyncio.run(_find(settings_of(context), software_id))
    except ConfigurationError as error:
        found = None
        console.print(f"Not looked up: {error}", soft_wrap=True)
    else:
        console.print(_registration(found), soft_wrap=True)
    if software_id.control_fault is not None and found is None:
        raise typer.Exit(1)


@group.command("generate")
def generate(
    context: typer.Context,
    party: Annotated[
        str | None, typer.Argument(metavar="[ABN|WPN]", help="The employer, or the agent's practice (ABN).")
    ] = None,
    file: Annotated[
        Path | None, typer.Option("--from", metavar="CSV", help="Many at once: columns abn or wpn, product, note.")
    ] = None,
    product: Product = None,
    note: Annotated[str | None, typer.Option(help="Kept with the id, for people.")] = None,
    as_json: Json = False,
) -> None:
    """Generate ids for those that have none, all or none of them, and print them. Repeating it makes nothing new.

    An id is for one payroll product as used by one employer (ABN, or WPN), or by one agent's practice: its ABN, once,
    whatever the number of its clients. Give it to the client over a secured channel or the phone: the client tells the
    ATO of it, and only then can anything be lodged under it. See docs/software-ids.md.
    """
    from pipeline.interfaces.cli.software_id_changes import generated, one_client
    from pipeline.interfaces.cli.software_id_files import read_clients

    settings = settings_of(context)
    product = product or _usual_product(settings)
    if (party is None) == (file is None):
        raise ConfigurationError("software-id.whose", "give either an ABN or WPN, or --from CSV: whose id is it?")
    if file is not None and note is not None:
        raise ConfigurationError("software-id.note", "--note: is for a single id; in a file it is the column note")
    read = one_client(party, product, note) if file is None else read_clients(file, product, with_ids=False)
    _stop_on(read.problems, file)
    made, before = asyncio.run(generated(settings, read.entries))
    if as_json:
        print_json([_fields(one) for one in (*made, *before)])
        return
    rows = [
        (one.software_id, one.whose.party, one.whose.product, what) for what, ids in _news(made, before) for one in ids
    ]
    stdout().print(table("Software ids", ("id", "ABN or WPN", "product", ""), rows))
    stderr().print(f"Generated: {len(made)}; had one already: {len(before)}.")


@group.command("import")
def import_(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="CSV", help="Columns software_id, abn or wpn, product, note.")],
    product: Product = None,
    allow: Annotated[
        bool,
        typer.Option(
            "--allow-failing-control-digit",
            help="Take ids that break the rule too, marked so: only where the ATO knows the client by such an id.",
        ),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything, register nothing.")] = False,
) -> None:
    """Register ids that clients have already: every line is checked first, and all are registered or none.

    A line that is registered just so already is passed over, so a file may be imported again.
    """
    from pipeline.interfaces.cli.software_id_changes import imported, without_control_digit
    from pipeline.interfaces.cli.software_id_files import read_clients

    settings = settings_of(context)
    read = read_clients(file, product or _usual_product(settings), with_ids=True)
    failing = without_control_digit(read.entries)
    refused = [] if allow else [f"{line}; {_COMPARE}" for line in failing]
    _stop_on([*read.problems, *refused], file)
    new, problems = asyncio.run(imported(settings, read.entries, write=not dry_run))
    _stop_on(problems, file)
    for line in failing:
        stderr().print(f"warning: {line}; allowed, and marked so", soft_wrap=True)
    what = "Would register" if dry_run else "Registered"
    stdout().print(f"{what}: {new}; registered before: {len(read.entries) - new}; control digit fails: {len(failing)}.")


@group.command("retire")
def retire(context: typer.Context, which: Which, reason: Reason) -> None:
    """Take an id out of use; nobody else ever gets it. New jobs of its client are refused until it has another.

    What was received before keeps the id.
    """
    from pipeline.interfaces.cli.software_id_changes import retired

    one = asyncio.run(retired(settings_of(context), the_id(which), reason))
    stdout().print(f"Retired: {one.software_id}, of {shown(one.whose)}.", soft_wrap=True)


@group.command("restore")
def restore(context: typer.Context, which: Which, reason: Reason) -> None:
    """Put a retired id back in use, for the same client and product as before."""
    from pipeline.interfaces.cli.software_id_changes import restored

    one = asyncio.run(restored(settings_of(context), the_id(which), reason))
    stdout().print(f"In use again: {one.software_id}, of {shown(one.whose)}.", soft_wrap=True)


@group.command("export")
def export(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="CSV", help="A new file; readable by you alone (mode 0600).")],
    product: Annotated[str | None, typer.Option("--product", metavar="NAME", help="Of this product only.")] = None,
) -> None:
    """Write the ids in use to a CSV file, for giving them out; changes nothing, and `import` takes the file.

    Pass ids on over a secured channel. A spreadsheet drops leading zeroes unless it is told that the column is text.
    """
    from pipeline.interfaces.cli.software_id_files import written

    found = asyncio.run(_list(settings_of(context), "", product, _EVERYTHING, retired=False))
    write_private(file, written(found))
    stdout().print(f"{file}: {len(found)} software id(s).")


def the_id(text: str) -> SoftwareId:
    """The id that a person typed.

    Raises:
        ConfigurationError: `software-id.form`.
    """
    try:
        return SoftwareId(text.replace(" ", ""))
    except SoftwareIdError as error:
        raise ConfigurationError("software-id.form", f"ID: {error}") from error


def _usual_product(settings: "Settings") -> str | None:
    from pipeline.profiles import payroll_product

    return payroll_product(settings)


def _stop_on(problems: Sequence[str], file: Path | None) -> None:
    """With any problem, tell them and leave: nothing is half-written."""
    if not problems:
        return
    for problem in problems[:_PROBLEMS_SHOWN]:
        stderr().print(shown(f"{file}: {problem}" if file else problem), soft_wrap=True)
    if len(problems) > _PROBLEMS_SHOWN:
        stderr().print(f"… and {len(problems) - _PROBLEMS_SHOWN} more.")
    stderr().print(f"{len(problems)} problem(s): NOTHING was registered.")
    raise typer.Exit(1)


def _news(
    made: "Sequence[RegisteredId]", before: "Sequence[RegisteredId]"
) -> "tuple[tuple[str, Sequence[RegisteredId]], ...]":
    return ("new", made), ("had it before", before)


def _use(one: "RegisteredId") -> str:
    return "in use" if one.retired_at is None else f"retired {when(one.retired_at)}"


def _registration(found: "RegisteredId | None") -> str:
    if found is None:
        return "Not registered here."
    return f"Registered for {shown(found.whose)}, {found.origin}, {_use(found)}."


def _fields(one: "RegisteredId") -> dict[str, object]:
    """As JSON shows it: flat, and with the id as text."""
    rest = {name: value for name, value in asdict(one).items() if name not in {"software_id", "whose"}}
    return {"software_id": one.software_id.digits, **asdict(one.whose), **rest}


async def _list(
    settings: "Settings", text: str, product: str | None, limit: int, *, retired: bool
) -> "list[RegisteredId]":
    from pipeline.ledger import software_ids

    async with reading(settings) as tx:
        return await software_ids.list_(tx, text.replace(" ", ""), limit, product=product, retired=retired)


async def _find(settings: "Settings", which: SoftwareId) -> "RegisteredId | None":
    from pipeline.ledger import software_ids

    async with reading(settings) as tx:
        return (await software_ids.by_id(tx, [which])).get(which)


async def _read(settings: "Settings", which: SoftwareId) -> "RegisteredId":
    found = await _find(settings, which)
    if found is None:
        raise RefusedError("software-id.unknown", f"{which} is not registered; see `lodge software-ids list`")
    return found
