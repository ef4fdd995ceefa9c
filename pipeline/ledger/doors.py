"""Who waits before an agency's closed door. Each question reads the index of those who wait, and nothing else."""

from dataclasses import dataclass
from functools import cache
from typing import Any

import sqlalchemy as sa

from pipeline.ledger.lodgment_rows import COLUMNS, lodgment_of
from pipeline.ledger.session import Tx
from pipeline.ledger.tables import WAITING_AT_DOOR, lodgment
from pipeline.lodgment.doors import Door
from pipeline.lodgment.lodgment import BREAKER_POLLS, Lodgment


@dataclass(frozen=True, slots=True)
class Crowd:
    """How many wait at one door; `gateway` None: at whichever is the channel's when they go."""

    door: Door
    count: int


async def any_waits(tx: Tx) -> bool:
    """Whether anybody waits before a closed door."""
    return (await tx.connection.execute(_any())).first() is not None


async def waiting(tx: Tx, door: Door, *, usual: bool, limit: int) -> list[Lodgment]:
    """Who waits at this door, the earliest due date first, then the oldest; locked on PostgreSQL, without what another
    process has. `usual`: it is where new lodgments go, so those without a gateway wait here as well.
    """
    values = {"channel": door.channel, "service": door.service, "code": door.code, "gateway": door.gateway}
    if door.service is None:
        rows = await tx.connection.execute(_of_channel(), {"channel": door.channel, "limit": limit})
    else:
        rows = await tx.connection.execute(_waiting(usual=usual), {**values, "limit": limit})
    return [lodgment_of(row) for row in rows]


async def crowds(tx: Tx) -> list[Crowd]:
    """How many wait at each door, for people."""
    rows = await tx.connection.execute(_crowds())
    return [
        Crowd(Door(row.channel, row.service, row.gateway, row.reason_code == BREAKER_POLLS), row.number) for row in rows
    ]


@cache
def _any() -> sa.Executable:
    return sa.select(lodgment.c.id).where(WAITING_AT_DOOR).limit(1)


def _locked(statement: sa.Select[Any]) -> sa.Select[Any]:
    limit = sa.bindparam("limit", type_=sa.Integer)
    return (
        statement.order_by(lodgment.c.due_date.nulls_last(), lodgment.c.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )


@cache
def _waiting(*, usual: bool) -> sa.Select[Any]:
    gateway = sa.bindparam("gateway", type_=sa.Text)
    at = lodgment.c.gateway.is_not_distinct_from(gateway)
    if usual:
        at = sa.or_(at, lodgment.c.gateway.is_(None))
    return _locked(
        sa.select(*COLUMNS).where(
            WAITING_AT_DOOR,
            lodgment.c.reason_code == sa.bindparam("code", type_=sa.Text),
            lodgment.c.channel == sa.bindparam("channel", type_=sa.Text),
            lodgment.c.service == sa.bindparam("service", type_=sa.Text),
            at,
        )
    )


@cache
def _of_channel() -> sa.Select[Any]:
    channel = sa.bindparam("channel", type_=sa.Text)
    return _locked(sa.select(*COLUMNS).where(WAITING_AT_DOOR, lodgment.c.channel == channel))


@cache
def _crowds() -> sa.Select[Any]:
    shown = (lodgment.c.channel, lodgment.c.service, lodgment.c.gateway, lodgment.c.reason_code)
    return sa.select(*shown, sa.func.count().label("number")).where(WAITING_AT_DOOR).group_by(*shown).order_by(*shown)
