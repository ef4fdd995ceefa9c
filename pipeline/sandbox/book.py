"""What the sandbox's register knows: each reference seen, what became of it, who broke the rules. Outlives the process.

A reply leaves only after its entry is on disk. Requests that arrive together share one commit; they are settled one
after the other, so that of two with the same reference the second finds the first one's answer.
"""

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Generic, Self, TypeVar

_SCHEMA = """
CREATE TABLE IF NOT EXISTS entry (
    sender TEXT NOT NULL, reference TEXT NOT NULL, service TEXT NOT NULL, body_sha256 TEXT NOT NULL,
    first_seen TEXT NOT NULL, seen INTEGER NOT NULL, processed INTEGER NOT NULL, troubles INTEGER NOT NULL,
    response BLOB, PRIMARY KEY (sender, reference)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS violation (
    id INTEGER PRIMARY KEY, sender TEXT NOT NULL, reference TEXT NOT NULL, at TEXT NOT NULL, what TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS violation_of ON violation (sender, reference);
"""
_READ = (
    "SELECT body_sha256, first_seen, seen, processed, troubles, response FROM entry WHERE sender = ? AND reference = ?"
)
_WRITE = "INSERT OR REPLACE INTO entry VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
_LIST = """
SELECT sender, reference, service, body_sha256, first_seen, seen, processed, troubles,
       (SELECT group_concat(what, '; ') FROM violation v WHERE v.sender = e.sender AND v.reference = e.reference)
FROM entry e WHERE (?1 IS NULL OR reference = ?1) ORDER BY sender, reference
"""

AnswerT = TypeVar("AnswerT")


@dataclass(frozen=True, slots=True)
class Submission:
    """A lodgment as it comes in. `body_sha256` is of the business document body alone: header and seals may change."""

    sender: str
    reference: str
    service: str
    body_sha256: str


@dataclass(frozen=True, slots=True)
class Entry:
    """What the book has of a reference, this request included in `seen`. `response` is the register's final answer."""

    body_sha256: str
    first_seen: datetime
    seen: int = 1
    processed: int = 0
    troubles: int = 0
    response: bytes | None = None


@dataclass(frozen=True, slots=True)
class Settled(Generic[AnswerT]):
    """What was decided. `response` only where this very request was processed to its end."""

    answer: AnswerT
    response: bytes | None = None
    trouble: bool = False
    violation: str | None = None


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the book, for people and tests. `violations` in plain words."""

    sender: str
    reference: str
    service: str
    body_sha256: str
    first_seen: str
    seen: int
    processed: int
    troubles: int
    violations: str | None


Decide = Callable[[Entry], Settled[AnswerT]]


@dataclass(frozen=True, slots=True)
class _Pending(Generic[AnswerT]):
    submission: Submission
    now: datetime
    decide: Decide[AnswerT]


@dataclass(frozen=True, slots=True)
class _Batch(Generic[AnswerT]):
    """Requests that will share a commit, and the commit that they wait for."""

    pending: list[_Pending[AnswerT]]
    answers: asyncio.Task[list[AnswerT]]


class Book(Generic[AnswerT]):
    """Use it as an asynchronous context manager, in one process at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._turn = asyncio.Lock()
        self._collecting: _Batch[AnswerT] | None = None

    async def __aenter__(self) -> Self:
        self._connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = FULL")
        self._connection.executescript(_SCHEMA)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        async with self._turn:
            self._connection.close()

    async def settle(self, submission: Submission, now: datetime, decide: Decide[AnswerT]) -> AnswerT:
        """Count the request, let `decide` judge it by its entry, and return the answer once all of it is on disk.

        `decide` runs in the writer's thread and must be quick.
        """
        if self._collecting is None:
            pending: list[_Pending[AnswerT]] = []
            self._collecting = _Batch(pending, asyncio.create_task(self._write(pending)))
        batch = self._collecting
        place = len(batch.pending)
        batch.pending.append(_Pending(submission, now, decide))
        # A client that goes away must not take the others' commit with it.
        return (await asyncio.shield(batch.answers))[place]

    async def lines(self, reference: str | None = None) -> list[Line]:
        """The book's lines in order of sender and reference; those of one reference, if given."""
        return await asyncio.to_thread(read_book, self._path, reference)

    async def _write(self, pending: list[_Pending[AnswerT]]) -> list[AnswerT]:
        """One commit at a time; while it waits for its turn, more requests join the batch."""
        async with self._turn:
            self._collecting = None
            return await asyncio.to_thread(self._commit, pending)

    def _commit(self, batch: list[_Pending[AnswerT]]) -> list[AnswerT]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            answers = [self._settle(pending) for pending in batch]
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")
        return answers

    def _settle(self, pending: _Pending[AnswerT]) -> AnswerT:
        submission, now = pending.submission, pending.now
        key = (submission.sender, submission.reference)
        entry = self._entry(key, submission, now)
        settled = pending.decide(entry)
        if settled.violation is not None:
            self._connection.execute(
                "INSERT INTO violation (sender, reference, at, what) VALUES (?, ?, ?, ?)",
                (*key, now.isoformat(), settled.violation),
            )
        row = (
            *key,
            submission.service,
            entry.body_sha256,
            entry.first_seen.isoformat(),
            entry.seen,
            entry.processed + (settled.response is not None),
            entry.troubles + settled.trouble,
            entry.response if settled.response is None else settled.response,
        )
        self._connection.execute(_WRITE, row)
        return settled.answer

    def _entry(self, key: tuple[str, str], submission: Submission, now: datetime) -> Entry:
        row = self._connection.execute(_READ, key).fetchone()
        if row is None:
            return Entry(submission.body_sha256, now)
        body_sha256, first_seen, seen, processed, troubles, response = row
        return Entry(body_sha256, datetime.fromisoformat(first_seen), seen + 1, processed, troubles, response)


def read_book(path: Path, reference: str | None = None) -> list[Line]:
    """The lines of the book at `path`, all or those of one reference; also while a sandbox writes it."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return [Line(*row) for row in connection.execute(_LIST, (reference,))]
