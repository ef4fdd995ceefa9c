"""What a person sees of replays: the plan with what is legal and why, how far one is, and what became of each."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

from rich.console import Console, RenderableType

from pipeline.interfaces.cli.screen import progress, shown, table
from pipeline.interfaces.cli.session import opened_ledger, reading
from pipeline.lodgment.replay import BYTES_GONE, LEGAL, WHY, Known, Mode
from pipeline.lodgment.replay_run import ItemState, Replay, ReplayState

if TYPE_CHECKING:
    from pipeline.ledger.replay_plan import Group
    from pipeline.ledger.replay_reports import Item, Result
    from pipeline.settings import Settings

_LOOK_EVERY = 0.5
_MODES = (Mode.SAME_BYTES, Mode.SAME_REFERENCE, Mode.NEW_REFERENCE)


@dataclass(frozen=True, slots=True)
class View:
    """What `lodge replay show` knows."""

    replay: Replay
    groups: "list[Group]"
    results: "list[Result]"
    items: "list[Item]"


async def view_of(settings: "Settings", replay_id: UUID, items: int, state: ItemState | None) -> View:
    """Ask the ledger about one replay that is there."""
    from pipeline.ledger import replay_plan, replay_reports, replays

    async with reading(settings) as tx:
        one = await replays.load(tx, replay_id)
        assert one is not None  # noqa: S101  - replays are never deleted
        groups = await replay_plan.groups(tx, replay_id)
        results = await replay_reports.results(tx, replay_id)
        single = await replay_reports.list_(tx, replay_id, state, items) if items else []
    return View(one, groups, results, single)


async def followed(settings: "Settings", replay_id: UUID) -> Replay:
    """Show how a replay goes, until there is nothing more to see; the replay as it is then."""
    from pipeline.ledger import replays

    async with opened_ledger(settings) as ledger:
        with progress() as bar:
            task = bar.add_task("replay")
            while True:
                async with ledger.transaction(read_only=True) as tx:
                    one = await replays.load(tx, replay_id)
                assert one is not None  # noqa: S101  - replays are never deleted
                bar.update(task, total=one.total, completed=one.ended + one.skipped, description=_progress(one))
                if one.state is not ReplayState.RUNNING:
                    return one
                await asyncio.sleep(_LOOK_EVERY)


def _progress(one: Replay) -> str:
    slowly = f", at {one.speed:.3g} a second" if one.speed < one.rate else ""
    return f"{one.state}, stage {one.stage + 1}{slowly}: {one.open} on their way, {one.failed} failed"


def shown_list(found: Sequence[Replay]) -> RenderableType:
    """Replays, one a line."""
    if not found:
        return "There are no replays. `lodge replay plan --where … --reason …` makes one."
    rows = [
        (one.id, one.created_at, one.created_by, one.state, one.mode, one.total, one.ended, one.failed, one.reason)
        for one in found
    ]
    columns = ("id", "planned", "by", "state", "mode", "lodgments", "ended", "failed", "reason")
    return table("Replays", columns, rows)


def print_replay(view: View, console: Console) -> None:
    """One replay: what it is, what may be done and why, what became of it, and what to press next."""
    parts: list[RenderableType] = [*_lines(view.replay), "", _legal(view), *_why(view)]
    if view.results:
        rows = [
            (one.count, one.state, one.code, "as before" if one.again else "new" if one.failed else "")
            for one in view.results
        ]
        parts += ["", table("Ended", ("count", "state", "reason", "failure"), rows)]
    if view.items:
        parts += ["", _items(view.items)]
    for part in (*parts, "", _next(view.replay)):
        console.print(part, soft_wrap=isinstance(part, str))


def _lines(one: Replay) -> list[str]:
    lines = [
        f"Replay {one.id} is {one.state}.",
        f"  lodgments     {one.total} may be replayed, {one.barred} may not; mode {one.mode}",
        f"  where         {shown(one.selection)}",
        f"  planned       {shown(one.created_at)} by {shown(one.created_by)}: {shown(one.reason)}",
    ]
    if one.approved_by:
        lines.append(f"  approved      {shown(one.approved_at)} by {shown(one.approved_by)}")
    if one.started_at:
        lines += [
            f"  started       {shown(one.started_at)} by {shown(one.started_by)}, up to {one.rate:g} a second",
            *_speed(one),
            f"  stage         {one.stage + 1}, with {one.stage_started} so far",
            f"  so far        {one.started} started, {one.ended} ended ({one.failed} failed), {one.skipped} skipped,",
            f"                {one.left} wait",
        ]
    if one.halt_code:
        lines.append(f"  halted by     {shown(one.halt_code)}, which met {one.halt_share:.1%} or more of the stage")
    if one.finished_at:
        lines.append(f"  finished      {shown(one.finished_at)}")
    return lines


def _speed(one: Replay) -> list[str]:
    """How fast it goes at present, and what keeps it from going faster."""
    if one.state is not ReplayState.RUNNING or one.pace is None:
        return []
    why = f": {one.pace.why}" if one.pace.why else ""
    return [f"  now           up to {one.speed:.3g} a second, looked at {shown(one.pace.looked_at)}{why}"]


def _legal(view: View) -> RenderableType:
    counts: dict[tuple[Known, bool], int] = {}
    for found in view.groups:
        key = (found.known, found.bytes_at_hand)
        counts[key] = counts.get(key, 0) + found.count
    rows = [
        (count, what, *("yes" if _may(what, mode, at_hand=at_hand) else "no" for mode in _MODES))
        for (what, at_hand), count in sorted(counts.items(), key=lambda item: -item[1])
    ]
    return table("What may be done, as the list was frozen", ("count", "what is known", *_MODES), rows)


def _may(what: Known, mode: Mode, *, at_hand: bool) -> bool:
    return mode in LEGAL[what] and (mode is not Mode.SAME_BYTES or at_hand)


def _why(view: View) -> list[str]:
    found = dict.fromkeys(one.known for one in view.groups)
    lines = [f"  {what}: {WHY[what]}" for what in found]
    if any(Mode.SAME_BYTES in LEGAL[one.known] and not one.bytes_at_hand for one in view.groups):
        lines.append(f"  {Mode.SAME_BYTES}, no: {BYTES_GONE}")
    return lines


def _items(items: "Sequence[Item]") -> RenderableType:
    rows = [
        (
            one.lodgment_id if one.successor_id is None else f"{one.lodgment_id} → {one.successor_id}",
            one.job_id,
            one.state,
            one.known,
            f"{one.was_state} {one.was_code or ''}".strip(),
            one.mode,
            "" if one.stage is None else one.stage + 1,
            f"{one.end_state or ''} {one.end_code or ''}".strip(),
            one.now_state,
        )
        for one in items
    ]
    columns = ("lodgment", "job", "item", "known", "was", "went as", "stage", "ended as", "is now")
    return table("Lodgments", columns, rows)


def _next(one: Replay) -> str:
    if one.needs_approval and one.state is ReplayState.PLANNED:
        return f"Next: a second person looks at it and says `lodge replay approve {one.id}`."
    if one.state is ReplayState.PLANNED and not one.total:
        return f"Nothing of this can be replayed: `lodge replay cancel {one.id}`."
    return _NEXT.get(one.state, "Nothing follows: it is over.").format(id=one.id)


_NEXT = {
    ReplayState.PLANNED: "Next: `lodge replay start {id} --follow`, or `lodge replay cancel {id}`.",
    ReplayState.RUNNING: "It runs by itself. `lodge replay pause {id}` stops what is not on its way yet.",
    ReplayState.PAUSED: "Next: `lodge replay resume {id}`, or `lodge replay cancel {id}`.",
    ReplayState.HALTED: "Next: `lodge replay show {id} --items --state ended`, mend the cause, then"
    " `lodge replay resume {id}`; or `lodge replay cancel {id}`.",
}
