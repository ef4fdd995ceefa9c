"""What the stages need of a broker, whichever one runs: take in batches, publish with confirms, ack last."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from pipeline.lodgment.states import Step


class Exchange(StrEnum):
    """The doors of the broker; names on the wire carry the topology's namespace."""

    JOBS = "jobs"
    """Producers publish here, routing key `receive`."""
    STEPS = "steps"
    """The pipeline's own messages; the routing key is the step, or `later(step)`."""
    OUTCOMES = "outcomes"
    """Topic exchange: `outcome.<channel>.<state>.<abn>`."""
    DEAD = "dead"
    """What could not be handled; everything that enters ends in the quarantine queue."""


_LATER = "-later"


def later(step: Step) -> str:
    """The queue beside a step's own for what gives way to all other work. A broker's priorities would not do: RabbitMQ
    3.10 ignores them in quorum queues, 4.0 lets every third message of the lower class go first.
    """
    return f"{step}{_LATER}"


def step_of(queue: str) -> str:
    """The step that works off the queue of this name, whichever of its two it is."""
    return queue.removesuffix(_LATER)


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A persistent message. Mandatory where a queue of ours must take it; outcomes may have no subscriber."""

    exchange: Exchange
    routing_key: str
    body: bytes
    message_id: str
    headers: dict[str, str] = field(default_factory=dict)
    priority: int = 5

    @property
    def mandatory(self) -> bool:
        return self.exchange is not Exchange.OUTCOMES


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message in hand, unacknowledged. `token` is the broker's own handle; an ack after a reconnect is a no-op.

    Of the broker's own headers, `x-delivery-count` says how often the message came back before (absent: never), and
    `x-first-death-queue` and `x-first-death-reason` say how it came into quarantine.
    """

    body: bytes
    message_id: str
    headers: dict[str, str]
    redelivered: bool
    token: object


class Feed(Protocol):
    """What deliveries are taken from: a queue, or something that serves as one."""

    async def take(self, limit: int, linger: float) -> list[Delivery]:
        """At least one delivery, then whatever arrives within `linger` seconds, at most `limit`; empty once closed."""
        ...

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        """Done with these. Deliveries of a lost connection are ignored: the broker gives them out again."""
        ...

    async def close(self) -> None:
        """Stop the flow: `take` returns the empty list from now on, and every unacknowledged message goes back."""
        ...


class Subscription(Feed, Protocol):
    """A consumer on one queue."""

    async def reject(self, deliveries: Sequence[Delivery]) -> None:
        """Dead-letter these to the quarantine queue. What is rejected from that queue itself goes to its end."""
        ...


class Broker(Protocol):
    """A connection that mends itself: calls wait or raise `DependencyDownError`, they never hang without bound."""

    async def open(self) -> None:
        """Connect and declare the topology."""
        ...

    async def close(self) -> None: ...

    async def subscribe(self, queue: str, prefetch: int) -> Subscription:
        """Consume the queue of a step (`receive`, ..., `quarantine`), or the one beside it (`later`)."""
        ...

    async def listen(self, pattern: str) -> Subscription:
        """Outcome events whose routing key fits `pattern`, from now on; what nobody listens to is not kept."""
        ...

    async def publish(self, messages: Sequence[Outgoing]) -> None:
        """Return when every message is confirmed.

        Raises:
            DependencyDownError: not confirmed in time (`broker.unconfirmed`), connection lost (`broker.down`), no queue
                took a mandatory message (`broker.unroutable`). Publishing again is safe: consumers ask the ledger.
        """
        ...

    async def depths(self) -> dict[str, int]:
        """Messages ready per queue."""
        ...
