"""`lodge breaker`: the doors of the agencies: which are closed and why; closed and opened by a person."""

import asyncio
import os
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.interfaces.cli.operate import Why
from pipeline.interfaces.cli.screen import print_json, shown, span, stdout, when
from pipeline.interfaces.cli.session import described, now, opened_ledger, operator, reading, settings_of
from pipeline.lodgment.breaker import Breaker, BreakerScope, BreakerState
from pipeline.lodgment.errors import ConfigurationError, RefusedError

if TYPE_CHECKING:
    from pipeline.ledger.session import Tx
    from pipeline.settings import Settings

group = typer.Typer(
    no_args_is_help=True, help="What stands before agencies and token services that may be down: look, stop, let go."
)


@dataclass(frozen=True, slots=True)
class Standing:
    """One breaker that is not closed, or that of a token service; `waiting` is how many lodgments stand before it."""

    scope: BreakerScope
    name: str
    breaker: Breaker
    waiting: int


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.add_typer(group, name="breaker")


@group.command("list")
def list_(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for machines.")] = False,
) -> None:
    """List every breaker that was ever heard of, with cause, since when, the next try, and how many wait.

    Changes nothing. An agency's door that was never closed has no line.
    """
    found = asyncio.run(_list(settings_of(context)))
    if as_json:
        print_json([fields(one) for one in found])
        return
    if not found:
        stdout().print("No breaker ever opened: everything is asked as it comes.")
    moment = now()
    for one in found:
        stdout().print(line(one, moment), soft_wrap=True)


@group.command("open")
def open_(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="A channel, or a door as `lodge breaker list` names it.")],
    reason: Why,
    minutes: Annotated[
        int | None,
        typer.Option("--for", min=1, max=60 * 24 * 60, metavar="MINUTES", help="Until then; omitted: until closed."),
    ] = None,
) -> None:
    """Stop: send nothing more through this door, or to this whole channel. What comes waits; nothing fails.

    Every transport worker heeds it within a second or two. What is under way is not cut off.
    """
    settings = settings_of(context)
    _require(reason)
    moment = now()
    until = None if minutes is None else moment + timedelta(minutes=minutes)
    asyncio.run(_stop(settings, name, reason, until))
    said = "until `lodge breaker close`" if until is None else f"until {when(until)}, then one goes first"
    stdout().print(f"Stopped: {name}: nothing is sent, {said}.")


@group.command("close")
def close(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="As `lodge breaker list` names it.")],
    reason: Why,
    at_once: Annotated[
        bool, typer.Option("--at-once", help="Everybody goes now; omitted: one, then ten, a hundred, all.")
    ] = False,
) -> None:
    """Let go on what waits before this door, also before the next try is due.

    One lodgment goes first; when the agency answers it, more and more follow. When it does not, the door stays closed.
    """
    settings = settings_of(context)
    _require(reason)
    asyncio.run(_let_go(settings, name, reason, at_once=at_once))
    stdout().print(f"Let go: {name}: {'everything' if at_once else 'one goes first'}.")


async def standing(tx: "Tx") -> list[Standing]:
    """Every breaker of agencies and token services, with how many wait before each."""
    from pipeline.ledger import channel_states, doors, token_reports
    from pipeline.lodgment.doors import Door

    breakers = await channel_states.all_(tx)
    crowds = await doors.crowds(tx) if any(scope is BreakerScope.CHANNEL for scope, _, _ in breakers) else []
    found = []
    for scope, name, breaker in breakers:
        waiting = 0
        if scope is BreakerScope.CHANNEL:
            door = Door.named(name)
            waiting = sum(
                crowd.count
                for crowd in crowds
                if crowd.door.channel == door.channel
                and (door.service is None or (crowd.door.service, crowd.door.asks) == (door.service, door.asks))
                and crowd.door.gateway in {None, door.gateway, *([crowd.door.gateway] if door.service is None else [])}
            )
        elif scope is BreakerScope.STS:
            waiting = await token_reports.waiting(tx)
        else:
            continue
        found.append(Standing(scope, name, breaker, waiting))
    return found


