"""`lodge recover`: every queue rebuilt from the ledger, and a restored ledger reconciled with the agencies."""

import asyncio
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from pipeline.interfaces.cli.operate import require_reason
from pipeline.interfaces.cli.screen import print_json, progress, shown, span, stderr, stdout, table
from pipeline.interfaces.cli.session import now, opened_ledger, operator, settings_of, somebody_at_work
from pipeline.lodgment.errors import ConfigurationError, DependencyDownError, RefusedError
from pipeline.lodgment.states import NEXT_STEP, State

if TYPE_CHECKING:
    from pipeline.ledger.recovery import KnownJobs, OpenState
    from pipeline.ledger.session import Ledger
    from pipeline.settings import Settings

_PORTION = 500
_ASKED_AT_ONCE = 2_000
_JOB_ID_LENGTH = 128

T = TypeVar("T")


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command("recover")(recover)


def recover(
    context: typer.Context,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be done, and do nothing.")] = False,
    after_restore: Annotated[
        bool,
        typer.Option(
            "--after-restore",
            help="The ledger was restored from a backup: doubt what it believes unsent. Once, before workers start.",
        ),
    ] = False,
    reason: Annotated[
        str, typer.Option("--reason", help="Why, for the audit; needed with --after-restore.", show_default=False)
    ] = "",
    known: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="A producer's job ids, one a line (- for stdin): print those that the ledger does not know.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="With --known: print JSON for machines.")] = False,
) -> None:
    """Rebuild every queue from the ledger after the broker lost them: nearest due date first, then the oldest.

    Exchanges and queues are declared, and each lodgment that only a message moves gets its message again. What waits
    for a time, a token or a person needs none. Safe while workers run and safe to repeat: a message that comes twice
    finds its work done.

    Jobs that were only in the intake queue are gone with the broker, though it had confirmed them: the ledger never saw
    them. Let each producer list the job ids that it had confirmed, and give them to --known: the ids that it prints
    are to be pushed again, as they were. Exit code 1 if there are any.
    """
    settings = settings_of(context)
    if known is not None:
        if dry_run or after_restore:
            raise ConfigurationError("recover.which", "--known only looks: give it alone, or with --json")
        _known(settings, known, as_json=as_json)
    elif after_restore:
        if not dry_run:
            require_reason(reason)
        asyncio.run(_after_restore(settings, reason, dry_run=dry_run))
    else:
        asyncio.run(_recover(settings, dry_run=dry_run))


async def _recover(settings: "Settings", *, dry_run: bool) -> None:
    from pipeline.bootstrap import open_broker
    from pipeline.ledger import recovery
    from pipeline.stages.recover import Recover

    if settings.embedded:
        stdout().print(
            "Without a broker the queues live inside the process that runs, and each start rebuilds them from the"
            " ledger: `lodge run` is all that is needed."
        )
        return
    async with opened_ledger(settings) as ledger:
        async with ledger.transaction(read_only=True) as tx:
            view = await recovery.open_states(tx)
            ids = await recovery.carried_by_messages(tx)
        _tell_plan(view)
        if dry_run:
            await _tell_queues(settings)
            stdout().print(f"To put back: {len(ids)}. Nothing was changed.")
            return
        broker = open_broker(settings)
        stage = Recover(ledger, now, settings.stuck_after)
        put_back = 0
        try:
            await broker.open()
            with progress() as bar:
                task = bar.add_task("put back", total=len(ids))
                for portion in _portions(ids, _PORTION):
                    messages = await stage.put_back(portion)
                    await broker.publish(messages)
                    put_back += len(messages)
                    bar.advance(task, len(portion))
        finally:
            await broker.close()
        await _audit(ledger, "recover", f"{put_back} messages put back")
    console = stdout()
    console.print(f"Put back: {put_back}. Moved on by themselves meanwhile: {len(ids) - put_back}.")
    console.print(
        "Jobs that only the intake queue had are gone with it: let producers check theirs with `lodge recover --known`."
    )


async def _after_restore(settings: "Settings", why: str, *, dry_run: bool) -> None:
    from pipeline.ledger import recovery
    from pipeline.stages.recover import Recover

    if somebody_at_work(settings):
        raise RefusedError("recover.busy", "a process works on this ledger: stop it, then give the command again")
    async with opened_ledger(settings) as ledger:
        async with ledger.transaction(read_only=True) as tx:
            view = await recovery.open_states(tx)
            ids = await recovery.not_final(tx)
        _tell_plan(view, restored=True)
        if dry_run:
            stdout().print("Nothing was changed.")
            return
        stage, since, doubted = Recover(ledger, now, settings.stuck_after), now(), 0
        await stage.restored()
        with progress() as bar:
            task = bar.add_task("doubted", total=len(ids))
            for number, portion in enumerate(_portions(ids, _PORTION)):
                doubted += await stage.doubt(portion, since, number * _PORTION)
                bar.advance(task, len(portion))
        await _audit(ledger, "recover.after-restore", f"{doubted} lodgments doubted: {why}")
    console = stdout()
    console.print(f"Doubted: {doubted} of {len(ids)} open lodgments. They go on under the references that they have.")
    console.print(
        "Now start the workers, and have producers push again what `lodge recover --known` does not know: a job gets"
        " the reference that it had, so an agency that has processed it answers with its first answer."
    )


