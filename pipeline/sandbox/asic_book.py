"""ASIC's register: each reference seen, what became of it, and the answer that it gets again.

Requests are settled one after the other, so that of two with the same reference the second finds the
first one's answer.
"""

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeVar

from pipeline.sandbox.book import note_violation
from pipeline.sandbox.commits import Commits

_READ = (
    "SELECT body_sha256, first_seen, seen, processed, troubles, response FROM entry WHERE sender = ? AND reference = ?"
)
_WRITE = "INSERT OR REPLACE INTO entry VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"

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


Decide = Callable[[Entry], Settled[AnswerT]]


class AsicBook:
    """The register's memory, in the database that `commits` writes."""

    def __init__(self, commits: Commits) -> None:
        self._commits = commits

    async def settle(self, submission: Submission, now: datetime, decide: Decide[AnswerT]) -> AnswerT:
        """Count the request, let `decide` judge it by its entry, and return the answer once all of it is on disk.

        `decide` runs in the writer's thread and must be quick.
        """
        return await self._commits.run(lambda connection: _settle(connection, submission, now, decide))


def _settle(connection: sqlite3.Connection, submission: Submission, now: datetime, decide: Decide[AnswerT]) -> AnswerT:
    key = (submission.sender, submission.reference)
    entry = _entry(connection, key, submission, now)
    settled = decide(entry)
    if settled.violation is not None:
        note_violation(connection, *key, now, settled.violation)
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
    connection.execute(_WRITE, row)
    return settled.answer


def _entry(connection: sqlite3.Connection, key: tuple[str, str], submission: Submission, now: datetime) -> Entry:
    row = connection.execute(_READ, key).fetchone()
    if row is None:
        return Entry(submission.body_sha256, now)
    body_sha256, first_seen, seen, processed, troubles, response = row
    return Entry(body_sha256, datetime.fromisoformat(first_seen), seen + 1, processed, troubles, response)