def line(one: Standing, at: datetime) -> str:
    """What a person reads of one breaker."""
    what = "Token service" if one.scope is BreakerScope.STS else "Agency"
    breaker = one.breaker
    if breaker.state is BreakerState.CLOSED:
        left = f"; {one.waiting} are being let go" if one.waiting and one.scope is BreakerScope.CHANNEL else ""
        return shown(f"{what} {one.name}: asked as ever{left}.")
    since = f" since {when(breaker.opened_at)} ({span(at - breaker.opened_at)})" if breaker.opened_at else ""
    cause = breaker.cause
    why = f", because {cause.code}: {cause.text} (acts: {cause.who})" if cause else ""
    return shown(
        f"{what} {one.name}: BREAKER {breaker.state.upper()}{since}{why}. {_next(breaker, at)} Waiting: {one.waiting}."
    )


def fields(one: Standing) -> dict[str, object]:
    """For machines."""
    breaker = one.breaker
    return {
        "scope": one.scope,
        "name": one.name,
        "state": breaker.state,
        "cause_code": breaker.cause.code if breaker.cause else None,
        "cause_text": breaker.cause.text if breaker.cause else None,
        "cause_who": breaker.cause.who if breaker.cause else None,
        "opened_at": breaker.opened_at,
        "probe_at": breaker.probe_at,
        "waiting": one.waiting,
    }


def _next(breaker: Breaker, at: datetime) -> str:
    match breaker.state:
        case BreakerState.RAMPING:
            return "It answers again, and is asked a little more at each step."
        case BreakerState.PROBING:
            return "One goes first, to see."
    if breaker.probe_at is None:
        return "Nothing is sent before `lodge breaker close`."
    return f"One goes first in {span(breaker.probe_at - at)}." if breaker.probe_at > at else "One goes first now."


async def _list(settings: "Settings") -> list[Standing]:
    async with reading(settings) as tx:
        return await standing(tx)


async def _stop(settings: "Settings", name: str, reason: str, until: datetime | None) -> None:
    from pipeline.ledger import channel_states
    from pipeline.lodgment.doors import stopped

    _require_known(settings, name)
    async with opened_ledger(settings) as ledger, ledger.transaction() as tx:
        before = await channel_states.lock(tx, BreakerScope.CHANNEL, name)
        text = f"Stopped by {operator()}: {reason}"
        await channel_states.write(tx, BreakerScope.CHANNEL, name, stopped(before, now(), text, until))
        await _audit(tx, "breaker.open", name, reason)


async def _let_go(settings: "Settings", name: str, reason: str, *, at_once: bool) -> None:
    from pipeline.ledger import channel_states
    from pipeline.lodgment.breaker import closed

    async with opened_ledger(settings) as ledger, ledger.transaction() as tx:
        known = {other: scope for scope, other, one in await channel_states.all_(tx) if _shut(scope, one)}
        scope = known.get(name)
        if scope is None:
            text = f"{name} is not stopped, nothing waits for you; `lodge breaker list` shows what is"
            raise RefusedError("breaker.none", text)
        before = await channel_states.lock(tx, scope, name)
        after = closed(before) if at_once else before
        if before.state is BreakerState.OPEN and not at_once:
            after = replace(before, probe_at=now())
        await channel_states.write(tx, scope, name, after)
        await _audit(tx, "breaker.close", name, reason)


def _shut(scope: BreakerScope, one: Breaker) -> bool:
    return scope is not BreakerScope.CREDENTIAL and one.state is not BreakerState.CLOSED


async def _audit(tx: "Tx", action: str, name: str, reason: str) -> None:
    from pipeline.ledger import operators
    from pipeline.ledger.operators import OperatorAction
    from pipeline.lodgment.references import uuid7

    moment = now()
    deed = OperatorAction(uuid7(moment, os.urandom(10)), moment, operator(), action, None, f"{name}: {reason}")
    await operators.add(tx, [deed])


def _require_known(settings: "Settings", name: str) -> None:
    """See that a misspelt name stops nobody but the one who gave it.

    Raises:
        ConfigurationError: `breaker.name`.
    """
    from pipeline.policies import doors

    environment = described(settings)
    if environment is None:
        return
    names = doors(environment)
    if name not in names:
        raise ConfigurationError("breaker.name", f"NAME: there is no {name!r}; there are: {', '.join(names)}")


def _require(reason: str) -> None:
    if not reason.strip():
        raise ConfigurationError("operator.reason", "--reason: must say why, it is kept with the deed")
