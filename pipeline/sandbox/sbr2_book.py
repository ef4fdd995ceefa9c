"""The SBR2 gateways' book: each MessageId that was pushed, what became of it, and the response that it gets again.

Pushes and pulls are settled one after the other, so that of two with the same document the second finds the first one.
"""

import sqlite3
from collections.abc import Callable
from dataclasses import astuple, dataclass, field
from datetime import datetime
from typing import Generic, TypeVar

from pipeline.sandbox.book import note_violation
from pipeline.sandbox.commits import Commits

_READ = "SELECT * FROM sbr2_message WHERE message_id = ?"
_WRITE = "INSERT OR REPLACE INTO sbr2_message VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_ORIGINAL = "SELECT message_id FROM sbr2_message WHERE document_sha256 = ? AND processed > 0 AND message_id <> ?"

AnswerT = TypeVar("AnswerT")


@dataclass(frozen=True, slots=True)
class Entry:
    """What the book has of a MessageId, in the order of its columns. Times are ISO texts in UTC.

    `events` is the outcome, from `due_at` on (None: never); `content_type` and `response` are what the first pull of it
    got.
    """

    message_id: str
    gateway: str
    sender: str
    """The lodging party's number."""
    credential: str
    """The ABN of the machine credential that pushed it."""
    service: str
    software_id: str | None
    document_sha256: str
    """Of the inflated document."""
    first_seen: str
    seen: int = 0
    processed: int = 0
    pulls: int = 0
    push_troubles: int = 0
    pull_troubles: int = 0
    script: str = ""
    events: bytes | None = field(default=None, repr=False)
    due_at: str | None = None
    content_type: str | None = None
    response: bytes | None = field(default=None, repr=False)

    def due(self, now: datetime) -> bool:
        """Whether the outcome may be told."""
        return self.events is not None and self.due_at is not None and now >= datetime.fromisoformat(self.due_at)


@dataclass(frozen=True, slots=True)
class Settled(Generic[AnswerT]):
    """What was decided, and the entry as it leaves it; None where no entry is to be kept."""

    answer: AnswerT
    entry: Entry | None
    violation: str | None = None


Push = Callable[[Entry, str | None], Settled[AnswerT]]
"""Given the entry, this push included, and the MessageId under which the same document was processed, if another."""
Pull = Callable[[Entry | None], Settled[AnswerT]]
"""Given the entry of what is asked about, if there is one."""


class Sbr2Book:
    """Kept in the database that `commits` writes. Both gateways have the one book."""

    def __init__(self, commits: Commits) -> None:
        self._commits = commits

    async def push(self, fresh: Entry, decide: Push[AnswerT]) -> AnswerT:
        """Count a push, let `decide` judge it by its entry (`fresh` at the first), and return the answer once all of it
        is on disk. `decide` runs in the writer's thread and must be quick.
        """

        def settle(connection: sqlite3.Connection) -> AnswerT:
            original = connection.execute(_ORIGINAL, (fresh.document_sha256, fresh.message_id)).fetchone()
            known = _read(connection, fresh.message_id)
            return _kept(connection, decide(known or fresh, original[0] if original else None), fresh.first_seen)

        return await self._commits.run(settle)

    async def pull(self, message_id: str, now: datetime, decide: Pull[AnswerT]) -> AnswerT:
        """The same for a pull that asks about `message_id`."""

        def settle(connection: sqlite3.Connection) -> AnswerT:
            return _kept(connection, decide(_read(connection, message_id)), now.isoformat())

        return await self._commits.run(settle)


def _read(connection: sqlite3.Connection, message_id: str) -> Entry | None:
    row = connection.execute(_READ, (message_id,)).fetchone()
    return None if row is None else Entry(*row)


def _kept(connection: sqlite3.Connection, settled: Settled[AnswerT], at: str) -> AnswerT:
    if settled.entry is not None:
        connection.execute(_WRITE, astuple(settled.entry))
        if settled.violation is not None:
            entry = settled.entry
            note_violation(connection, entry.sender, entry.message_id, datetime.fromisoformat(at), settled.violation)
    return settled.answer
