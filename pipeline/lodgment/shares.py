"""Fair shares: whose jobs are taken in at once, and in which order the others wait, so that one sender's thousands do
not stand before everybody else's few.

Start-time fair queueing over senders (Goyal, Vin and Cheng, 1996): each job that waits has a tag on one virtual time
line, and the lowest tag goes first. A sender's tags are apart by what its jobs cost; a sender that comes anew begins
where the line stands. So those who wait take turns, whatever each of them brought and used before.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

SHARE_TURN = "share.turn"
"""Waits because its sender has many under way, and others have turns between them."""
_SIZE = 256 * 1024


@dataclass(frozen=True, slots=True)
class SharePolicy:
    """What every sender may have. `each` is how far a small job moves its sender's virtual time on."""

    each: timedelta = timedelta(milliseconds=200)
    burst: timedelta = timedelta(seconds=10)
    """Fifty small jobs are taken in at once, whatever else is under way, and five more each second."""
    room: int = 80
    """So many lodgments may be under way before jobs beyond a share wait: whoever lodges one stands behind them."""
    room_alone: int = 400
    """So many while nobody lodges anything: full batches cost the workers less."""

    def cost(self, size: int) -> timedelta:
        """What a job of `size` bytes costs, its document included: as much again for each 256 KiB."""
        return self.each * (1 + size // _SIZE)


UNSHARED = SharePolicy(burst=timedelta(days=36_500))
"""Everything is taken in at once."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A job as far as its share depends on it."""

    sender: str
    size: int


@dataclass(frozen=True, slots=True)
class Line:
    """Who waits already. `first` is the lowest tag, None while nobody does; `senders`, of those asked about."""

    first: datetime | None = None
    senders: Collection[str] = ()


@dataclass(frozen=True, slots=True)
class Admission:
    """The tag of each job that waits, None for those that are taken in at once; and each sender's virtual time."""

    tags: tuple[datetime | None, ...]
    virtual: Mapping[str, datetime]


def admit(
    asked: Sequence[Asked], virtual: Mapping[str, datetime], line: Line, room: int, policy: SharePolicy, now: datetime
) -> Admission:
    """Who is taken in at once, in order; `room` is how many small jobs more may be under way.

    Behind a job that waits, all of its sender's wait, so that none overtakes another.
    """
    start = line.first or now
    after: dict[str, datetime] = {}
    behind = set(line.senders)
    # While somebody waits, what room there is is theirs.
    spare = policy.each * room if line.first is None else timedelta(0)
    tags: list[datetime | None] = []
    for one in asked:
        used = after.get(one.sender, virtual.get(one.sender, start))
        if line.first is None and one.sender not in behind:
            used = min(used, start + policy.burst)  # what was used while nobody waited was nobody else's
        cost = policy.cost(one.size)
        tag = after[one.sender] = max(used, start) + cost
        if one.sender not in behind and (tag - start <= policy.burst or cost <= spare):
            spare -= cost
            tags.append(None)
        else:
            behind.add(one.sender)
            tags.append(tag)
    return Admission(tuple(tags), after)


def needs_room(admission: Admission, line: Line) -> bool:
    """Whether more might be taken in if there were room, of what was admitted as if there were none."""
    return line.first is None and any(tag is not None for tag in admission.tags)
