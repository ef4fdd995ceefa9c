"""`lodge tokens`: the security tokens at hand, without their secrets."""

import asyncio
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.interfaces.cli.screen import print_json, shown, span, stdout, table
from pipeline.interfaces.cli.session import now, reading, settings_of

if TYPE_CHECKING:
    from pipeline.ledger.token_rows import StoredToken
    from pipeline.ledger.tokens import TokenSummary
    from pipeline.lodgment.lodgment import Reason
    from pipeline.settings import Settings


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command("tokens")(tokens)


def tokens(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for machines.")] = False,
) -> None:
    """Show each token key: whose it is, its state and expiry, the last failure, how many lodgments wait for it.

    Changes nothing. Tokens are renewed by the token worker while there is demand; an expired one without demand is
    nothing to worry about.
    """
    moment = now()
    known = asyncio.run(_overview(settings_of(context)))
    if as_json:
        print_json([_fields(one) for one in known])
        return
    if not known:
        stdout().print("No token was asked for yet.")
        return
    columns = ("key", "credential", "for ABN", "state", "expires", "waiting", "environment")
    console = stdout()
    console.print(table("Security tokens", columns, [_row(one, moment) for one in known]))
    for one in known:
        if one.token.failed is not None:
            failure = _failure(one.token, one.token.failed, moment)
            console.print(f"{one.token.key_hash[:8]} last failed: {failure}", soft_wrap=True)


async def _overview(settings: "Settings") -> "list[TokenSummary]":
    from pipeline.ledger import tokens as stored

    async with reading(settings) as tx:
        return await stored.overview(tx)


def _row(one: "TokenSummary", moment: datetime) -> tuple[object, ...]:
    token = one.token
    expires = ""
    if token.expires_at is not None:
        left = token.expires_at - moment
        expires = f"in {span(left)}" if token.expires_at > moment else f"expired {span(-left)} ago"
    key = token.key
    second = key.second_party or "own"
    return token.key_hash[:8], key.credential, second, token.state, expires, one.waiting, key.environment


def _failure(token: "StoredToken", failed: "Reason", moment: datetime) -> str:
    again = f", asked again in {span(token.retry_at - moment)}" if token.retry_at and token.retry_at > moment else ""
    return shown(f"{failed.code}: {failed.text} (acts: {failed.who}{again})")


def _fields(one: "TokenSummary") -> dict[str, object]:
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
        "failed_code": token.failed.code if token.failed else None,
        "failed_text": token.failed.text if token.failed else None,
        "retry_at": token.retry_at,
        "renewals": token.renewals,
        "waiting": one.waiting,
    }
