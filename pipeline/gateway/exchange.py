"""One HTTP conversation with somebody else's server, as a value: what left, what came back, or how it ended."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import datetime

from pipeline.lodgment.failures import Failure


@dataclass(frozen=True, slots=True)
class Streamed:
    """A part of a body that is read while it is sent. `pieces` must give `size` bytes, or raise."""

    size: int
    pieces: Callable[[], AsyncIterator[bytes]] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Request:
    """What to send. `body` is sent piece by piece, so that an envelope is never joined in memory."""

    url: str
    body: tuple[bytes | Streamed, ...] = field(repr=False)
    headers: tuple[tuple[str, str], ...] = field(repr=False)
    method: str = "POST"


@dataclass(frozen=True, slots=True)
class Exchange:
    """How it went. `wire_started_at` is None when certainly no byte of the request left this machine.

    Exactly one of `body` (with `status`) and `failure` is set: a whole reply, or the class of its absence
    (`not_sent` before the first byte, `unknown` after it; `our_document` if the request breaks a rule of HTTP and was
    refused here).
    """

    started_at: datetime
    finished_at: datetime
    wire_started_at: datetime | None = None
    status: int | None = None
    content_type: str = ""
    body: bytes | None = field(default=None, repr=False)
    failure: Failure | None = None
    server_date: datetime | None = None
    """The `Date` header of the reply: how the clock skew is measured."""
