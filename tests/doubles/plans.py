"""What PostgreSQL reads to answer the ledger's statements: pages, not time, so that a busy machine changes nothing."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa

from pipeline.ledger.session import Tx

Statement = tuple[str, Any]


@contextmanager
def noted(tx: Tx) -> Iterator[list[Statement]]:
    """The statements that are executed meanwhile, with their parameters."""
    found: list[Statement] = []

    def note(_connection: object, _cursor: object, text: str, parameters: object, *_more: object) -> None:
        found.append((text, parameters))

    connection = tx.connection.sync_connection
    assert connection is not None
    sa.event.listen(connection, "before_cursor_execute", note)
    yield found
    sa.event.remove(connection, "before_cursor_execute", note)


async def pages(tx: Tx, statements: list[Statement]) -> int:
    """How many pages these statements read."""
    return sum([_pages(await plan(tx, one)) for one in statements])


async def plan(tx: Tx, statement: Statement) -> dict[str, Any]:
    """What PostgreSQL did to answer it: EXPLAIN (ANALYZE, BUFFERS)."""
    text, parameters = statement
    rows = await tx.connection.exec_driver_sql(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {text}", parameters)
    (explained,) = rows.scalars()
    whole: list[dict[str, Any]] = explained if isinstance(explained, list) else json.loads(explained)
    found: dict[str, Any] = whole[0]["Plan"]
    return found


def _pages(found: dict[str, Any]) -> int:
    return int(found["Shared Hit Blocks"]) + int(found["Shared Read Blocks"])
