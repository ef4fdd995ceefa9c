"""Sweeps: what looks for lodgments that nothing moves any more, by kind of cause; and when a sweep is missing."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum


class SweepKind(StrEnum):
    """What is looked for. Each that is found was put right, and is told: it should not have happened."""

    MESSAGE_LOST = "message.lost"
    """A step did not move it in time: its message is lost, or its queue is that long."""
    LEASE_OVER = "lease.over"
    """A transport worker did not come back with the answer."""
    TOKEN_UNSERVED = "token.unserved"  # noqa: S105  - a kind of sweep
    """It waits for a token that nobody asks for, or whose answer nobody will bring."""
    HOLD_UNMOVED = "hold.unmoved"
    """Its hold was released or has ended, and it did not move."""
    QUARANTINE_UNHELD = "quarantine.unheld"
    """Its message is in quarantine, and it was not held."""
    ATTEMPT_OPEN = "attempt.open"
    """An attempt that nobody will complete."""


@dataclass(frozen=True, slots=True)
class Swept:
    """How many of one kind were put right, and since when the oldest of them had not moved."""

    kind: SweepKind
    count: int
    oldest: datetime


NOTED_EVERY = timedelta(seconds=10)
"""How often a sweep that finds nothing notes that it ran."""
LATE_AFTER = timedelta(minutes=5)
"""A sweep that has not run for so long is missing: the slowest kind looks every minute."""


def missing(last_runs: Mapping[SweepKind, datetime], since: datetime, now: datetime) -> dict[SweepKind, datetime]:
    """The kinds that nobody has looked for lately, each with when it was looked for last; where that was never, with
    `since`, from when on somebody should have.
    """
    last = {kind: last_runs.get(kind, since) for kind in SweepKind}
    return {kind: at for kind, at in last.items() if now - at > LATE_AFTER}
