"""`lodge replay`: lodge many once more, by a frozen list, in stages; safe by design, whatever became of them before."""

import asyncio
import os
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from pipeline.interfaces.cli.replay_screen import followed, print_replay, shown_list, view_of
from pipeline.interfaces.cli.screen import print_json, stderr, stdout
from pipeline.interfaces.cli.session import now, opened_ledger, operator, reading, settings_of, somebody_at_work
from pipeline.lodgment.errors import ConfigurationError, RefusedError
from pipeline.lodgment.replay import Mode
from pipeline.lodgment.replay_run import (
    HALT_SHARE,
    RATE,
    ItemState,
    Replay,
    approved,
    cancelled,
    paused,
    resumed,
    started,
)

if TYPE_CHECKING:
    from pipeline.ledger.session import Tx
    from pipeline.lodgment.selection import Condition
    from pipeline.settings import Settings

group = typer.Typer(no_args_is_help=True, help="Lodge many once more: plan, look, start; one first, then the rest.")

Which = Annotated[str, typer.Argument(metavar="ID", help="As `lodge replay list` shows it, or a beginning of it.")]
Why = Annotated[str, typer.Option("--reason", help="Why; it is kept with every lodgment.", show_default=False)]
Rate = Annotated[
    float | None,
    typer.Option(
        "--rate",
        min=0.01,
        max=10_000,
        help=f"Lodgments a second at most; {RATE:g} unless said or set.",
    ),
]
Share = Annotated[
    float | None,
    typer.Option(
        "--halt-share",
        min=0.001,
        max=1,
        help=f"Halt when one failure meets so large a share of a stage; {HALT_SHARE:g} unless said or set.",
    ),
]
Follow = Annotated[bool, typer.Option("--follow", help="Show how it goes until it is over, paused or halted.")]


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.add_typer(group, name="replay")


@group.command("plan")
def plan(
    context: typer.Context,
    reason: Why,
    where: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CONDITION",
            help="FIELD=VALUE, FIELD!=VALUE, FIELD>=TIME or FIELD<TIME, several joined by `and`; may be repeated."
            " Commas separate alternatives, `*` ends a beginning.",
        ),
    ] = None,
    job_ids: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Only lodgments of these jobs, one id a line.")
    ] = None,
    mode: Annotated[
        Mode,
        typer.Option(
            help="How they go: `safest` is the same bytes where they can still be sent, else signed again. Only"
            " `new-reference` makes new lodgments, and a second person must approve it."
        ),
    ] = Mode.SAFEST,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for machines.")] = False,
) -> None:
    """Freeze the list of lodgments that are meant, and show what may be done with each and why. Nothing is sent.

    Fields: state, code, who, channel, service, action, abn, sender, credential, software-id, order-key, job,
    reference, label.NAME; received, sent, finished (times with a zone); due (a day).
    """
    from pipeline.lodgment.selection import read_conditions

    settings = settings_of(context)
    if not reason.strip():
        raise ConfigurationError("operator.reason", "--reason: must say why, it is kept with every lodgment")
    jobs = None if job_ids is None else _job_ids(job_ids)
    conditions = read_conditions(where or ()) if where or jobs is None else ()
    said = [*(where or ()), *(() if job_ids is None else (f"{len(jobs or ())} job ids of {job_ids.name}",))]
    made = asyncio.run(_plan(settings, conditions, jobs, " and ".join(said), mode, reason.strip()))
    _show(settings, made.id, as_json=as_json)


@group.command("list")
def list_(
    context: typer.Context,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many, newest first.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for machines.")] = False,
) -> None:
    """List replays, newest first. Changes nothing."""
    found = asyncio.run(_list(settings_of(context), limit))
    if as_json:
        print_json([asdict(one) for one in found])
    else:
        stdout().print(shown_list(found))


@group.command("show")
def show(
    context: typer.Context,
    which: Which,
    items: Annotated[bool, typer.Option("--items", help="Show single lodgments too.")] = False,
    state: Annotated[ItemState | None, typer.Option(help="With --items: only those.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1_000_000, help="With --items: at most so many.")] = 100,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for machines.")] = False,
) -> None:
    """Show what a replay holds, how far it is, and in what its lodgments ended. Changes nothing."""
    settings = settings_of(context)
    _show(settings, asyncio.run(_find(settings, which)).id, as_json=as_json, items=limit if items else 0, state=state)


@group.command("approve")
def approve(context: typer.Context, which: Which) -> None:
    """Approve a plan of `new-reference`, as a second person who has looked at its list."""
    one = asyncio.run(_change(settings_of(context), which, "approve", lambda one: approved(one, operator(), now())))
    stdout().print(f"Approved: {one.id}, {one.total} lodgments under new references. `lodge replay start {one.id}`")


@group.command("start")
def start(
    context: typer.Context, which: Which, rate: Rate = None, halt_share: Share = None, follow: Follow = False
) -> None:
    """Start a plan: 1 goes first, then 10, then 100, then all, each when those before have ended well.

    The scheduler does it, from the ledger: this command, and any worker, may die meanwhile. It halts itself when one
    failure comes back too often.
    """
    settings = settings_of(context)
    change = _change(settings, which, "start", lambda one: started(one, operator(), now(), rate, halt_share))
    _go(settings, asyncio.run(change), "Started", follow=follow)


