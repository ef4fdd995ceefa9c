"""`lodge tokens`: the security tokens at hand, without their secrets, and what stands between us and new ones."""

import asyncio
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from pipeline.interfaces.cli import tokens_warm
from pipeline.interfaces.cli.screen import print_json, shown, span, stdout, table, when
from pipeline.interfaces.cli.session import now, reading, settings_of
from pipeline.lodgment.breaker import Breaker, BreakerScope, BreakerState

if TYPE_CHECKING:
    from pipeline.ledger.token_reports import CredentialCount, TokenFilter, TokenSummary
    from pipeline.ledger.token_rows import StoredToken
    from pipeline.settings import Settings

_SOON = timedelta(minutes=5)
_commands = typer.Typer(help="The security tokens at hand: look (changes nothing), or ask ahead with `warm`.")


@dataclass(frozen=True, slots=True)
class View:
    """What `lodge tokens` knows: counts of all keys, breakers that ever opened, and a page of keys."""

    at: datetime
    counts: "list[CredentialCount]"
    waiting: int
    breakers: list[tuple[BreakerScope, str, Breaker]]
    listed: "list[TokenSummary]"


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    _commands.callback(invoke_without_command=True)(tokens)
    tokens_warm.register(_commands)
    app.add_typer(_commands, name="tokens")


def tokens(
    context: typer.Context,
    failed: Annotated[bool, typer.Option("--failed", help="Only keys whose latest request failed.")] = False,
    expiring: Annotated[
        int | None,
        typer.Option(
            min=1, max=525_600, metavar="MINUTES", help="Only good tokens that expire within so many minutes."
        ),
    ] = None,
    employer: Annotated[str | None, typer.Option(metavar="ABN", help="Only tokens that act for this employer.")] = None,
    credential: Annotated[str | None, typer.Option(metavar="ID", help="Only tokens of this credential.")] = None,
    limit: Annotated[int, typer.Option(min=0, max=100_000, help="List at most so many keys.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for machines.")] = False,
) -> None:
    """Show how many token keys there are and how they stand, the breakers, then single keys: failed ones first.

    Changes nothing. A key is what makes two tokens interchangeable: credential, employer, software id, AppliesTo.
    Tokens are renewed by the token worker while there is demand; an expired one without demand is nothing to worry
    about.
    """
    if context.invoked_subcommand is not None:
        return
    from pipeline.ledger.token_reports import TokenFilter

    within = None if expiring is None else timedelta(minutes=expiring)
    wanted = TokenFilter(failed=failed, expires_within=within, employer=employer, credential=credential)
    view = asyncio.run(_look(settings_of(context), wanted, limit))
    if as_json:
        print_json(_fields(view))
    else:
        _print(stdout(), view, narrowed=wanted != TokenFilter())


async def _look(settings: "Settings", wanted: "TokenFilter", limit: int) -> View:
    from pipeline.ledger import channel_states, token_reports

    moment = now()
    async with reading(settings) as tx:
        return View(
            at=moment,
            counts=await token_reports.counts(tx, moment, _SOON),
            waiting=await token_reports.waiting(tx),
            breakers=await channel_states.all_(tx),
            listed=await token_reports.listed(tx, wanted, moment, limit),
        )


def _print(console: Console, view: View, *, narrowed: bool) -> None:
    if view.counts:
        rows = [
            (c.credential, c.keys, c.good, c.expiring, c.failing, c.asking, c.queued, c.environment)
            for c in view.counts
        ]
        columns = ("credential", "keys", "good", "expire in 5 min", "failing", "asking", "to ask", "environment")
        console.print(table("Security tokens", columns, rows))
    else:
        console.print("No token was asked for yet.")
    console.print(f"Lodgments waiting for a token: {view.waiting}")
    for line in breaker_lines(view.breakers, view.at):
        console.print(line, soft_wrap=True)
    if view.listed:
        columns = ("key", "credential", "for ABN", "software id", "AppliesTo", "state", "expires", "waiting")
        console.print()
        console.print(table("Token keys", columns, [_row(one, view.at) for one in view.listed]))
        for one in view.listed:
            if one.token.failed is not None:
                console.print(f"{one.token.key_hash[:8]} last failed: {_failure(one.token, view.at)}", soft_wrap=True)
    elif narrowed:
        console.print("No key is like that.")
    total = sum(one.keys for one in view.counts)
    if not narrowed and total > len(view.listed) > 0:
        console.print(
            f"Shown: {len(view.listed)} of {total}; --failed, --expiring, --employer, --credential narrow it."
        )


