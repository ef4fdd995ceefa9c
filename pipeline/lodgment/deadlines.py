"""Due dates: until when an agency must have a lodgment, how much slack that leaves, and when people are told.

A due date is a day of Sydney. It is taken to end by daylight saving time all year: in winter that is an hour early,
which is the side to err on.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from enum import StrEnum
from typing import TypeVar

T = TypeVar("T")

_SYDNEY = timezone(timedelta(hours=11))
_DAY = timedelta(days=1)
_FAR = timedelta(days=36_500)


class Nearness(StrEnum):
    """How near a due date is, in the order of time; each is told once."""

    SOON = "due.soon"
    LAST = "due.last"
    """The last moment to act by hand."""
    MISSED = "due.missed"


@dataclass(frozen=True, slots=True)
class DeadlinePolicy:
    """How long before its deadline a lodgment that is not final is told of."""

    soon: timedelta = timedelta(hours=24)
    last: timedelta = timedelta(hours=4)

    def until(self, nearness: Nearness, now: datetime) -> date:
        """The latest due date that is so near now."""
        ahead = {Nearness.SOON: self.soon, Nearness.LAST: self.last, Nearness.MISSED: timedelta(0)}[nearness]
        return (now + ahead).astimezone(_SYDNEY).date() - _DAY


def deadline(due: date) -> datetime:
    """When the day is over, in UTC."""
    return (datetime.combine(due, time(), _SYDNEY) + _DAY).astimezone(UTC)


def slack(due: date | None, now: datetime, expected: timedelta) -> timedelta:
    """What is left when the lodgment takes as long as expected; without a due date, more than any has."""
    return _FAR if due is None else deadline(due) - now - expected


def nearest(due: date, policy: DeadlinePolicy, now: datetime) -> Nearness | None:
    """How near the due date is, or None while it is far."""
    reached = [one for one in Nearness if due <= policy.until(one, now)]
    return reached[-1] if reached else None


def least_first(rows: Iterable[T], slack_of: Callable[[T], timedelta]) -> list[T]:
    """The least slack first; among equals the order stays."""
    return sorted(rows, key=slack_of)