@group.command("pause")
def pause(context: typer.Context, which: Which) -> None:
    """Start nothing more for now; what is on its way goes on."""
    one = asyncio.run(_change(settings_of(context), which, "pause", paused))
    stdout().print(f"Paused: {one.id}; {one.open} are on their way, {one.left} wait. `lodge replay resume {one.id}`")


@group.command("resume")
def resume(
    context: typer.Context, which: Which, rate: Rate = None, halt_share: Share = None, follow: Follow = False
) -> None:
    """Go on with a replay that was paused, or that halted itself; what ended before does not halt it again."""
    settings = settings_of(context)
    change = _change(settings, which, "resume", lambda one: resumed(one, now(), rate, halt_share))
    _go(settings, asyncio.run(change), "Resumed", follow=follow)


@group.command("cancel")
def cancel(context: typer.Context, which: Which) -> None:
    """End a replay for good; what is on its way goes on, the rest stays as it is and may be planned anew."""
    one = asyncio.run(_change(settings_of(context), which, "cancel", lambda one: cancelled(one, now())))
    stdout().print(f"Cancelled: {one.id}; {one.started} had been started, {one.left} stay as they are.")


def _job_ids(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigurationError("replay.job-ids", f"--job-ids: {path} cannot be read: {reason}") from error
    found = list(dict.fromkeys(line.strip() for line in lines if line.strip()))
    if not found:
        raise ConfigurationError("replay.job-ids", f"--job-ids: {path} holds no job id; give one a line")
    return found


async def _plan(
    settings: "Settings",
    conditions: "tuple[Condition, ...]",
    jobs: list[str] | None,
    said: str,
    mode: Mode,
    reason: str,
) -> Replay:
    from pipeline.ledger import replay_plan, replays
    from pipeline.lodgment.references import uuid7
    from pipeline.profiles import environment_of, timing

    moment = now()
    margin = timing(settings, environment_of(settings, moment)).token_margin
    one = Replay(
        uuid7(moment, os.urandom(10)),
        moment,
        operator(),
        reason,
        said,
        mode,
        rate=settings.replay.rate,
        halt_share=settings.replay.halt_share,
    )
    async with opened_ledger(settings) as ledger, ledger.transaction() as tx:
        await replays.add(tx, one)
        await replay_plan.freeze(tx, one, conditions, jobs, moment + margin)
        groups = await replay_plan.groups(tx, one.id)
        if not groups:
            raise RefusedError("replay.none", f"no lodgment is meant by {said}; nothing was planned")
        frozen = sum(found.count for found in groups)
        total = sum(found.count for found in groups if found.state is ItemState.WAITING)
        one = replace(one, total=total, barred=frozen - total)
        await replays.change(tx, one)
        await _note(tx, one, "plan")
    return one


async def _list(settings: "Settings", limit: int) -> list[Replay]:
    from pipeline.ledger import replays

    async with reading(settings) as tx:
        return await replays.list_(tx, limit)


async def _find(settings: "Settings", which: str) -> Replay:
    async with reading(settings) as tx:
        return await _the_replay(tx, which)


async def _the_replay(tx: "Tx", which: str) -> Replay:
    from pipeline.ledger import replays

    text = which.strip().lower()
    found = await replays.beginning_with(tx, text) if text and set(text) <= set("0123456789abcdef-") else []
    if not found:
        raise RefusedError("replay.unknown", f"no replay is known as {which!r}; `lodge replay list` shows them")
    if len(found) > 1:
        ids = ", ".join(str(one.id) for one in found)
        raise RefusedError("replay.several", f"{which!r} fits several replays, give more of the id: {ids}")
    return found[0]


async def _change(settings: "Settings", which: str, verb: str, change: Callable[[Replay], Replay]) -> Replay:
    from pipeline.ledger import replay_items, replays
    from pipeline.lodgment.replay_run import ReplayState

    async with opened_ledger(settings) as ledger, ledger.transaction() as tx:
        locked = await replays.lock(tx, (await _the_replay(tx, which)).id)
        assert locked is not None  # noqa: S101  - replays are never deleted
        after = change(locked)
        await replays.change(tx, after)
        if after.state is ReplayState.CANCELLED:
            await replay_items.drop(tx, after.id)
        await _note(tx, after, verb)
    return after


async def _note(tx: "Tx", one: Replay, verb: str) -> None:
    from pipeline.ledger import operators
    from pipeline.ledger.operators import OperatorAction
    from pipeline.lodgment.references import uuid7

    moment = now()
    why = f"{one.id} ({one.mode}, {one.total} lodgments): {one.reason}"
    deed = OperatorAction(uuid7(moment, os.urandom(10)), moment, operator(), f"replay.{verb}", None, why)
    await operators.add(tx, [deed])


def _show(
    settings: "Settings", replay_id: UUID, *, as_json: bool, items: int = 0, state: ItemState | None = None
) -> None:
    view = asyncio.run(view_of(settings, replay_id, items, state))
    if as_json:
        print_json(asdict(view))
    else:
        print_replay(view, stdout())


def _go(settings: "Settings", one: Replay, said: str, *, follow: bool) -> None:
    stdout().print(
        f"{said}: {one.id}, {one.left} lodgments at up to {one.rate:g} a second. `lodge replay show {one.id}`"
    )
    if somebody_at_work(settings) is False:
        stderr().print("Nothing is running here: start `lodge run` to go on with them.")
    elif follow:
        after = asyncio.run(followed(settings, one.id))
        _show(settings, after.id, as_json=False)
