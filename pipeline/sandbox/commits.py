"""The database of a sandbox's books: one writer, and requests that arrive together share one commit.

A reply leaves only after what it says is on disk.
"""

import asyncio
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

AnswerT = TypeVar("AnswerT")
Work = Callable[[sqlite3.Connection], AnswerT]


@dataclass(frozen=True, slots=True)
class _Batch:
    """Requests that will share a commit, and the commit that they wait for."""

    pending: list[Work[Any]]
    answers: asyncio.Task[list[Any]]


class Commits:
    """Use it as an asynchronous context manager, in one process at a time."""

    def __init__(self, path: Path, schema: str) -> None:
        self._path = path
        self._schema = schema
        self._turn = asyncio.Lock()
        self._collecting: _Batch | None = None

    async def __aenter__(self) -> Self:
        self._connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = FULL")
        self._connection.executescript(self._schema)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        async with self._turn:
            self._connection.close()

    async def run(self, work: Work[AnswerT]) -> AnswerT:
        """Do `work` after all that came before, and return its answer once all of it is on disk.

        It runs in the writer's thread and must be quick.
        """
        if self._collecting is None:
            pending: list[Work[Any]] = []
            self._collecting = _Batch(pending, asyncio.create_task(self._write(pending)))
        batch = self._collecting
        place = len(batch.pending)
        batch.pending.append(work)
        # A client that goes away must not take the others' commit with it.
        answer: AnswerT = (await asyncio.shield(batch.answers))[place]
        return answer

    async def _write(self, pending: list[Work[Any]]) -> list[Any]:
        """One commit at a time; while it waits for its turn, more requests join the batch."""
        async with self._turn:
            self._collecting = None
            return await asyncio.to_thread(self._commit, pending)

    def _commit(self, batch: list[Work[Any]]) -> list[Any]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            answers = [work(self._connection) for work in batch]
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")
        return answers
