"""`lodge release` and `lodge cancel`: what a person may do to a lodgment. Each deed is kept with who and why."""

import asyncio
import os
from collections.abc import Sequence
from dataclasses import replace
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
    from pipeline.lodgment.lodgment import Lodgment
    from pipeline.settings import Settings

_BATCH = 500

Why = Annotated[
    str, typer.Option("--reason", help="Why, for the audit and for whoever comes after you.", show_default=False)
]


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
) -> None:
    """Let held lodgments go on, under the reference that they have: safe, whatever became of earlier attempts.

    One with a stored envelope and a good token is sent again as it is; any other gets a new token and a new envelope
    around the same document. Mend the cause first: what is released unmended is held again.
    """
    settings = settings_of(context)
    _require_reason(reason)
    if bool(ids) == bool(held_for):
        raise ConfigurationError("release.which", "give either ids or --held-for CODE: which lodgments are meant?")
    released = asyncio.run(_release(settings, ids or [], held_for, reason))
    stdout().print(f"Released: {released}.")
    if released and somebody_at_work(settings) is False:
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
    _require_reason(reason)
    row = asyncio.run(_cancel(settings, which, reason))
    stdout().print(f"Cancelled: {row.id} (job {row.job_id}).")


def released(row: "Lodgment", moment: datetime, who: str, why: str) -> "Lodgment":
    """The lodgment on its way again: with its bytes if they can still be sent, else from the token on."""
    from pipeline.lodgment.decisions import Tally
    from pipeline.lodgment.lodgment import OPERATOR_RELEASED, Reason

    if row.state is not State.HELD:
        raise RefusedError("release.state", f"{row.id} is {row.state}, not held: it needs no release")
    # What the agency has is asked about, not sent again.
    unsettled = row.envelope_id is not None and row.agency_reference is None
    usable = unsettled and (row.token_expires_at is None or row.token_expires_at > moment)
    target = State.SEALED if usable else State.RECEIVED
    reason = Reason(OPERATOR_RELEASED, f"Released by {who}: {why}")
    return row.moved(target, due_at=moment, reason=reason, tally=Tally())


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
    reason = Reason("operator.cancelled", f"Cancelled by {who}: {why}", Party.NOBODY)
    return replace(row.moved(State.CANCELLED, reason=reason), finished_at=moment)


async def _release(settings: "Settings", ids: Sequence[str], held_for: str | None, why: str) -> int:
    from pipeline.ledger import backlog

    async with opened_ledger(settings) as ledger:
        if held_for is None:
            async with ledger.transaction() as tx:
                return await _write_released(tx, [await the_lodgment(tx, text) for text in dict.fromkeys(ids)], why)
        total = 0
        while True:
            async with ledger.transaction() as tx:
                rows = await backlog.held_for(tx, held_for, _BATCH)
                total += await _write_released(tx, rows, why)
            if not rows:
                break
    if not total:
        raise RefusedError(
            "release.none", f"--held-for: nothing is held for {held_for!r}; `lodge status` lists the codes"
        )
    return total


async def _write_released(tx: "Tx", rows: "Sequence[Lodgment]", why: str) -> int:
    moment, who = now(), operator()
    return await _write(tx, "release", [(row, released(row, moment, who, why)) for row in rows], why)


async def _cancel(settings: "Settings", which: str, why: str) -> "Lodgment":
    async with opened_ledger(settings) as ledger, ledger.transaction() as tx:
        row = await the_lodgment(tx, which)
        await _write(tx, "cancel", [(row, cancelled(row, now(), operator(), why))], why)
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


def _require_reason(reason: str) -> None:
    if not reason.strip():
        raise ConfigurationError("operator.reason", "--reason: must say why, it is kept with the deed")
