"""Fair shares: how long a sender's lodgments wait so that its thousands do not stand before everybody else's few.

Each sender has a virtual time, the generic cell rate algorithm's theoretical arrival time: every lodgment moves it on
by what it costs. What lies within the burst goes at once; what lies beyond gets a turn of its own, and is called
earlier when the pipeline has room, the earliest turn first.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from pipeline.lodgment.lodgment import Reason

SHARE_TURN = "share.turn"
"""Parked until its sender's turn, or until there is room."""
_SIZE = 256 * 1024


@dataclass(frozen=True, slots=True)
class SharePolicy:
    """What every sender may have. `each` is the time that a small lodgment moves its sender's virtual time on."""

    each: timedelta = timedelta(milliseconds=200)
    burst: timedelta = timedelta(minutes=20)
    """Six thousand small lodgments: a turn costs a move more, which an ordinary batch should not pay."""

    def cost(self, size: int) -> timedelta:
        """What a lodgment of `size` bytes, as it is sent, costs."""
        return self.each * (1 + size / _SIZE)


@dataclass(frozen=True, slots=True)
class Turns:
    """When each of a sender's lodgments goes, and the sender's virtual time after them."""

    at: tuple[datetime, ...]
    virtual: datetime


def turns(virtual: datetime | None, sizes: Sequence[int], policy: SharePolicy, now: datetime) -> Turns:
    """The turns of lodgments of these sizes, in order; a turn that is not after `now` is no waiting at all."""
    time = now if virtual is None else max(virtual, now)
    at = []
    for size in sizes:
        time += policy.cost(size)
        at.append(max(now, time - policy.burst))
    return Turns(tuple(at), time)


WAITS = Reason(
    SHARE_TURN,
    "Its sender has many lodgments under way, and others have turns between them. It goes earlier when there is room.",
)
