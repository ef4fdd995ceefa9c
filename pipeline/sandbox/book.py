"""The agencies' books in one: what each saw, how often it processed it, who broke the rules. Outlives the process."""

import asyncio
import contextlib
import sqlite3
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

SCHEMA = """
CREATE TABLE IF NOT EXISTS entry (
    sender TEXT NOT NULL, reference TEXT NOT NULL, service TEXT NOT NULL, body_sha256 TEXT NOT NULL,
    first_seen TEXT NOT NULL, seen INTEGER NOT NULL, processed INTEGER NOT NULL, troubles INTEGER NOT NULL,
    response BLOB, PRIMARY KEY (sender, reference)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS sbr2_message (
    message_id TEXT PRIMARY KEY, gateway TEXT NOT NULL, sender TEXT NOT NULL, credential TEXT NOT NULL,
    service TEXT NOT NULL, software_id TEXT, document_sha256 TEXT NOT NULL, first_seen TEXT NOT NULL,
    seen INTEGER NOT NULL, processed INTEGER NOT NULL, pulls INTEGER NOT NULL, push_troubles INTEGER NOT NULL,
    pull_troubles INTEGER NOT NULL, script TEXT NOT NULL, events BLOB, due_at TEXT, content_type TEXT, response BLOB
);
CREATE INDEX IF NOT EXISTS sbr2_message_about ON sbr2_message (document_sha256);
CREATE TABLE IF NOT EXISTS violation (
    id INTEGER PRIMARY KEY, sender TEXT NOT NULL, reference TEXT NOT NULL, at TEXT NOT NULL, what TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS violation_of ON violation (sender, reference);
"""
_LIST = """
SELECT line.*, (
    SELECT group_concat(what, '; ') FROM violation v WHERE v.sender = line.sender AND v.reference = line.reference
) FROM (
    SELECT 'asic_bn' AS channel, sender, reference, service, body_sha256, first_seen, seen, processed, troubles,
           NULL AS pulls, NULL AS gateway, NULL AS software_id FROM entry
    UNION ALL
    SELECT 'sbr2_stp', sender, message_id, service, document_sha256, first_seen, seen, processed,
           push_troubles + pull_troubles, pulls, gateway, software_id FROM sbr2_message
) AS line WHERE (?1 IS NULL OR reference = ?1) ORDER BY channel, sender, reference
"""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the book, for people and tests. `violations` in plain words.

    The reference of SBR2 is the MessageId. `pulls`, `gateway` and `software_id` are SBR2's alone, else None.
    """

    channel: str
    sender: str
    reference: str
    service: str
    body_sha256: str
    first_seen: str
    seen: int
    processed: int
    troubles: int
    pulls: int | None
    gateway: str | None
    software_id: str | None
    violations: str | None


async def lines(path: Path, reference: str | None = None) -> list[Line]:
    """As `read_book`, beside a running loop."""
    return await asyncio.to_thread(read_book, path, reference)


def read_book(path: Path, reference: str | None = None) -> list[Line]:
    """The lines of the book at `path`, all or those of one reference; also while a sandbox writes it.

    In order of channel, sender and reference.
    """
    with contextlib.closing(sqlite3.connect(path)) as connection:
        # A book from before SBR2 has no page for it yet.
        connection.executescript(SCHEMA)
        return [Line(*row) for row in connection.execute(_LIST, (reference,))]


def note_violation(connection: sqlite3.Connection, sender: str, reference: str, now: datetime, what: str) -> None:
    """Keep that a rule was broken, and by whom."""
    connection.execute(
        "INSERT INTO violation (sender, reference, at, what) VALUES (?, ?, ?, ?)",
        (sender, reference, now.isoformat(), what),
    )
