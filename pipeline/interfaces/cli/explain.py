"""`lodge explain`: one lodgment's story in plain words."""

import asyncio
import json
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from pipeline.interfaces.cli.codes import tell_explained
from pipeline.interfaces.cli.find import the_lodgment
from pipeline.interfaces.cli.screen import print_json, shown, span, stderr, stdout, table, when, write_private
from pipeline.interfaces.cli.session import now, reading, settings_of
from pipeline.interfaces.cli.words import MEANING, WHO, release_of
from pipeline.lodgment.errors import RefusedError
from pipeline.lodgment.states import FINAL, NEXT_STEP, State

if TYPE_CHECKING:
    from pipeline.channels.explanations import Explanation
    from pipeline.ledger.reports import Timeline
    from pipeline.ledger.session import Tx
    from pipeline.lodgment.lodgment import Attempt, Lodgment
    from pipeline.lodgment.replacement import Verdict
    from pipeline.settings import Settings


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command("explain")(explain)


def explain(
    context: typer.Context,
    which: Annotated[
        str, typer.Argument(metavar="ID", help="Lodgment id (or a beginning of it), reference or job id.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for machines.")] = False,
    reply: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the agency's last stored reply to FILE (mode 0600).")
    ] = None,
    envelope: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the envelope as it goes on the wire to FILE (mode 0600).")
    ] = None,
) -> None:
    """Tell one lodgment's story: what it is, where it is and why, who must act, whether and when it is tried again.

    Changes nothing in the ledger. Envelope and reply hold the document, which may be personal data.
    """
    settings = settings_of(context)
    story, files = asyncio.run(_story(settings, which, reply, envelope))
    if as_json:
        print_json(
            {
                **asdict(story),
                "document": json.loads(story.document.job),
                "explanations": [asdict(one) for one in _explained(story)],
            }
        )
    else:
        tell(story, stdout(), now())
    for path, content in files:
        write_private(path, content)
        stderr().print(f"{path}: {len(content)} bytes, readable by you alone")


async def _story(
    settings: "Settings", which: str, reply: Path | None, envelope: Path | None
) -> "tuple[Timeline, list[tuple[Path, bytes]]]":
    from pipeline.ledger import reports

    async with reading(settings) as tx:
        row = await the_lodgment(tx, which)
        story = await reports.timeline(tx, row.id)
        assert story is not None  # noqa: S101  - found in this very transaction
        files = []
        if reply is not None:
            files.append((reply, await _reply(tx, story)))
        if envelope is not None:
            files.append((envelope, await _envelope(tx, row)))
    return story, files


async def _reply(tx: "Tx", story: "Timeline") -> bytes:
    from pipeline.ledger import artifacts

    stored = [attempt.reply_id for attempt in story.attempts if attempt.reply_id is not None]
    if not stored:
        raise RefusedError("reply.none", f"--reply: no reply to {story.lodgment.id} has arrived yet")
    return (await artifacts.read(tx, stored[-1:]))[stored[-1]]


async def _envelope(tx: "Tx", row: "Lodgment") -> bytes:
    from pipeline.ledger import artifacts

    if row.envelope_id is None:
        raise RefusedError("envelope.none", f"--envelope: {row.id} has not been sealed yet (it is {row.state})")
    stored = (await artifacts.read_envelopes(tx, [row.envelope_id]))[row.envelope_id]
    return stored.head + stored.payload + stored.tail


def tell(story: "Timeline", console: Console, moment: datetime) -> None:
    """Print the story: the state and what follows first, then what happened."""
    row = story.lodgment
    console.print(f"{row.state.upper().replace('_', ' ')}  {MEANING[row.state]}", style="bold")
    for name, text in (*_why(row, moment), *_others(story), *_what(story, moment)):
        if text:
            console.print(f"  {name:<12}{shown(text)}", soft_wrap=True)
    if story.attempts:
        columns = ("#", "purpose", "started", "took", "bytes left", "result")
        console.print()
        console.print(table("Attempts (all under one reference)", columns, map(_attempt, story.attempts)))
    if story.events:
        rows = [
            (e.severity, e.code, e.record, e.payee, e.location, " · ".join((e.description, *e.details)))
            for e in story.events
        ]
        console.print()
        columns = ("severity", "code", "record", "payee", "where", "text")
        console.print(table("What the agency said", columns, rows))
    if explained := _explained(story):
        console.print()
        console.print("What the codes mean", style="bold")
        tell_explained(explained, console)
    if story.attachments:
        rows_of_files = [(a.document_type, a.document_number, a.name, a.url) for a in story.attachments]
        console.print()
        console.print(table("Documents at the agency (not fetched)", ("type", "number", "name", "URL"), rows_of_files))
    if story.actions:
        rows_by_hand = [(a.at, a.who, a.action, a.reason) for a in story.actions]
        console.print()
        console.print(table("Done by hand", ("when", "who", "what", "why"), rows_by_hand))


def _explained(story: "Timeline") -> "list[Explanation]":
    """What the codes mean that its outcome and its reason name, each once."""
    from pipeline.channels.explanations import Catalogue

    row, catalogue = story.lodgment, Catalogue()
    codes = [event.code for event in story.events] + ([row.reason.code] if row.reason is not None else [])
    found = [catalogue.find(code, row.channel) for code in dict.fromkeys(codes)]
    return list(dict.fromkeys(one for one in found if one is not None))


