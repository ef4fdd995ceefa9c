"""`lodge codes`: what every code means, and which codes nobody has explained yet."""

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from pipeline.interfaces.cli.screen import print_json, stdout, table
from pipeline.interfaces.cli.session import now, reading, settings_of
from pipeline.interfaces.cli.words import WHO
from pipeline.lodgment.errors import RefusedError

if TYPE_CHECKING:
    from pipeline.channels.explanations import Explanation
    from pipeline.ledger.codes_seen import CodeSeen
    from pipeline.settings import Settings

_FEW = 5
"""So many are told one below the other, with room for every word."""
_COLUMNS = ("code", "said by", "what it means", "who acts", "what to do", "tried again", "where")


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command("codes")(codes)


def codes(
    context: typer.Context,
    code: Annotated[str, typer.Argument(metavar="[CODE]", help="A code, or a part of one; omitted: all.")] = "",
    gaps: Annotated[
        bool, typer.Option("--gaps", help="Only the codes in the ledger that no table explains, the most first.")
    ] = False,
    days: Annotated[int, typer.Option(min=1, max=3650, help="With --gaps: what was met within so many days.")] = 90,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for machines.")] = False,
) -> None:
    """Show what agencies' and our own codes mean: who acts, what to do, whether it is tried again, and where it is.

    Changes nothing. Without --gaps no ledger is opened.
    """
    if gaps:
        found = [
            one for one in asyncio.run(_gaps(settings_of(context), days)) if code.casefold() in one.code.casefold()
        ]
        if as_json:
            print_json([asdict(one) for one in found])
        else:
            tell_gaps(found, days, stdout())
        return
    from pipeline.channels.explanations import Catalogue

    catalogue = Catalogue()
    explained = catalogue.named(code) if code else tuple(catalogue)
    if not explained:
        text = f"no table explains {code!r}: what the agency said stands in `lodge explain ID`; see also --gaps"
        raise RefusedError("codes.none", text)
    if as_json:
        print_json([asdict(one) for one in explained])
    elif len(explained) <= _FEW:
        tell_explained(explained, stdout())
    else:
        rows = [(one.code, one.speaker, one.meaning, one.who, one.action, one.retried, one.place) for one in explained]
        stdout().print(table("Codes", _COLUMNS, rows))


def tell_explained(explained: Collection["Explanation"], console: Console) -> None:
    """Explanations for people, one below the other."""
    for one in explained:
        console.print(f"{one.code}  ({one.speaker})", style="bold")
        lines = (
            ("means", one.meaning),
            ("who acts", WHO[one.who]),
            ("what to do", one.action),
            ("again", one.retried),
            ("where", one.place),
        )
        for name, text in lines:
            console.print(f"  {name:<12}{text}", soft_wrap=True)


def tell_gaps(found: Sequence["CodeSeen"], days: int, console: Console) -> None:
    """The codes that were met and are not explained."""
    if not found:
        console.print(f"Every code that was met within {days} days is explained.")
        return
    rows = [(one.count, one.code, one.channel, one.heard, one.first, one.last, one.example) for one in found]
    columns = ("times", "code", "channel", "met as", "first", "last", "example")
    console.print(table("Codes that no table explains", columns, rows))
    console.print("What was said with one: lodge explain EXAMPLE. A row for it belongs in pipeline/channels/.")


async def _gaps(settings: "Settings", days: int) -> "list[CodeSeen]":
    from pipeline.channels.explanations import Catalogue
    from pipeline.ledger.codes_seen import codes_seen

    catalogue = Catalogue()
    async with reading(settings) as tx:
        seen = await codes_seen(tx, now() - timedelta(days=days))
    return [one for one in seen if catalogue.find(one.code, one.channel) is None]
