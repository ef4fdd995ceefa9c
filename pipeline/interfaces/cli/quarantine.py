"""`lodge quarantine`: messages that no step could take, kept until a person has looked."""

import asyncio
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from pipeline.interfaces.cli.screen import print_json, shown, stderr, stdout, table, write_private
from pipeline.interfaces.cli.session import reading, settings_of
from pipeline.lodgment.errors import RefusedError

if TYPE_CHECKING:
    from pipeline.ledger.quarantine import Quarantined
    from pipeline.settings import Settings

group = typer.Typer(no_args_is_help=True, help="Messages that could not be taken: kept with their reason.")


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.add_typer(group, name="quarantine")


@group.command("list")
def list_(
    context: typer.Context,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many, newest first.")] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for machines.")] = False,
) -> None:
    """List what is in quarantine, newest first. Changes nothing; the messages themselves are not shown."""
    items = asyncio.run(_list(settings_of(context), limit))
    if as_json:
        print_json([_public(item) for item in items])
        return
    if not items:
        stdout().print("Quarantine is empty.")
        return
    rows = [
        (item.id, item.received_at, item.step, item.code, item.job_id or item.lodgment_id, item.reason)
        for item in items
    ]
    stdout().print(table("Quarantine", ("id", "received", "step", "code", "job or lodgment", "reason"), rows))


@group.command("show")
def show(
    context: typer.Context,
    which: Annotated[str, typer.Argument(metavar="ID", help="As `lodge quarantine list` shows it.")],
    body: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the message to FILE (mode 0600); it may hold personal data."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for machines.")] = False,
) -> None:
    """Show why one message is in quarantine and what to do. Changes nothing."""
    item = asyncio.run(_read(settings_of(context), which))
    if as_json:
        print_json(_public(item))
    else:
        console = stdout()
        for name, value in _public(item).items():
            if value is not None:
                console.print(f"  {name.replace('_', ' '):<14}{shown(value)}", soft_wrap=True)
        console.print(f"  {'what now':<14}{_advice(item)}", soft_wrap=True)
    if body is not None:
        write_private(body, item.body)
        stderr().print(f"{body}: {len(item.body)} bytes, readable by you alone")


def _advice(item: "Quarantined") -> str:
    if item.lodgment_id is not None:
        return f"its lodgment is held: `lodge explain {item.lodgment_id}`; release that once the cause is mended"
    return "nothing of it was lodged: the producer corrects the job and pushes it again"


async def _list(settings: "Settings", limit: int) -> "list[Quarantined]":
    from pipeline.ledger import quarantine

    async with reading(settings) as tx:
        return await quarantine.list_(tx, limit)


async def _read(settings: "Settings", which: str) -> "Quarantined":
    from pipeline.ledger import quarantine

    try:
        wanted = UUID(which)
    except ValueError as error:
        raise RefusedError("quarantine.none", f"{which!r} is no id; `lodge quarantine list` shows the ids") from error
    async with reading(settings) as tx:
        item = await quarantine.read(tx, wanted)
    if item is None:
        raise RefusedError("quarantine.none", f"nothing in quarantine has the id {which}; see `lodge quarantine list`")
    return item


def _public(item: "Quarantined") -> dict[str, object]:
    return {field.name: getattr(item, field.name) for field in fields(item) if field.name != "body"}