async def _audit(ledger: "Ledger", action: str, what: str) -> None:
    from pipeline.ledger import operators
    from pipeline.ledger.operators import OperatorAction
    from pipeline.lodgment.references import uuid7

    moment = now()
    deed = OperatorAction(uuid7(moment, os.urandom(10)), moment, operator(), action, None, what)
    async with ledger.transaction() as tx:
        await operators.add(tx, [deed])


def _tell_plan(view: "Sequence[OpenState]", *, restored: bool = False) -> None:
    moment, console = now(), stdout()
    if not view:
        console.print("No lodgment is open.")
        return
    rows = [
        (one.state, one.count, span(moment - one.oldest), one.earliest_due_date, _what_becomes(one, restored=restored))
        for one in view
    ]
    console.print(table("Open lodgments", ("state", "count", "oldest", "nearest due date", "what is done"), rows))


def _what_becomes(one: "OpenState", *, restored: bool) -> str:
    if restored:
        return _AFTER_RESTORE.get(one.state, "becomes unknown: sent again under the same reference")
    if one.state in NEXT_STEP:
        return "gets its message again"
    if one.state is State.SENDING:
        under_way = one.count - one.answered
        return f"{one.answered} replies get their message again; {under_way} under way: nothing, or their lease ends"
    return "nothing: a person has it" if one.state is State.HELD else "nothing: the ledger wakes it"


_AFTER_RESTORE = {
    State.SENDING: "nothing: its lease ends, then the same bytes again",
    State.UNKNOWN: "nothing: it is sent again under the same reference",
    State.AWAITING: "nothing: it is asked for",
    State.HELD: "stays held, and cannot be cancelled any more",
    State.PARKED: "becomes unknown, unless its producer's own time has not come",
}


async def _tell_queues(settings: "Settings") -> None:
    from pipeline.broker.inspection import inspect
    from pipeline.broker.topology import Topology

    console = stdout()
    topology = Topology(settings.namespace, settings.delivery_limit)
    for url in settings.broker_urls:
        try:
            view = await inspect(url, topology)
        except DependencyDownError as error:
            console.print(f"BROKER: {error} [{error.code}]")
            continue
        if view.absent:
            console.print(f"Not there, and would be declared: {', '.join(map(shown, view.absent))}.")
        console.print(table("Messages waiting in queues now", ("queue", "ready"), view.depths.items()))
        return


def _known(settings: "Settings", source: str, *, as_json: bool) -> None:
    job_ids = _job_ids(source)
    found = asyncio.run(_ask_ledger(settings, job_ids))
    if as_json:
        print_json({"asked": len(job_ids), **asdict(found)})
    else:
        for job_id in found.unknown:
            print(job_id)  # noqa: T201  - the command's result, to be piped
        console = stderr()
        states = ", ".join(f"{count} {state}" for state, count in sorted(found.states.items()))
        console.print(f"Of {len(job_ids)} job ids the ledger has: {states or 'none'}.")
        if found.refused:
            console.print(
                f"Refused, and in quarantine: {len(found.refused)}: correct them, do not push them as they are."
            )
        if found.unknown:
            console.print(f"Not known: {len(found.unknown)}: push them again, once the queue `receive` is empty.")
    if found.unknown:
        raise typer.Exit(1)


async def _ask_ledger(settings: "Settings", job_ids: Sequence[str]) -> "KnownJobs":
    from pipeline.ledger import recovery
    from pipeline.ledger.recovery import KnownJobs

    total = KnownJobs({}, [], [])
    async with opened_ledger(settings) as ledger, ledger.transaction(read_only=True) as tx:
        for asked in _portions(job_ids, _ASKED_AT_ONCE):
            found = await recovery.known(tx, asked)
            for state, count in found.states.items():
                total.states[state] = total.states.get(state, 0) + count
            total.refused.extend(found.refused)
            total.unknown.extend(found.unknown)
    return total


def _job_ids(source: str) -> list[str]:
    """The ids in a file, each once, in order.

    Raises:
        ConfigurationError: `recover.file`, `recover.job-id`; names the line.
    """
    try:
        text = sys.stdin.read() if source == "-" else Path(source).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text in UTF-8"
        raise ConfigurationError("recover.file", f"--known: {source} cannot be read: {why}") from error
    found: dict[str, None] = {}
    for number, line in enumerate(text.splitlines(), 1):
        job_id = line.strip()
        if len(job_id) > _JOB_ID_LENGTH or not job_id.isprintable() or " " in job_id:
            rule = f"one job id a line, at most {_JOB_ID_LENGTH} characters, no spaces"
            raise ConfigurationError("recover.job-id", f"--known: line {number} of {source} is no job id: {rule}")
        if job_id:
            found.setdefault(job_id)
    return list(found)


def _portions(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    return (items[at : at + size] for at in range(0, len(items), size))
