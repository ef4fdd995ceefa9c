"""`lodge release` and `lodge cancel`: what a person may do to a lodgment. Each deed is kept with who and why."""

import asyncio
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.interfaces.cli.find import the_lodgment
from pipeline.interfaces.cli.screen import stderr, stdout
from pipeline.interfaces.cli.session import now, opened_ledger, operator, settings_of, somebody_at_work
from pipeline.lodgment.errors import ConfigurationError, RefusedError
from pipeline.lodgment.states import FINAL, State

if TYPE_CHECKING:
    from pipeline.ledger.session import Tx
    from pipeline.lodgment.failures import Blast
    from pipeline.lodgment.holds import Hold
    from pipeline.lodgment.lodgment import Lodgment
    from pipeline.settings import Settings

_BATCH = 500

Why = Annotated[
    str, typer.Option("--reason", help="Why, for the audit and for whoever comes after you.", show_default=False)
]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be released, said in one of three ways: by ids, by code, by whom a hold stands over."""

    ids: tuple[str, ...]
    code: str | None
    scope: "Blast | None"
    key: str | None

    @property
    def said(self) -> str:
        """As it was said."""
        return f"--held-for {self.code}" if self.code else f"--{self.scope} {self.key}"


@dataclass(frozen=True, slots=True)
class Released:
    """How many lodgments go on now, how many follow, and over how many holds that was decided."""

    now: int = 0
    following: int = 0
    holds: int = 0

    def __add__(self, other: "Released") -> "Released":
        return Released(self.now + other.now, self.following + other.following, self.holds + other.holds)


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command("release")(release)
    app.command("cancel")(cancel)


def release(
    context: typer.Context,
    reason: Why,
    ids: Annotated[
        list[str] | None, typer.Argument(metavar="[ID]...", help="Lodgment ids, references or job ids.")
    ] = None,
    held_for: Annotated[
        str | None, typer.Option(metavar="CODE", help="Release everything that is held for this reason code.")
    ] = None,
    employer: Annotated[
        str | None, typer.Option(metavar="ABN", help="Release the holds over this employer, by ABN or WPN.")
    ] = None,
    agent: Annotated[
        str | None, typer.Option(metavar="NUMBER", help="Release the holds over this practice, by agent number.")
    ] = None,
    credential: Annotated[
        str | None, typer.Option(metavar="ID", help="Release the holds over this machine credential.")
    ] = None,
    channel: Annotated[str | None, typer.Option(metavar="NAME", help="Release the holds over this channel.")] = None,
) -> None:
    """Let held lodgments go on, under the reference that they have: safe, whatever became of earlier attempts.

    One with a stored envelope and a good token is sent again as it is; any other gets a new token and a new envelope
    around the same document. Mend the cause first: what is released unmended is held again. Where a hold stands over
    an employer, a practice, a credential or a channel, one lodgment goes first, and the others follow by themselves
    once the agency does not refuse that one for the same reason.
    """
    settings = settings_of(context)
    require_reason(reason)
    scopes = {"employer": employer, "agent": agent, "credential": credential, "channel": channel}
    wanted = _wanted(ids, held_for, scopes)
    released = asyncio.run(_release(settings, wanted, reason))
    stdout().print(f"Released: {released.now}.")
    if released.following:
        stdout().print(f"Follow when the agency does not refuse the first: {released.following}.")
    if released.now and somebody_at_work(settings) is False:
        stderr().print("Nothing is running here: start `lodge run` to go on with them.")


def cancel(
    context: typer.Context,
    which: Annotated[str, typer.Argument(metavar="ID", help="Lodgment id, reference or job id.")],
    reason: Why,
) -> None:
    """Withdraw a lodgment of which nothing was ever sent. Final: to lodge it after all, push it as a new job.

    Once a single byte may have left, the agency may have it, and only its answer can settle the lodgment.
    """
    settings = settings_of(context)
    require_reason(reason)
    row = asyncio.run(_cancel(settings, which, reason))
    stdout().print(f"Cancelled: {row.id} (job {row.job_id}).")


def released(row: "Lodgment", moment: datetime, who: str, why: str) -> "Lodgment":
    """The lodgment on its way again: with its bytes if they can still be sent, else from the token on."""
    from pipeline.lodgment.holds import let_go
    from pipeline.lodgment.lodgment import OPERATOR_RELEASED, Reason

    if row.state is not State.HELD:
        raise RefusedError("release.state", f"{row.id} is {row.state}, not held: it needs no release")
    return let_go(row, moment, Reason(OPERATOR_RELEASED, f"Released by {who}: {why}"))


def cancelled(row: "Lodgment", moment: datetime, who: str, why: str) -> "Lodgment":
    """The lodgment, withdrawn."""
    from pipeline.lodgment.failures import Party
    from pipeline.lodgment.lodgment import Reason

    if row.state in FINAL:
        raise RefusedError("cancel.final", f"{row.id} is {row.state}, which is final: there is nothing to cancel")
    if row.sent_at is not None:
        text = (
            f"{row.id} was sent at {row.sent_at:%Y-%m-%d %H:%M:%S}Z: the agency may have it, so it cannot be cancelled"
        )
        raise RefusedError(
            "cancel.sent", f"{text}; its state is {row.state}, `lodge explain {row.id}` says what follows"
        )
    if row.doubted_at is not None:
        raise _in_doubt(row, row.doubted_at)
    reason = Reason("operator.cancelled", f"Cancelled by {who}: {why}", Party.NOBODY)
    return replace(row.moved(State.CANCELLED, reason=reason), finished_at=moment)


def _in_doubt(row: "Lodgment", restored_at: datetime) -> RefusedError:
    text = (
        f"{row.id}: the ledger was restored at {restored_at:%Y-%m-%d %H:%M:%S}Z from a copy that does not show what was"
        " sent since: the agency may have it, so it cannot be cancelled"
    )
    return RefusedError("cancel.doubted", text)


def _wanted(ids: Sequence[str] | None, code: str | None, scopes: Mapping[str, str | None]) -> Wanted:
    """What is to be released: exactly one way of saying so.

    Raises:
        ConfigurationError: `release.which`.
    """
    from pipeline.lodgment.failures import Blast

    named = [(Blast(scope), key) for scope, key in scopes.items() if key]
    if bool(ids) + bool(code) + len(named) != 1:
        text = "give ids, or one of --held-for, --employer, --agent, --credential, --channel: which are meant?"
        raise ConfigurationError("release.which", text)
    scope, key = named[0] if named else (None, None)
    return Wanted(tuple(dict.fromkeys(ids or ())), code, scope, key and key.replace(" ", ""))


async def _release(settings: "Settings", wanted: Wanted, why: str) -> Released:
    from pipeline.ledger import backlog

    total = Released()
    async with opened_ledger(settings) as ledger:
        if wanted.ids:
            async with ledger.transaction() as tx:
                return await _release_ids(tx, wanted.ids, why)
        async with ledger.transaction() as tx:
            total += await _release_holds(tx, wanted, why)
        while wanted.code is not None:
            async with ledger.transaction() as tx:
                rows = await backlog.held_for(tx, wanted.code, _BATCH)
                total += Released(await write_released(tx, rows, why))
            if not rows:
                break
    if not total.holds and not total.now:
        text = "nothing is held that way; `lodge status` lists holds and codes"
        raise RefusedError("release.none", f"{wanted.said}: {text}")
    return total


async def _release_ids(tx: "Tx", ids: Sequence[str], why: str) -> Released:
    """These, and nobody else. The first one under a hold is what that hold is tried out with."""
    from pipeline.ledger import holds

    rows = [await the_lodgment(tx, text) for text in ids]
    first = {row.hold_id: row for row in reversed(rows) if row.hold_id is not None}
    for hold_id, row in first.items():
        found = await holds.load(tx, hold_id)
        if found is not None:
            await holds.change(tx, [_tried_with(found, row)])
    return Released(await write_released(tx, rows, why))


async def _release_holds(tx: "Tx", wanted: Wanted, why: str) -> Released:
    """Of each hold the oldest lodgment goes first; a hold that keeps none ends."""
    from pipeline.ledger import holds
    from pipeline.lodgment.holds import HoldState

    total = Released()
    for found in await holds.find(tx, scope=wanted.scope, key=wanted.key, code=wanted.code):
        rows = await holds.held_by(tx, found.id, 1)
        kept = await holds.count(tx, found.id)
        changed = _tried_with(found, rows[0]) if rows else replace(found, state=HoldState.ENDED, canary_id=None)
        await holds.change(tx, [changed])
        total += Released(await write_released(tx, rows, why), max(0, kept - 1), 1)
    return total


def _tried_with(found: "Hold", row: "Lodgment") -> "Hold":
    from pipeline.lodgment.holds import HoldState

    return replace(found, state=HoldState.PROBING, canary_id=row.id, released_at=now(), released_by=operator())


async def write_released(tx: "Tx", rows: "Sequence[Lodgment]", why: str) -> int:
    """Release these lodgments, and note who did it and why; how many."""
    from pipeline.ledger import operators, quarantine
    from pipeline.ledger.quarantine import Fate, Settling

    moment, who = now(), operator()
    count = await _write(tx, operators.RELEASE, [(row, released(row, moment, who, why)) for row in rows], why)
    # What is in quarantine of them was why they were held; left there, it would have them held again.
    await quarantine.settle_of(tx, [row.id for row in rows], Settling(Fate.RELEASED, who, why, moment))
    return count


async def _cancel(settings: "Settings", which: str, why: str) -> "Lodgment":
    from pipeline.ledger import identity, lanes, lodgments
    from pipeline.lodgment.recovery import DOUBTFUL_FOR

    async with opened_ledger(settings) as ledger, ledger.transaction() as tx:
        row = await the_lodgment(tx, which)
        restored_at = (await identity.read(tx)).restored_at
        if restored_at is not None and restored_at <= row.received_at < restored_at + DOUBTFUL_FOR:
            # It may have been taken in and sent before, in the part of the ledger that is lost.
            raise _in_doubt(row, restored_at)
        await lanes.lock(tx, lanes.keys_of([row]))
        await _write(tx, "cancel", [(row, cancelled(row, now(), operator(), why))], why)
        # Whoever waited for this one in its lane looks now.
        waiting = await lanes.next_turn(tx, lanes.keys_of([row]))
        await lodgments.postpone(tx, [one.id for one in waiting], now())
    return row


async def _write(tx: "Tx", action: str, moves: "Sequence[tuple[Lodgment, Lodgment]]", why: str) -> int:
    """Move and note it, in one transaction; all of it or nothing."""
    from pipeline.ledger import lodgments, operators
    from pipeline.ledger.operators import OperatorAction
    from pipeline.lodgment.references import uuid7

    won = await lodgments.move(tx, moves)
    lost = [str(before.id) for before, _ in moves if before.id not in won]
    if lost:
        raise RefusedError(
            f"{action}.moved", f"a worker moved {lost[0]} in this instant; nothing was changed: look again"
        )
    moment, who = now(), operator()
    await operators.add(
        tx, [OperatorAction(uuid7(moment, os.urandom(10)), moment, who, action, before.id, why) for before, _ in moves]
    )
    return len(moves)


def require_reason(reason: str) -> None:
    """See that a deed says why.

    Raises:
        ConfigurationError: `operator.reason`.
    """
    if not reason.strip():
        raise ConfigurationError("operator.reason", "--reason: must say why, it is kept with the deed")
