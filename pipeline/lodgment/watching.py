"""When people are told that an agency is late: with its receipt, with its outcome, and before asking for that ends.

A pure function over what is known of one lodgment. Each lateness is told once.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from pipeline.lodgment.decisions import RetryPolicy
from pipeline.lodgment.lodgment import Lodgment


class Lateness(StrEnum):
    """What an agency can be late with, in the order of time."""

    RECEIPT = "receipt.missing"
    """No word that the agency has what was sent."""
    OUTCOME = "outcome.late"
    """No outcome for longer than is usual."""
    CLOSING = "outcome.closing"
    """No outcome, and soon it is no longer asked for: the agency keeps answers only so long."""


_ORDER = tuple(Lateness)


@dataclass(frozen=True, slots=True)
class Look:
    """What is to be told now, and when to look again; None where there is nothing more to tell."""

    tell: Lateness | None
    again_at: datetime | None


def look(row: Lodgment, told: Lateness | None, policy: RetryPolicy, now: datetime) -> Look:
    """What the watch makes of a lodgment that was sent and is not final. Time in a closedown does not count for the
    outcome: everybody knows that there is none.
    """
    sent_at = row.clock_from
    if sent_at is None:
        return Look(None, None)
    spent = policy.open_time(sent_at, now)
    missing = row.agency_reference is None and now - sent_at >= policy.receipt_after
    reached = [Lateness.RECEIPT] if missing else []
    reached += [lateness for after, lateness in _thresholds(policy) if spent >= after]
    gravest = reached[-1] if reached else None
    news = gravest is not None and (told is None or _ORDER.index(gravest) > _ORDER.index(told))
    left = [after - spent for after, _ in _thresholds(policy) if after > spent]
    again_at = policy.reopened(now) + min(left) if left else None
    if row.agency_reference is None and now - sent_at < policy.receipt_after:
        again_at = sent_at + policy.receipt_after
    return Look(gravest if news else None, again_at)


def _thresholds(policy: RetryPolicy) -> Iterator[tuple[timedelta, Lateness]]:
    for after, lateness in ((policy.late_after, Lateness.OUTCOME), (policy.closing_after, Lateness.CLOSING)):
        if after is not None:
            yield after, lateness
