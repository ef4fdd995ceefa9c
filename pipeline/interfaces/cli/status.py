"""`lodge status`: everything that is not final, why, and since when."""

import asyncio
import time
from dataclasses import asdict
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console, Group, RenderableType
from rich.live import Live

from pipeline.interfaces.cli.breakers import fields, line
from pipeline.interfaces.cli.overview import Overview, look
from pipeline.interfaces.cli.screen import print_json, shown, span, stdout, table, when
from pipeline.interfaces.cli.session import settings_of
from pipeline.interfaces.cli.words import release_of
from pipeline.lodgment.breaker import BreakerState
from pipeline.lodgment.deadlines import Nearness
from pipeline.lodgment.errors import ConfigurationError
from pipeline.lodgment.holds import WAVE, WAVE_WITHIN
from pipeline.lodgment.lodgment import BREAKER_OPEN, BREAKER_POLLS, LANE_TURN, TOKEN_REQUESTED
from pipeline.lodgment.states import FINAL, State
from pipeline.lodgment.sweeping import missing
from pipeline.lodgment.watching import Lateness

if TYPE_CHECKING:
    from pipeline.ledger.backlog import WaitingFor
    from pipeline.lodgment.decisions import Closedown
    from pipeline.settings import Settings

_NEARNESS = {
    Nearness.SOON: "not final, and their due date is near",
    Nearness.LAST: "not final, and their due date is very near",
    Nearness.MISSED: "not final, and their due date is over",
}
_AWAITED = {
    BREAKER_OPEN: "when the door opens",
    BREAKER_POLLS: "when the door opens",
    LANE_TURN: "after the one before",
    TOKEN_REQUESTED: "with its token",
}
_EXAMPLES = 5
_LATENESS = {
    Lateness.RECEIPT: "sent, and no word that the agency has it",
    Lateness.OUTCOME: "without an outcome for longer than is usual",
    Lateness.CLOSING: "without an outcome, and asking ends soon: ask the agency otherwise",
}
_TOLD_FOR = timedelta(hours=1)
"""How long what a sweep put right is shown."""


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command("status")(status)


def status(
    context: typer.Context,
    days: Annotated[int, typer.Option(min=1, max=36_500, help="Count what became final within so many days.")] = 1,
    due_within: Annotated[int, typer.Option(min=0, max=36_500, help="Show due dates within so many days.")] = 7,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for machines.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Show it again every two seconds, until Ctrl-C.")] = False,
) -> None:
    """Show how many lodgments are in which state, what is held or waits and why, and what is in quarantine.

    Changes nothing. Open lodgments are all counted; final ones only if they were received within --days.
    """
    settings = settings_of(context)
    if watch and as_json:
        raise ConfigurationError("status.watch", "--watch is for people, --json for machines: give one of them")
    if as_json:
        view = asyncio.run(look(settings, days, due_within))
        print_json({**asdict(view), "breakers": [fields(one) for one in view.breakers]})
        return
    console = stdout()
    if not watch:
        console.print(rendered(asyncio.run(look(settings, days, due_within))))
        return
    _watch(console, settings, days, due_within)


def _watch(console: Console, settings: "Settings", days: int, due_within: int) -> None:
    with Live(console=console, auto_refresh=False, screen=console.is_terminal) as live:
        while True:
            live.update(rendered(asyncio.run(look(settings, days, due_within))), refresh=True)
            time.sleep(2)


def rendered(view: Overview) -> RenderableType:
    """The overview for a person: the worst last, where the eye rests."""
    parts: list[RenderableType] = [_states(view)]
    if view.reasons:
        parts += ["", _reasons(view)]
    if view.jobs:
        rows_of_jobs = [(one.sender_id, one.count, span(view.at - one.oldest)) for one in view.jobs]
        title = "Not taken in yet: jobs that wait for their sender's turn"
        parts += ["", table(title, ("sender", "jobs", "oldest"), rows_of_jobs)]
    if view.holds:
        parts += ["", _holds(view)]
    if view.lanes:
        rows_of_lanes = [
            (one.waiting, one.first.id, one.first.state, one.first.reason.code if one.first.reason else "")
            for one in view.lanes
        ]
        columns = ("waiting", "for lodgment", "which is", "reason")
        parts += ["", table("Lanes: who waits for whom", columns, rows_of_lanes)]
    if view.due:
        rows = [(day.day, _days_left(day.day, view.at.date()), day.count) for day in view.due]
        parts += ["", table("Open lodgments with a due date", ("due", "days left", "count"), rows)]
    if view.queues is not None:
        depths = [(name, "not there" if count is None else count) for name, count in view.queues.items()]
        parts += ["", table("Messages waiting in queues", ("queue", "ready"), depths)]
    return Group(*parts, "", *_lines(view))


