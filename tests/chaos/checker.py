"""What must be true after any trouble, judged from the ledger, the agency's book, the queues and every log.

Pure: `judge` reads nothing by itself, so that its own tests can hand it a doctored book.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

_LODGED = frozenset({"accepted", "partially_accepted", "rejected"})
_FINAL = _LODGED | {"cancelled"}
_EXPLAINED = frozenset({"parked", "awaiting", "unknown", "held"})
_FORBIDDEN = ("<businessDocumentBody", "Envelope", "<saml", "Assertion ", "PRIVATE KEY", "BinarySecret", "CipherValue")
"""Beginnings of documents, envelopes, tokens and keys."""
_COMMAND = "lodge"
_QUIET = frozenset({"debug", "info", "warning"})


@dataclass(frozen=True, slots=True)
class Row:
    """A lodgment as the ledger has it."""

    job_id: str
    reference: str
    state: str
    code: str | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class Line:
    """A reference as the agency has it. `document` is the digest of what was lodged."""

    reference: str
    document: str
    seen: int
    processed: int
    violations: str | None


@dataclass(frozen=True, slots=True)
class Kept:
    """A message in quarantine."""

    step: str
    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was found once all was calm and every worker had stopped."""

    rows: Sequence[Row]
    book: Sequence[Line]
    kept: Sequence[Kept]
    told: frozenset[tuple[str, str]]
    """Job id and event of every outcome event that a subscriber got."""
    queues: Mapping[str, int]
    """Messages that are left in each queue."""
    logs: Mapping[str, str]
    """The whole log of every process, by name."""
    ended: Sequence[str] = ()
    """Processes that ended without having been told to."""


@dataclass(frozen=True, slots=True)
class Expected:
    """What the scenario should have come to."""

    ends: Mapping[str, str]
    """The state of each job that was confirmed to its producer; `held:<code>` names the reason, too."""
    kept: Mapping[str, int] = field(default_factory=dict)
    """How many messages are in quarantine, by code."""
    secrets: Sequence[str] = ()
    """Texts of this run's documents and keys."""
    errors: frozenset[str] = frozenset()
    """Events that may be logged as errors; `lodge` for the line in which a command says why it ends."""


def judge(evidence: Evidence, expected: Expected) -> list[str]:
    """Every promise that was broken, in words; empty when all were kept."""
    return [
        *_ledger(evidence, expected),
        *_agency(evidence),
        *_told(evidence),
        *(f"queue {name} still holds {count} messages" for name, count in evidence.queues.items() if count),
        *_quarantine(evidence, expected),
        *evidence.ended,
        *_logs(evidence, expected),
    ]


def _ledger(evidence: Evidence, expected: Expected) -> Iterator[str]:
    """Nothing is lost, and whatever is not final says why."""
    found = {row.job_id: row for row in evidence.rows}
    if len(found) != len(evidence.rows):
        yield f"{len(evidence.rows) - len(found)} jobs have a second row in the ledger"
    for job_id in expected.ends.keys() - found.keys():
        yield f"{job_id}: was confirmed to its producer and is not in the ledger"
    for job_id in found.keys() - expected.ends.keys():
        yield f"{job_id}: is in the ledger and nobody pushed it"
    for job_id, row in found.items():
        wanted, _, code = expected.ends.get(job_id, row.state).partition(":")
        if row.state != wanted or (code and row.code != code):
            yield f"{job_id}: is {row.state} ({row.code}), expected {expected.ends[job_id]}"
        if row.state not in _FINAL | _EXPLAINED:
            yield f"{job_id}: is {row.state}, which is neither final nor a state that waits for something"
        if row.state in _EXPLAINED and not (row.code and row.reason):
            yield f"{job_id}: is {row.state} and nothing says why"


def _agency(evidence: Evidence) -> Iterator[str]:
    """The agency's own word: each reference processed exactly once, never a second one for the same document."""
    lines = {line.reference: line for line in evidence.book}
    jobs = {row.reference: row for row in evidence.rows}
    for reference in lines.keys() - jobs.keys():
        yield f"{reference}: the agency saw a reference that is not in the ledger"
    for reference, row in jobs.items():
        times = lines[reference].processed if reference in lines else 0
        if row.state in _LODGED and times != 1:
            yield f"{row.job_id}: is {row.state} and the agency processed it {times} times"
        if row.state == "cancelled" and reference in lines:
            yield f"{row.job_id}: is cancelled and the agency saw it"
        if times > 1:
            yield f"{row.job_id}: the agency processed its reference {times} times"
    for document, count in Counter(line.document for line in evidence.book).items():
        if count > 1:
            yield f"document {document[:12]} went out under {count} references"
    for line in evidence.book:
        if line.violations:
            yield f"{line.reference}: the agency complains: {line.violations}"


def _told(evidence: Evidence) -> Iterator[str]:
    for row in evidence.rows:
        if row.state in _FINAL | {"held"} and (row.job_id, row.state) not in evidence.told:
            yield f"{row.job_id}: is {row.state} and its producer was never told"


def _quarantine(evidence: Evidence, expected: Expected) -> Iterator[str]:
    codes = Counter(one.code for one in evidence.kept)
    if codes != Counter(expected.kept):
        yield f"in quarantine by code: {dict(codes)}, expected {dict(expected.kept)}"
    for one in evidence.kept:
        if not (one.step and one.code and one.reason):
            yield f"a message of {one.step or 'no step'} is in quarantine and nothing says why"


def _logs(evidence: Evidence, expected: Expected) -> Iterator[str]:
    for name, text in evidence.logs.items():
        for number, secret in enumerate(expected.secrets):
            if secret in text:
                yield f"{name}: the log holds text {number} of this run's documents and keys"
        for beginning in _FORBIDDEN:
            if beginning in text:
                yield f"{name}: the log holds {beginning!r}"
        # The sandbox's log tells of clients that were killed while it answered.
        if "sandbox" not in name:
            yield from (f"{name}: {line[:600]}" for line in text.splitlines() if _odd(line, expected.errors))


def _odd(line: str, errors: frozenset[str]) -> bool:
    """An error that the scenario does not explain, or what is no event at all: a traceback, a warning of Python's."""
    try:
        event = json.loads(line)
        level, name = event["level"], event["event"]
    except (ValueError, KeyError, TypeError):
        # A process that is killed while it writes leaves half a line; a command says in one line why it ends.
        return not line.startswith("{") and not (_COMMAND in errors and line.startswith(f"{_COMMAND}: "))
    return level not in _QUIET and name not in errors