def breaker_lines(breakers: Sequence[tuple[BreakerScope, str, Breaker]], at: datetime) -> list[str]:
    """What a person reads of each breaker that is not closed, and that the token service answers where all is well."""
    lines = []
    for scope, name, one in breakers:
        if scope is BreakerScope.STS and one.state is BreakerState.CLOSED:
            lines.append(shown(f"Token service {name}: breaker closed"))
        if one.state is BreakerState.CLOSED:
            continue
        what = {
            BreakerScope.STS: f"Token service {name}: BREAKER {one.state.upper()}",
            BreakerScope.CREDENTIAL: f"Credential {name}: REFUSED, {one.state}",
            BreakerScope.CHANNEL: f"Channel {name}: BREAKER {one.state.upper()}",
        }[scope]
        since = f" since {when(one.opened_at)} ({span(at - one.opened_at)})" if one.opened_at else ""
        why = f", because {one.cause.code}: {one.cause.text} (acts: {one.cause.who})" if one.cause else ""
        lines.append(shown(f"{what}{since}{why}. {_what_next(scope, one, at)}"))
    return lines


def _what_next(scope: BreakerScope, one: Breaker, at: datetime) -> str:
    if one.state is BreakerState.RAMPING:
        return "It answers again and is asked a little more at each step."
    if one.state is BreakerState.PROBING:
        return "One request is out, or about to be, to see."
    due = f"in {span(one.probe_at - at)}" if one.probe_at and one.probe_at > at else "now"
    if scope is BreakerScope.CREDENTIAL:
        return f"Asked once more when a lodgment is released, or {due} when a new one needs it."
    return f"One request will see {due}; nothing needs pressing."


def _row(one: "TokenSummary", moment: datetime) -> tuple[object, ...]:
    token, key = one.token, one.token.key
    expires = ""
    if token.expires_at is not None:
        left = token.expires_at - moment
        expires = f"in {span(left)}" if token.expires_at > moment else f"expired {span(-left)} ago"
    second = key.second_party or "own"
    asked = "" if token.lease_until is None or token.lease_until <= moment else ", asked now"
    state = f"{token.state}{asked}"
    return token.key_hash[:8], key.credential, second, key.software_id, key.applies_to, state, expires, one.waiting


def _failure(token: "StoredToken", moment: datetime) -> str:
    failed = token.failed
    assert failed is not None  # noqa: S101  - the caller looked
    again = f", asked again in {span(token.ask_at - moment)}" if token.ask_at and token.ask_at > moment else ""
    times = f", {token.failures} in a row" if token.failures > 1 else ""
    return shown(f"{failed.code}: {failed.text} (acts: {failed.who}{times}{again})")


def _fields(view: View) -> dict[str, object]:
    return {
        "at": view.at,
        "credentials": [asdict(one) for one in view.counts],
        "waiting": view.waiting,
        "breakers": [
            {
                "scope": scope,
                "name": name,
                "state": one.state,
                "cause_code": one.cause.code if one.cause else None,
                "cause_text": one.cause.text if one.cause else None,
                "opened_at": one.opened_at,
                "probe_at": one.probe_at,
            }
            for scope, name, one in view.breakers
        ],
        "tokens": [_token_fields(one) for one in view.listed],
    }


def _token_fields(one: "TokenSummary") -> dict[str, object]:
    token = one.token
    return {
        "key_hash": token.key_hash,
        "environment": token.key.environment,
        "sts": token.key.sts,
        "applies_to": token.key.applies_to,
        "credential": token.key.credential,
        "second_party": token.key.second_party,
        "software_id": token.key.software_id,
        "state": token.state,
        "expires_at": token.expires_at,
        "asking": token.lease_owner,
        "ask_at": token.ask_at,
        "failed_code": token.failed.code if token.failed else None,
        "failed_text": token.failed.text if token.failed else None,
        "failed_who": token.failed.who if token.failed else None,
        "failures": token.failures,
        "retry_at": token.retry_at,
        "renewals": token.renewals,
        "last_used_at": token.last_used_at,
        "wanted_until": token.wanted_until,
        "waiting": one.waiting,
    }
