"""The pace of a replay: as fast as live work bears. It is judged by what live lodgments take, against what they took.

As in congestion control (RFC 5681, RFC 9438): half as fast when live work has become slower, else a little faster, and
with care near the speed at which it became slower last. Where to go slowly does not help, the replay is not the cause:
what live work takes then is what it is compared with from then on.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum


class Leg(StrEnum):
    """What of a lodgment's way is timed, from its receipt on."""

    SENT = "sent"
    """To the first request to the agency; of those that were not sent yet, so far."""
    FINAL = "final"
    """To the outcome, where the first request brought it."""


LiveTimes = Mapping[Leg, Sequence[float]]
"""What live lodgments took, in seconds."""


@dataclass(frozen=True, slots=True)
class PacePolicy:
    """How a replay gives way to live work."""

    slower: float = 1.1
    """Live work has become slower when more lodgments than before take so many times as long."""
    shares: tuple[float, ...] = (0.1, 0.01)
    """What the slowest tenth and the slowest hundredth took is compared."""
    doubt: float = 2.0
    """Standard deviations beyond what chance explains."""
    chance: int = 2
    """So few slow ones are chance, however few there are in all."""
    enough: int = 30
    """Of fewer lodgments nothing is told."""
    plenty: int = 300
    """Of so many the level is known well."""
    most: int = 1000
    """So many are looked at, the last."""
    every: timedelta = timedelta(seconds=1)
    """It looks so often."""
    window: timedelta = timedelta(seconds=60)
    """Lodgments received in this time tell of now."""
    before: timedelta = timedelta(minutes=10)
    """Lodgments received in this time before the start tell of the level."""
    first: float = 0.1
    """The share of the rate that it begins with."""
    least: float = 1.0
    """Lodgments a second, however slow live work is."""
    cut: float = 0.5
    raise_by: float = 0.02
    """Each second, as a share of its speed."""
    near: float = 0.7
    """Beyond this share of the speed at which live work became slower last, it is raised with care."""
    care: float = 0.1
    """Then by so much of `raise_by`."""
    settle: timedelta = timedelta(seconds=5)
    """After it has become slower, it becomes no faster for so long."""
    learn_for: timedelta = timedelta(seconds=20)
    """So long it goes at the least speed, to see what live work takes without it."""
    level_for: timedelta = timedelta(minutes=10)
    """A level is good for so long: days are not alike at all hours."""


@dataclass(frozen=True, slots=True)
class Level:
    """Of `of` lodgments, a share of `share` took longer than `seconds`."""

    share: float
    seconds: float
    of: int


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast a replay goes, and why. `resume` is the speed to go on with after a look at live work alone."""

    speed: float
    """Lodgments a second that it may start."""
    looked_at: datetime
    since: datetime
    """Lodgments received before say nothing of this speed."""
    levels: Mapping[Leg, tuple[Level, ...]] = field(default_factory=dict)
    levels_at: datetime | None = None
    resume: float | None = None
    too_fast: float | None = None
    """The speed at which live work became slower, the last time against these levels."""
    why: str | None = None
    """Why it is slower than it might be."""


LEARNING = "it looks at what live work takes without it"


def begun(rate: float, before: LiveTimes, now: datetime, policy: PacePolicy) -> Pace:
    """The pace to begin with, where live lodgments took so long before the replay."""
    levels = _levels(before, policy)
    speed = max(_least(rate, policy), rate * policy.first)
    return Pace(speed, now, now, levels, now if levels else None)


def looked(pace: Pace, rate: float, live: LiveTimes, now: datetime, policy: PacePolicy, *, busy: bool) -> Pace:
    """The pace after a look at live lodgments received since `pace.since`; `busy` says that some of the replay's are on
    their way, so that the look tells of its speed.
    """
    pace = replace(pace, looked_at=now)
    if pace.resume is not None:
        return _learned(pace, pace.resume, live, now, policy)
    least = _least(rate, policy)
    if max(map(len, live.values()), default=0) >= policy.enough and _outdated(pace, now, policy):
        return replace(pace, speed=least, resume=pace.speed, since=now, why=LEARNING)
    slower = slowed(live, pace.levels, policy)
    if slower is not None:
        if pace.speed <= least:
            return replace(pace, resume=least, since=now, why=LEARNING)
        slowly = max(least, pace.speed * policy.cut)
        return replace(pace, speed=slowly, too_fast=pace.speed, since=now, why=slower)
    if not busy or now - pace.since < policy.settle:
        return pace
    speed = min(rate, pace.speed * (1 + _raise(pace, policy)))
    return replace(pace, speed=speed, why=None if speed >= rate else pace.why)


def slowed(live: LiveTimes, levels: Mapping[Leg, Sequence[Level]], policy: PacePolicy) -> str | None:
    """In what live work has become slower, in plain words; None where chance explains what is seen."""
    for leg, known in levels.items():
        times = live.get(leg, ())
        for level in known:
            limit = level.seconds * policy.slower
            slow = sum(seconds > limit for seconds in times)
            if slow > _explained(len(times), level, policy):
                usual = f"{level.share:.0%} before took {level.seconds:.2f} s or more"
                return f"{slow} of {len(times)} live lodgments took more than {limit:.2f} s to be {leg}; {usual}"
    return None


def _explained(number: int, level: Level, policy: PacePolicy) -> float:
    """So many slow ones chance explains: the share is known from a sample, too (a beta-binomial's deviation)."""
    expected = number * level.share
    return max(policy.chance, expected + policy.doubt * math.sqrt(expected * (1 + number / level.of)))


def _raise(pace: Pace, policy: PacePolicy) -> float:
    near = pace.too_fast is not None and pace.speed >= policy.near * pace.too_fast
    return policy.raise_by * policy.care if near else policy.raise_by


def _learned(pace: Pace, resume: float, live: LiveTimes, now: datetime, policy: PacePolicy) -> Pace:
    known = min((len(times) for times in live.values() if times), default=0)
    if known < policy.plenty and now - pace.since < policy.learn_for:
        return pace
    # So little live work that nothing is told of it: the queues must do.
    return replace(
        pace, speed=resume, resume=None, since=now, levels=_levels(live, policy), levels_at=now, too_fast=None, why=None
    )


def _outdated(pace: Pace, now: datetime, policy: PacePolicy) -> bool:
    return pace.levels_at is None or now - pace.levels_at >= policy.level_for


def _levels(live: LiveTimes, policy: PacePolicy) -> dict[Leg, tuple[Level, ...]]:
    return {
        leg: tuple(_level(sorted(times), share) for share in policy.shares)
        for leg, times in live.items()
        if len(times) >= policy.enough
    }


def _level(ordered: Sequence[float], share: float) -> Level:
    """The k-th largest of n is exceeded by k/(n+1), on average over samples."""
    rank = int(len(ordered) * share) + 1
    return Level(rank / (len(ordered) + 1), ordered[-rank], len(ordered))


def _least(rate: float, policy: PacePolicy) -> float:
    return min(rate, policy.least)
