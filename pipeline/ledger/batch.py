"""A batch of any size is one statement with one parameter, a JSON array: compiled once, planned once."""

import json
from collections.abc import Collection, Mapping, Sequence
from datetime import date, datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from pipeline.ledger.tables import utc_text


class Dialect(StrEnum):
    """The two databases, by SQLAlchemy's name."""

    POSTGRESQL = "postgresql"
    SQLITE = "sqlite"


def encode(rows: Sequence[Mapping[str, object]] | Collection[UUID] | Collection[str]) -> str:
    """Rows or keys as the JSON text that `recordset` and `among` read.

    Text from outside becomes `storable` on the way.
    """
    text = json.dumps(rows if isinstance(rows, list) else list(rows), default=_plain, separators=(",", ":"))
    if "\\u0000" in text or "\\ud" in text:
        return json.dumps(_storable(json.loads(text)), separators=(",", ":"))
    return text


def recordset(dialect: Dialect, columns: Sequence[sa.Column[Any]], name: str = "batch") -> sa.FromClause:
    """The rows of bind parameter `batch` as a table with `columns`."""
    if dialect is Dialect.POSTGRESQL:
        array = sa.cast(sa.bindparam("batch", type_=sa.Text), sa.JSON)
        typed = [sa.column(column.name, column.type) for column in columns]
        return sa.func.json_to_recordset(array).table_valued(*typed, name=name).render_derived(name, with_types=True)
    each = sa.func.json_each(sa.bindparam("batch", type_=sa.Text)).table_valued("value", name="each")
    fields = [
        sa.literal_column(f"json_extract(each.value, '$.{column.name}')", column.type).label(column.name)
        for column in columns
    ]
    return sa.select(*fields).select_from(each).subquery(name)


def insert_batch(dialect: Dialect, table: sa.Table, unique: str) -> sa.Insert:
    """Insert the rows of `batch`, leaving out those whose `unique` column is there already."""
    rows = recordset(dialect, tuple(table.c))
    # Without a WHERE, SQLite reads ON CONFLICT as a join condition (its documentation, "Parsing ambiguity").
    source = sa.select(*rows.c).where(sa.true())
    insert = postgresql.insert if dialect is Dialect.POSTGRESQL else sqlite.insert
    return insert(table).from_select(table.c.keys(), source).on_conflict_do_nothing(index_elements=[unique])


def insert_arrays(table: sa.Table) -> sa.Insert:
    """Insert rows with an array for each column, on PostgreSQL: JSON would have to carry documents as text."""
    names = tuple(table.c.keys())
    arrays = [sa.bindparam(column.name, type_=postgresql.ARRAY(column.type)) for column in table.c]
    rows = sa.func.unnest(*arrays).table_valued(*names, name="batch").render_derived()
    return sa.insert(table).from_select(names, sa.select(*rows.c))


def as_arrays(rows: Sequence[Mapping[str, object]]) -> dict[str, list[object]]:
    """What `insert_arrays` takes for these rows, of which there is one at least."""
    return {name: [row[name] for row in rows] for name in rows[0]}


def among(dialect: Dialect, column: sa.ColumnElement[object]) -> sa.ColumnElement[bool]:
    """Whether `column` is one of the keys in bind parameter `keys`."""
    keys = sa.bindparam("keys", type_=sa.Text)
    if dialect is Dialect.SQLITE:
        return column.in_(sa.select(sa.func.json_each(keys).table_valued("value").c.value))
    each = sa.func.json_array_elements_text(sa.cast(keys, sa.JSON)).table_valued("value")
    # An array, not a join: whatever the planner believes of the table, all it can do is look the keys up in the index.
    array = sa.func.array(sa.select(sa.cast(each.c.value, column.type)).scalar_subquery())
    return column.bool_op("=")(sa.func.any(array))  # negated, `==` would become `<> ANY`: something else


def storable(text: str) -> str:
    """`text` with U+FFFD for what PostgreSQL cannot store: U+0000 and lone surrogates."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").replace("\0", "\ufffd")


def _plain(value: object) -> str:
    match value:
        case UUID():
            return str(value)
        case datetime():
            return utc_text(value)
        case date():
            return value.isoformat()
        case _:
            raise TypeError(f"{type(value).__name__} has no column type")


def _storable(value: object) -> object:
    match value:
        case str():
            return storable(value)
        case list():
            return [_storable(item) for item in value]
        case dict():
            return {storable(key): _storable(item) for key, item in value.items()}
        case _:
            return value
