"""What every stage is given and gives back."""

import os
import random
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol
from uuid import UUID

import structlog

from pipeline.broker.messages import read_step_message, step_message
from pipeline.broker.port import Delivery, Outgoing, later
from pipeline.broker.port import Exchange as Door
from pipeline.channels.contract import Channel
from pipeline.gateway.exchange import Exchange, Request
from pipeline.ledger.session import Ledger
from pipeline.lodgment.deadlines import DeadlinePolicy
from pipeline.lodgment.doors import BreakerPolicies
from pipeline.lodgment.failures import Failure, FailureClass, Party
from pipeline.lodgment.lodgment import WORKER_LOST, Lodgment
from pipeline.lodgment.references import Ids
from pipeline.lodgment.shares import SharePolicy
from pipeline.lodgment.states import NEXT_STEP, Step
from pipeline.lodgment.sweeping import Swept
from pipeline.protocol.credential import Credential
from pipeline.telemetry import Metrics

log = structlog.get_logger(__name__)

Clock = Callable[[], datetime]
"""Now, aware, in UTC."""


@dataclass(frozen=True, slots=True)
class Settled:
    """A part of a batch whose work is committed: publish these, then ack those. In that order, a crash only repeats."""

    deliveries: tuple[Delivery, ...]
    publications: tuple[Outgoing, ...] = ()


class Stage(Protocol):
    """One use case over batches. Handling a delivery again must be harmless: the ledger tells what is already done."""

    @property
    def step(self) -> Step:
        """The step whose queue this stage works off."""
        ...

    def handle(self, batch: Sequence[Delivery]) -> AsyncIterator[Settled]:
        """Work on the batch; each delivery is settled exactly once.

        Raises:
            DependencyDownError: nothing is blamed; what is not settled yet will be handled again.
            Exception: the batch holds a poison message; the runner looks for it by halves.
        """
        ...


class Carrier(Protocol):
    """Whoever carries a request to somebody else's server, and never raises for what the network does."""

    async def exchange(self, request: Request) -> Exchange: ...


class Credentials(Protocol):
    """The machine credentials at hand."""

    def get(self, credential_id: str) -> Credential | Failure:
        """The credential with this id or ABN, or why there is none."""
        ...


@dataclass(frozen=True, slots=True)
class Timing:
    """The clocks of the pipeline."""

    stuck_after: timedelta = timedelta(minutes=5)
    """A lodgment that a step should have moved by then is put on its queue again."""
    lease: timedelta = timedelta(seconds=240)
    """How long one transport worker owns a reference: longer than the agency's time-out."""
    token_margin: timedelta = timedelta(seconds=230)
    """A token is used only if it outlives this: the envelope may be under way that long (WIG 3.6)."""
    token_wait: timedelta = timedelta(seconds=60)
    """How long one token request may take, retries included, before another worker may ask."""
    token_patience: timedelta = timedelta(minutes=30)
    """How often a lodgment without a token looks by itself whether there is one; normally the answer wakes it."""
    door_patience: timedelta = timedelta(hours=1)
    """How often a lodgment before an agency's closed door looks by itself; normally the scheduler lets it through."""
    lane_check: timedelta = timedelta(seconds=30)
    """How often a lodgment looks by itself whether its turn has come; normally its predecessor wakes it."""


@dataclass(frozen=True, slots=True)
class Context:
    """What all stages share."""

    ledger: Ledger
    channels: Mapping[str, Channel]
    environment: str
    clock: Clock
    timing: Timing
    worker: str
    """This process, as attempts and leases name it: host, process id, start."""
    ids: Ids
    shares: SharePolicy = field(default_factory=SharePolicy)
    """What every sender may have before it waits for its turn."""
    breakers: BreakerPolicies = field(default_factory=BreakerPolicies)
    """When each agency's door is closed, and how it opens again."""
    deadlines: DeadlinePolicy = field(default_factory=DeadlinePolicy)
    """When people are told of a due date that comes near."""
    metrics: Metrics = field(default_factory=Metrics, compare=False)

    def tell_unknown(self, channel: str, failure: Failure) -> None:
        """Count and log a fault that no table explains: a row is missing, and what it means was guessed."""
        if not failure.known:
            self.metrics.unknown_fault(channel, failure.code)
            log.warning("fault.unknown", channel=channel, code=failure.code, kind=failure.kind, detail=failure.detail)

    def tell_swept(self, swept: Collection[Swept]) -> None:
        """Raise the alarm over what a sweep put right: a metric by kind, and one log event for each kind."""
        now = self.clock()
        for one in swept:
            age = max(0.0, (now - one.oldest).total_seconds())
            self.metrics.stuck(one.kind, one.count)
            log.warning("sweep.acted", kind=one.kind, count=one.count, oldest_seconds=round(age))

    def new_id(self) -> UUID:
        return self.ids.new(self.clock(), os.urandom(10))

    def spread(self) -> float:
        """A number in [0, 1) that keeps a crowd of waiting lodgments from returning in the same instant."""
        return random.random()  # noqa: S311  - not a secret


WORKER_IS_LOST = Failure(
    FailureClass.UNKNOWN,
    WORKER_LOST,
    "",
    "The transport worker stopped while the request was under way. It is resubmitted under the same reference.",
    Party.NOBODY,
)
"""What becomes of an attempt that nobody will complete."""


def onward(lodgment: Lodgment) -> Outgoing:
    """The message that queues a lodgment for the step its state calls for."""
    return to_step(NEXT_STEP[lodgment.state], lodgment)


def to_step(step: Step, lodgment: Lodgment, attempt_id: UUID | None = None) -> Outgoing:
    """A message for one step; it carries ids only. What yields goes through the queue beside the step's own."""
    body = step_message(lodgment.id, attempt_id)
    queue = later(step) if lodgment.yields else step
    return Outgoing(Door.STEPS, queue, body, f"{lodgment.id}.{step}.{lodgment.version}", priority=lodgment.priority)


def ids_in(batch: Sequence[Delivery]) -> dict[UUID, list[Delivery]]:
    """The lodgments that a batch is about, each with its deliveries: the same id may come twice in one batch."""
    found: dict[UUID, list[Delivery]] = {}
    for delivery in batch:
        found.setdefault(read_step_message(delivery.body).lodgment_id, []).append(delivery)
    return found
