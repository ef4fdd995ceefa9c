"""`lodge status`: everything that is not final, why, and since when."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console, Group, RenderableType
from rich.live import Live

from pipeline.interfaces.cli.breakers import fields, line
from pipeline.interfaces.cli.breakers import standing as breakers_standing
from pipeline.interfaces.cli.screen import print_json, shown, span, stdout, table, when
from pipeline.interfaces.cli.session import now, opened_ledger, settings_of, somebody_at_work
from pipeline.interfaces.cli.words import release_of
from pipeline.lodgment.breaker import BreakerState
from pipeline.lodgment.deadlines import Nearness
from pipeline.lodgment.errors import ConfigurationError, DependencyDownError
from pipeline.lodgment.holds import WAVE, WAVE_WITHIN
from pipeline.lodgment.lodgment import BREAKER_OPEN, BREAKER_POLLS, LANE_TURN, TOKEN_REQUESTED
from pipeline.lodgment.states import FINAL, State
from pipeline.lodgment.sweeping import missing
from pipeline.lodgment.watching import Lateness

if TYPE_CHECKING:
    from pipeline.interfaces.cli.breakers import Standing
    from pipeline.ledger.backlog import DueDay, Overdue, WaitingFor
    from pipeline.ledger.holds import Standing as StandingHold
    from pipeline.ledger.lanes import Blocked
    from pipeline.ledger.reports import StateCount
    from pipeline.ledger.sweeps import SweepNote
    from pipeline.ledger.watch import Late, Near
    from pipeline.lodgment.decisions import Closedown
    from pipeline.settings import Settings

_CALENDAR_AHEAD = timedelta(days=14)
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
_BROKER_PATIENCE = 8.0
_EXAMPLES = 5
_SHOWN = 10
_LATENESS = {
    Lateness.RECEIPT: "sent, and no word that the agency has it",
    Lateness.OUTCOME: "without an outcome for longer than is usual",
    Lateness.CLOSING: "without an outcome, and asking ends soon: ask the agency otherwise",
}
_LATE = timedelta(minutes=1)
"""A scheduler sweeps twice a second: what is due for so long is looked after by nobody."""
_TOLD_FOR = timedelta(hours=1)
"""How long what a sweep put right is shown."""


@dataclass(frozen=True, slots=True)
class Overview:
    """What `lodge status` knows. `queues` is None where no broker could be asked, and `broker` says why; a queue that
    is not there has None.
    """

    environment: str
    at: datetime
    states: "list[StateCount]"
    reasons: "list[WaitingFor]"
    due: "list[DueDay]"
    overdue: "Overdue"
    holds: "list[StandingHold]"
    lanes: "list[Blocked]"
    wave: int
    late: "list[Late]"
    near: "list[Near]"
    breakers: "list[Standing]"
    closedowns: "list[tuple[str, Closedown]]"
    replays: dict[str, int]
    quarantined: int
    queues: dict[str, int | None] | None
    broker: str
    at_work: bool | None
    sweeps: "Sequence[SweepNote]" = ()
    """What looks for stuck lodgments, as far as it ever ran."""
    made_at: datetime | None = None
    """When this ledger was made: from then on somebody should sweep."""


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


async def look(settings: "Settings", days: int, due_within: int) -> Overview:
    """Ask the ledger, and the broker if there is one to ask."""
    from pipeline.ledger import backlog, holds, identity, lanes, quarantine, replays, reports, sweeps, watch
    from pipeline.lodgment.deadlines import DeadlinePolicy

    moment = now()
    soon = DeadlinePolicy(settings.due_soon, settings.due_last).until(Nearness.SOON, moment)
    async with opened_ledger(settings) as ledger, ledger.transaction(read_only=True) as tx:
        states = await reports.state_counts(tx, moment - timedelta(days=days))
        reasons = await backlog.reasons(tx)
        due = await backlog.due_days(tx, moment.date() + timedelta(days=due_within))
        overdue = await backlog.overdue(tx, moment - _LATE)
        standing = await holds.standing(tx, _SHOWN)
        blocked = await lanes.longest(tx, _SHOWN)
        wave = await holds.employers_since(tx, moment - WAVE_WITHIN)
        late = await watch.late(tx)
        near = await watch.near(tx, soon)
        breakers = await breakers_standing(tx)
        unfinished = await replays.running(tx)
        quarantined = await quarantine.count(tx)
        noted = await sweeps.notes(tx)
        made_at = (await identity.read(tx)).made_at
    queues, broker = await _queues(settings)
    return Overview(
        environment=settings.environment,
        at=moment,
        states=states,
        reasons=reasons,
        due=due,
        overdue=overdue,
        holds=standing,
        lanes=blocked,
        wave=wave,
        late=late,
        near=near,
        breakers=breakers,
        closedowns=_closedowns(settings, moment),
        replays=unfinished,
        quarantined=quarantined,
        queues=queues,
        broker=broker,
        at_work=somebody_at_work(settings),
        sweeps=tuple(noted.values()),
        made_at=made_at,
    )


def _closedowns(settings: "Settings", moment: datetime) -> "list[tuple[str, Closedown]]":
    """The calendar's closedowns that are on or begin soon, each with the channel and service that it is of."""
    from pipeline.interfaces.cli.policies import in_force

    found = {(f"{one.channel}/{one.service}", each) for one in in_force(settings) for each in one.retry.closedowns}
    ahead = moment + _CALENDAR_AHEAD
    return sorted(
        ((what, each) for what, each in found if each.end > moment and each.start < ahead), key=lambda one: one[1].start
    )


async def _queues(settings: "Settings") -> tuple[dict[str, int | None] | None, str]:
    from pipeline.broker import inspection
    from pipeline.broker.topology import Topology

    if settings.embedded:
        return None, "embedded: the queues live inside the process that runs"
    topology = Topology(settings.namespace, settings.delivery_limit)
    why = ""
    for url in settings.broker_urls:
        try:
            async with asyncio.timeout(_BROKER_PATIENCE):
                return await inspection.ready(url, topology), "reached"
        except TimeoutError:
            why = f"no answer within {_BROKER_PATIENCE:g} s"
        except (DependencyDownError, ConfigurationError) as error:
            why = f"{error} [{error.code}]"
    return None, f"{why}; lodgments are safe in the ledger meanwhile"


def rendered(view: Overview) -> RenderableType:
    """The overview for a person: the worst last, where the eye rests."""
    parts: list[RenderableType] = [_states(view)]
    if view.reasons:
        parts += ["", _reasons(view)]
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
    if view.at_work is False and any(one.state not in FINAL | {State.HELD} for one in view.states):
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
