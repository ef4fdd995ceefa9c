"""`lodge quarantine`: messages that no step could take, kept until a person has looked."""

import asyncio
import json
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.interfaces.cli import quarantine_changes
from pipeline.interfaces.cli.find import the_item
from pipeline.interfaces.cli.screen import print_json, shown, stderr, stdout, table, write_private
from pipeline.interfaces.cli.session import reading, settings_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pipeline.ledger.quarantine import Quarantined
    from pipeline.settings import Settings

_SHOWN_LENGTH = 128
_OPEN_FIELDS = frozenset({"v", "lodgment", "attempt", "version", "job_id", "channel", "service", "action"}) | {
    "priority",
    "due_date",
    "not_before",
    "payload.media_type",
    "payload.size",
    "payload.sha256",
}

group = typer.Typer(no_args_is_help=True, help="Messages that could not be taken: kept with their reason.")

group.command("fix")(quarantine_changes.fix)
group.command("return")(quarantine_changes.put_back)
group.command("discard")(quarantine_changes.discard)


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.add_typer(group, name="quarantine")


@group.command("list")
def list_(
    context: typer.Context,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many, newest first.")] = 50,
    code: Annotated[str | None, typer.Option(metavar="CODE", help="Only those with this reason code.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Also those that were returned or discarded.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for machines.")] = False,
) -> None:
    """List what is in quarantine, newest first. Changes nothing; the messages themselves are not shown."""
    items = asyncio.run(_list(settings_of(context), limit, code, everything=everything))
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
    """Show what one message is, why it is in quarantine and what to do. Changes nothing; its values stay covered."""
    item = asyncio.run(_read(settings_of(context), which))
    if as_json:
        print_json(_public(item))
    else:
        console = stdout()
        for name, value in _public(item).items():
            if value is not None:
                console.print(f"  {name.replace('_', ' '):<14}{shown(value)}", soft_wrap=True)
        console.print(f"  {'what now':<14}{_advice(item)}", soft_wrap=True)
        console.print("  The message, its values covered:")
        for line in masked(item.body):
            console.print(f"    {shown(line)}", soft_wrap=True)
    if body is not None:
        write_private(body, item.body)
        stderr().print(f"{body}: {len(item.body)} bytes, readable by you alone")


def _advice(item: "Quarantined") -> str:
    if item.fate is not None:
        return f"nothing: it was {item.fate}"
    if item.lodgment_id is not None:
        return f"its lodgment: `lodge explain {item.lodgment_id}`; mended, `lodge quarantine return {item.id}`"
    return (
        "nothing of it was lodged: the producer corrects the job and pushes it again; or, where the producer agrees,"
        f" `lodge quarantine fix {item.id}`, then `return`"
    )


def masked(body: bytes) -> list[str]:
    """What a message looks like: its fields with the kind and length of what they hold; values only of a few fields
    that say nothing about a person.
    """
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        return [f"{len(body)} bytes that are no JSON object"]
    return list(_masked(fields, ""))


def _masked(fields: dict[str, object], prefix: str) -> "Iterator[str]":
    for name, value in fields.items():
        path = f"{prefix}{name}"
        match value:
            case dict():
                yield from _masked(value, f"{path}.")
            case str() | int() if path in _OPEN_FIELDS:
                yield f"{path}: {str(value)[:_SHOWN_LENGTH]}"
            case str():
                yield f"{path}: text, {len(value)} characters"
            case _:
                yield f"{path}: {type(value).__name__}"


async def _list(settings: "Settings", limit: int, code: str | None, *, everything: bool) -> "list[Quarantined]":
    from pipeline.ledger import quarantine

    async with reading(settings) as tx:
        return await quarantine.list_(tx, limit, released=everything, code=code)


async def _read(settings: "Settings", which: str) -> "Quarantined":
    async with reading(settings) as tx:
        return await the_item(tx, which)


def _public(item: "Quarantined") -> dict[str, object]:
    return {field.name: getattr(item, field.name) for field in fields(item) if field.name != "body"}