def _why(row: "Lodgment", moment: datetime) -> list[tuple[str, str]]:
    lines = []
    if row.reason is not None:
        lines.append(("why", f"{row.reason.code}: {row.reason.text}"))
        lines.append(("who acts", WHO[row.reason.who]))
    return [*lines, ("next", _next(row, moment))]


def _others(story: "Timeline") -> list[tuple[str, str]]:
    """What it has to do with other lodgments."""
    lines = []
    if story.waits_for is not None:
        first = story.waits_for
        why = f", {first.reason.code}: {first.reason.text}" if first.reason is not None else ""
        lines.append(("waits for", f"{first.id} (job {first.job_id}), which has the lane and is {first.state}{why}"))
    if story.hold is not None:
        hold, others = story.hold.hold, story.hold.held - 1
        lines.append(("hold", f"over {hold.reach.scope} {hold.reach.key} on {hold.reach.channel}; keeps {others} more"))
        command = release_of(hold.reach)
        lines.append(("release", f"{command}: one goes first, the others follow when it is not refused"))
    if story.replacement is not None:
        lines.append(("replaces", _replaces(story.replacement)))
    return lines


def _replaces(found: "Verdict") -> str:
    if found.elsewhere:
        return "an event that was not lodged here: the agency alone can judge it"
    waiting = f"; not before {found.waits_for} has its outcome" if found.waits_for is not None else ""
    return f"the event lodged as {found.original}{waiting}"


def _next(row: "Lodgment", moment: datetime) -> str:
    if row.state in FINAL:
        return "nothing: this is final"
    if row.state is State.HELD:
        cancel = "; never sent, so `lodge cancel` is possible too" if row.sent_at is None else ""
        return f'nothing by itself. When the cause is mended: lodge release {row.id} --reason "…"{cancel}'
    assert row.due_at is not None  # noqa: S101  - the ledger's own check: what is neither final nor held is due
    due = f"at {when(row.due_at)} (in {span(row.due_at - moment)})" if row.due_at > moment else "now"
    if row.state in NEXT_STEP:
        return f"{NEXT_STEP[row.state]}, at any moment; if it is still here {due}, its message is sent again"
    if row.state is State.SENDING:
        return f"the answer; if none is stored {due}, when the lease ends, it counts as unknown"
    return f"goes on by itself {due}, as {row.resume}"


def _what(story: "Timeline", moment: datetime) -> list[tuple[str, str]]:
    row = story.lodgment
    age = span(moment - row.received_at)
    sent = f"first {when(row.sent_at)}, {row.attempts} attempt(s)" if row.sent_at else "never: no byte has left"
    return [
        ("lodgment", str(row.id)),
        (
            "reference",
            f"{row.reference} (messageReferenceNumber)"
            if row.reference != str(row.id)
            else "the same (messageReferenceNumber)",
        ),
        ("job", row.job_id),
        ("what", f"{row.channel} {row.service}/{row.action} in {row.environment}"),
        ("for", f"ABN {row.party_abn}, sender {row.sender_id} ({row.sender_type})"),
        ("credential", row.credential),
        ("software id", _software_id(story)),
        ("received", f"{when(row.received_at)} ({age} ago)"),
        ("sent", sent),
        ("finished", when(row.finished_at) if row.finished_at else ""),
        ("agency ref", row.agency_reference or ""),
        ("document", row.document_number or ""),
        ("due date", row.due_date.isoformat() if row.due_date else ""),
        ("order key", row.order_key or ""),
        ("labels", ", ".join(f"{key}={value}" for key, value in story.document.labels.items())),
    ]


def _software_id(story: "Timeline") -> str:
    """The id that it goes under, and where that comes from."""
    from pipeline.lodgment.subscription import Checked

    digits, found = story.lodgment.software_id, story.software_id
    if digits is None:
        return ""
    if found is None:
        return f"{digits}, given by the job; this channel carries none, so it was not looked up"
    allowed = "" if found.checked is Checked.CONTROL_DIGIT else ", allowed although its control digit fails"
    retired = "" if found.retired_at is None else f"; retired since, {when(found.retired_at)}: {found.retired_reason}"
    source = f"{found.origin} by {found.created_by} {when(found.created_at)}"
    return f"{digits}, registered for {found.whose}, {source}{allowed}{retired}"


def _attempt(attempt: "Attempt") -> tuple[object, ...]:
    took = "" if attempt.finished_at is None else f"{(attempt.finished_at - attempt.started_at).total_seconds():.2f} s"
    if attempt.failure is not None:
        result = f"{attempt.failure.kind}: {attempt.failure.code} {attempt.failure.detail}".rstrip()
    elif attempt.finished_at is None:
        result = f"under way, by {attempt.worker}"
    else:
        result = f"HTTP {attempt.http_status}, reply stored"
    left = "no" if attempt.wire_started_at is None else "yes"
    return attempt.number, attempt.purpose, attempt.started_at, took, left, result
