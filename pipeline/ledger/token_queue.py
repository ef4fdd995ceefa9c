"""Tokens to ask for: a queue in the rows of the token keys themselves, so that nothing is asked for twice or forgotten.

A key stands in the queue from `ask_at` on, in one of three turns, until the answer is stored: a process that dies with
a key in hand leaves it there, and its lease ends. Nothing here reads more than what is due.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from pipeline.ledger import token_queue_statements as statements
from pipeline.ledger.batch import encode, storable
from pipeline.ledger.session import Tx
from pipeline.ledger.tables import TokenState
from pipeline.ledger.token_rows import StoredToken, Turn, key_columns, stored_token
from pipeline.lodgment.breaker import CLOCK_TOLERANCE
from pipeline.lodgment.lodgment import Reason
from pipeline.lodgment.references import TokenKey, TokenKeyHash


@dataclass(frozen=True, slots=True)
class Wanted:
    """A key that lodgments wait for now; `at_once` overrides the time of a retry."""

    key: TokenKey
    at_once: bool = False


@dataclass(frozen=True, slots=True)
class Bespoken:
    """A key needed at `until`: asked for from `ask_at` on, unless its token is good beyond `good_until`."""

    key: TokenKey
    ask_at: datetime
    until: datetime
    good_until: datetime


@dataclass(frozen=True, slots=True)
class Taken:
    """A key that this process may ask for until its lease ends."""

    stored: StoredToken
    turn: Turn
    queued_at: datetime


async def want(tx: Tx, wanted: Collection[Wanted], now: datetime, good_until: datetime) -> None:
    """Put keys into the queue for lodgments that wait, and lock their rows: until this transaction ends, no answer is
    stored, so what is parked in it will be found by `settle`. A key whose token, stored in this instant, is good beyond
    `good_until` stays as it is; one that is over, or that a clock which has stepped back would revive, is wiped.
    """
    by_hash = {one.key.hash(): one for one in wanted}
    if not by_hash:
        return
    batch = [_row(key_hash, one.key, now) | {"at_once": one.at_once} for key_hash, one in sorted(by_hash.items())]
    bounds = {"now": now, "later": now + CLOCK_TOLERANCE, "good_until": good_until}
    await tx.connection.execute(statements.want(tx.dialect), {"batch": encode(batch), **bounds})


async def warm(tx: Tx, bespoken: Collection[Bespoken], now: datetime) -> None:
    """See that these keys have a token at a time to come, and keep it renewed until then."""
    by_hash = {one.key.hash(): one for one in sorted(bespoken, key=lambda one: one.until)}
    batch = [
        _row(key_hash, one.key, now)
        | {
            "ask_turn": Turn.WARM,
            "ask_at": one.ask_at,
            "wanted_until": one.until,
            "good_until": one.good_until,
        }
        for key_hash, one in sorted(by_hash.items())
    ]
    if batch:
        await tx.connection.execute(statements.warm(tx.dialect), {"batch": encode(batch)})


async def due(tx: Tx, sts: str, now: datetime, latest_lease: datetime) -> bool:
    """Whether anything at all could be taken: a look that locks nothing."""
    bounds = {"of_sts": sts, "now": now, "latest": latest_lease}
    for turn in Turn:
        if (await tx.connection.execute(statements.due(), {**bounds, "turn": turn})).first() is not None:
            return True
    return False


async def under_way(tx: Tx, now: datetime, latest_lease: datetime) -> int:
    """How many requests all processes have under way. A lease beyond `latest_lease` is of a clock that stepped back."""
    return int((await tx.connection.execute(statements.under_way(), {"now": now, "latest": latest_lease})).scalar_one())


async def take(
    tx: Tx,
    sts: str,
    turn: Turn,
    owner: str,
    now: datetime,
    lease_until: datetime,
    limit: int,
    *,
    but: Collection[str] = (),
    only: str | None = None,
) -> list[Taken]:
    """Win the right to ask for up to `limit` keys of one turn, longest due first: not for credentials in `but`."""
    bounds = {
        "of_sts": sts,
        "turn": turn,
        "owner": owner,
        "now": now,
        "lease": lease_until,
        "latest": lease_until + CLOCK_TOLERANCE,
        "limit": limit,
        "keys": encode(sorted(but)),
        "only": only,
    }
    rows = await tx.connection.execute(statements.take(tx.dialect), bounds)
    return [Taken(stored_token(row, None), turn, row.ask_at) for row in rows]


async def lapse(tx: Tx, sts: str, now: datetime, used_since: datetime, limit: int) -> None:
    """Let renewals go that are due and not in demand: not used since then, and not bespoken."""
    bounds = {"of_sts": sts, "turn": Turn.RENEWAL, "now": now, "used_since": used_since, "limit": limit}
    await tx.connection.execute(statements.lapse(), bounds)


async def refuse(tx: Tx, sts: str, credential: str, reason: Reason, now: datetime, limit: int) -> int:
    """Answer what is queued for a refused credential with the refusal, without asking; how many keys."""
    changes = {
        "of_sts": sts,
        "credential_id": credential,
        "now": now,
        "limit": limit,
        "code": storable(reason.code),
        "text": storable(reason.text),
        "who": reason.who,
    }
    return (await tx.connection.execute(statements.refuse(), changes)).rowcount


async def unsettled(tx: Tx, limit: int) -> list[StoredToken]:
    """Keys whose answer those who wait have not had yet, oldest first; locked, without what another process has."""
    rows = await tx.connection.execute(statements.unsettled(), {"limit": limit})
    return [stored_token(row, None) for row in rows]


async def settled(tx: Tx, hashes: Collection[TokenKeyHash]) -> None:
    """Everybody who waited for these keys has had the answer."""
    await tx.connection.execute(statements.settled(tx.dialect), {"keys": encode(sorted(hashes))})


async def clock_stepped_back(tx: Tx, now: datetime) -> int:
    """Make due at once what a clock that was ahead has put off; how many keys."""
    bounds = {"now": now, "later": now + CLOCK_TOLERANCE}
    return (await tx.connection.execute(statements.clock_stepped_back(), bounds)).rowcount


def _row(key_hash: TokenKeyHash, key: TokenKey, now: datetime) -> dict[str, object]:
    return {
        **key_columns(key_hash, key),
        "state": TokenState.REQUESTED,
        "requested_at": now,
        "renewals": 0,
        "last_used_at": now,
        "ask_turn": Turn.FIRST,
        "ask_at": now,
    }
