"""Documents too large to stand in memory beside what is done with them: written and read in pieces.

A driver holds a statement's parameters and a result's rows several times over: as bytes, as the hexadecimal text that
PostgreSQL has for them, and in buffers that hold a whole message. So none of them carries a large document.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from typing import Any, cast
from uuid import UUID

import psycopg
import sqlalchemy as sa
from sqlalchemy import exc

from pipeline.ledger.batch import Dialect
from pipeline.ledger.document_form import PIECE, Unpacking, damaged
from pipeline.ledger.session import Tx
from pipeline.ledger.tables import artifact
from pipeline.lodgment.errors import RefusedError

Transaction = Callable[[], AbstractAsyncContextManager[Tx]]
"""Begins the transaction in which the next piece is read."""
_NULL = r"\N"


@dataclass(frozen=True, slots=True)
class LargeDocument:
    """A stored document that is not in memory. `size` and `sha256`, in hex, are its own."""

    id: UUID
    sha256: str
    size: int
    stored_size: int

    async def pieces(self, transaction: Transaction) -> AsyncIterator[bytes]:
        """The document, in pieces that are good only when all have come. No transaction is open between two of them.

        Raises:
            ConfigurationError: `vault.key_unknown`.
            DependencyDownError: the ledger cannot be read now.
            RefusedError: `artifact.none`, the row is gone; `vault.damaged` or `artifact.damaged`, at the end at latest.
        """
        unpacking: Unpacking | None = None
        start = 0
        while start < self.stored_size:
            async with transaction() as tx:
                stored = await self._slice(tx, start)
                unpacking = unpacking or Unpacking(tx.vault, self.id, self.sha256)
            start += len(stored)
            pieces = unpacking.feed(stored)
            del stored
            while piece := await asyncio.to_thread(next, pieces, b""):
                yield piece
        if unpacking is None:
            raise damaged(self.id)
        unpacking.finish()

    async def read(self, tx: Tx) -> bytes:
        """The document in one.

        Raises:
            ConfigurationError: as `pieces`.
            RefusedError: as `pieces`.
        """
        # It hands its buffer out without a copy, unlike a list of pieces that are joined.
        content = BytesIO()
        async for piece in self.pieces(lambda: nullcontext(tx)):
            content.write(piece)
        return content.getvalue()

    async def _slice(self, tx: Tx, start: int) -> bytes:
        # SQLite reads the whole value, whichever part of it is asked for: there one part is all.
        size = PIECE if tx.dialect is Dialect.POSTGRESQL else self.stored_size
        found = (
            await tx.connection.execute(_slice_of_one(), {"id": self.id, "start": start + 1, "size": size})
        ).scalar_one_or_none()
        if not found:
            raise RefusedError("artifact.none", f"artifact {self.id} is not in the ledger any more")
        return bytes(found)


async def insert(tx: Tx, row: Mapping[str, object], pieces: Iterable[bytes]) -> None:
    """Store the document whose row is `row`, its `content` in `pieces`."""
    if tx.dialect is Dialect.SQLITE:
        stored = await asyncio.to_thread(_joined, pieces)
        await tx.connection.execute(sa.insert(artifact), {**row, "content": stored})
    else:
        await _copy(tx, row, iter(pieces))


async def _copy(tx: Tx, row: Mapping[str, object], pieces: Iterator[bytes]) -> None:
    """One line of COPY: of all statements it alone takes a value whose end is not made yet."""
    statement = f"COPY artifact ({', '.join(row)}, content) FROM STDIN"
    connection = cast(psycopg.AsyncConnection[Any], (await tx.connection.get_raw_connection()).driver_connection)
    try:
        async with connection.cursor() as cursor, cursor.copy(statement.encode()) as copy:
            await copy.write("".join(f"{_NULL if value is None else value}\t" for value in row.values()) + r"\\x")
            while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
                await copy.write(piece.hex())
            await copy.write("\n")
    except psycopg.Error as error:
        # As SQLAlchemy raises its own: what waits for the database, and what it refuses, is told from these.
        raise exc.DBAPIError.instance(
            statement, None, error, psycopg.Error, hide_parameters=True, dialect=tx.connection.dialect
        ) from error


def _joined(pieces: Iterable[bytes]) -> bytes:
    content = BytesIO()
    for piece in pieces:
        content.write(piece)
    return content.getvalue()


@cache
def _slice_of_one() -> sa.Select[Any]:
    start, size = sa.bindparam("start", type_=sa.Integer), sa.bindparam("size", type_=sa.Integer)
    part = sa.func.substr(artifact.c.content, start, size, type_=sa.LargeBinary)
    return sa.select(part).where(artifact.c.id == sa.bindparam("id", type_=artifact.c.id.type))
