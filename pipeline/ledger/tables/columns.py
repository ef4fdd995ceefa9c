"""How the ledger stores each kind of value, on PostgreSQL and on SQLite, and how its constraints are named."""

from collections.abc import Iterable
from datetime import UTC, datetime
from enum import StrEnum
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.engine import Dialect


def utc_text(moment: datetime) -> str:
    """UTC with microseconds, always 32 characters: sorts as it counts, and both databases read it.

    Raises:
        ValueError: `moment` is naive.
    """
    if moment.tzinfo is None:
        raise ValueError("a time without a zone: pass an aware datetime")
    return moment.astimezone(UTC).isoformat(timespec="microseconds")


class _UtcText(sa.types.TypeDecorator[datetime]):
    """SQLite has no timestamp with a zone."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> str | None:  # noqa: ARG002  - SQLAlchemy's signature
        return None if value is None else utc_text(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002  - SQLAlchemy's signature
        return None if value is None else datetime.fromisoformat(value)


class _UuidText(sa.types.TypeDecorator[UUID]):
    """SQLite has no UUID; 36 characters sort as the UUIDs do and can be searched by prefix."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: UUID | None, dialect: Dialect) -> str | None:  # noqa: ARG002  - SQLAlchemy's signature
        return None if value is None else str(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> UUID | None:  # noqa: ARG002  - SQLAlchemy's signature
        return None if value is None else UUID(value)


Id = sa.Uuid().with_variant(_UuidText(), "sqlite")
Moment = sa.DateTime(timezone=True).with_variant(_UtcText(), "sqlite")
Json = sa.JSON().with_variant(JSONB(), "postgresql")


def quoted(values: Iterable[StrEnum]) -> str:
    """Enum values as an SQL list, in a stable order."""
    return ", ".join(f"'{value}'" for value in sorted(values))


metadata = sa.MetaData(
    naming_convention={
        "pk": "%(table_name)s_pkey",
        "uq": "%(table_name)s_%(column_0_name)s_key",
        "ck": "%(table_name)s_%(constraint_name)s_check",
        "fk": "%(table_name)s_%(column_0_name)s_fkey",
        "ix": "%(table_name)s_%(column_0_name)s_idx",
    }
)