def _states(view: Overview) -> RenderableType:
    if not view.states:
        return "No open lodgments, and none that became final lately."
    rows = [(one.channel, one.environment, one.state, one.count, span(view.at - one.oldest)) for one in view.states]
    return table("Lodgments", ("channel", "environment", "state", "count", "oldest"), rows)


def _reasons(view: Overview) -> RenderableType:
    rows = [
        (
            one.state,
            one.code,
            one.who,
            one.count,
            span(view.at - one.oldest),
            _goes_on(one, view.at),
        )
        for one in view.reasons
    ]
    columns = ("state", "reason", "who acts", "count", "oldest", "goes on")
    return table("Held and waiting", columns, rows)


def _holds(view: Overview) -> RenderableType:
    rows = [
        (
            one.hold.reach.scope,
            one.hold.reach.key,
            one.hold.reach.channel,
            one.hold.code,
            one.hold.who,
            one.held,
            span(view.at - one.hold.since),
            "tried with one" if one.hold.canary_id is not None else "by hand",
        )
        for one in view.holds
    ]
    columns = ("over", "which", "channel", "reason", "who acts", "held", "since", "goes on")
    return table("Holds: nothing under them is sent", columns, rows)


def _goes_on(one: "WaitingFor", at: datetime) -> str:
    """For whom another event is waited for, a time would be that at which the scheduler looks whether it was lost."""
    if one.next_at is None:
        return "by hand"
    if one.state is State.PARKED and one.code in _AWAITED:
        return _AWAITED[one.code]
    return f"in {span(one.next_at - at)}" if one.next_at > at else "now"


def _lines(view: Overview) -> list[str]:
    held = [one for one in view.reasons if one.state is State.HELD]
    lines = [f"For example: lodge explain {one.example} ({shown(one.code)})" for one in held[:_EXAMPLES]]
    lines += [
        f"When the cause of {shown(one.hold.code)} is mended: {release_of(one.hold.reach)}"
        for one in view.holds[:_EXAMPLES]
        if one.hold.canary_id is None
    ]
    if view.wave > WAVE:
        lines.append(
            f"WAVE: {view.wave} employers were refused within {span(WAVE_WITHIN)}. Look at our own software id and"
            " credential first: so many are rarely all at fault themselves."
        )
    lines += [
        f"LATE: {one.channel}: {_LATENESS[one.lateness]}: {one.count}, the first sent {span(view.at - one.since)} ago."
        for one in view.late
    ]
    lines += [
        f"DUE: {one.channel}: {_NEARNESS[one.nearness]}: {one.count}, the first due {one.due}:"
        f" lodge explain {one.example}"
        for one in view.near
    ]
    lines += [line(one, view.at) for one in view.breakers if one.breaker.state is not BreakerState.CLOSED]
    lines += [_closedown(what, one, view.at) for what, one in view.closedowns]
    if view.replays:
        found = ", ".join(f"{number} {state}" for state, number in sorted(view.replays.items()))
        lines.append(f"Replays: {found}: `lodge replay list`.")
    if view.quarantined:
        lines.append(f"Quarantine: {view.quarantined} message(s) that could not be taken: `lodge quarantine list`.")
    if view.overdue.count and view.overdue.since is not None:
        late = span(view.at - view.overdue.since)
        lines.append(f"LATE: {view.overdue.count} should have gone on up to {late} ago: is a scheduler running?")
    lines += _sweep_lines(view)
    open_ = any(one.state not in FINAL | {State.HELD} for one in view.states)
    if view.at_work is False and (open_ or view.jobs):
        lines.append("Nothing is running here: `lodge run` goes on with what is open.")
    if view.queues is None and view.at_work is None:
        lines.append(f"BROKER: {view.broker}.")
    return lines


def _sweep_lines(view: Overview) -> list[str]:
    lines = [
        f"SWEEP: {one.kind}: {one.last_count} found stuck and put right {span(view.at - one.last_acted_at)} ago,"
        f" {one.acted} in all: see `A sweep alarm` in the operations manual."
        for one in view.sweeps
        if one.last_acted_at is not None and view.at - one.last_acted_at < _TOLD_FOR
    ]
    gone = missing({one.kind: one.last_run_at for one in view.sweeps}, view.made_at or view.at, view.at)
    if gone and view.at_work is not False:
        since = span(view.at - min(gone.values()))
        lines.append(
            f"SWEEP: nobody has looked for stuck lodgments ({', '.join(sorted(gone))}) for {since}: start a scheduler,"
            " `lodge worker scheduler`."
        )
    return lines


def _days_left(day: date, today: date) -> str:
    left = (day - today).days
    return f"{left}" if left >= 0 else f"{left} OVERDUE"


def _closedown(what: str, one: "Closedown", at: datetime) -> str:
    says = "documents are taken in, nothing is asked" if one.takes_documents else "nothing is sent"
    when_ = f"now, until {when(one.end)}" if one.start <= at else f"in {span(one.start - at)}, until {when(one.end)}"
    return f"CLOSEDOWN: {what}: {when_}: {says}."
