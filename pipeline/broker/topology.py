"""Exchanges, queues and bindings as data; every client of the broker declares the same ones.

Behaviour must not depend on the broker's release: RabbitMQ 3.10 has no default delivery limit, 4.x drops a message
after 20 deliveries unless a dead-letter exchange is set. So both are always set.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from kombu import entity

from pipeline.broker.port import Exchange, later
from pipeline.lodgment.states import Step

QUARANTINE = "quarantine"
STEPS = (Step.AUTHORISE, Step.SEAL, Step.SUBMIT, Step.RECORD)
"""The steps that are fed by the pipeline itself; `receive` is fed by producers."""

_KINDS: Mapping[Exchange, str] = {
    Exchange.JOBS: "direct",
    Exchange.STEPS: "direct",
    Exchange.OUTCOMES: "topic",
    # What the broker dead-letters keeps its routing key; a fanout takes it whatever it is.
    Exchange.DEAD: "fanout",
}
_UNLIMITED = 1_000_000_000

MESSAGE_TYPES: Mapping[Exchange, str] = {
    Exchange.JOBS: "lodgment-job.v1",
    Exchange.STEPS: "lodgment-step.v1",
    Exchange.OUTCOMES: "lodgment-outcome.v1",
    Exchange.DEAD: "lodgment-step.v1",
}
"""The AMQP property `type` of what goes through each exchange."""


@dataclass(frozen=True, slots=True)
class Topology:
    """The names and arguments of everything that is declared.

    `delivery_limit` is how often a message may come back before it is quarantined. `max_length` is where a queue starts
    to refuse publishers. Both are arguments of the queues: a queue that exists with others is not changed.
    """

    namespace: str = "lodge"
    delivery_limit: int = 20
    max_length: int = 10_000_000

    def exchange_name(self, exchange: Exchange) -> str:
        return f"{self.namespace}.{exchange}"

    def queue_name(self, queue: str) -> str:
        """The name on the wire of a queue by its short name: a step, `later(step)`, or `quarantine`."""
        return f"{self.namespace}.{queue}"

    def exchange(self, exchange: Exchange) -> entity.Exchange:
        return entity.Exchange(self.exchange_name(exchange), type=_KINDS[exchange], durable=True)

    def exchanges(self) -> tuple[entity.Exchange, ...]:
        return tuple(self.exchange(exchange) for exchange in Exchange)

    def queues(self) -> Mapping[str, entity.Queue]:
        """Every queue by its short name, each with the one binding that feeds it."""
        steps = self.exchange(Exchange.STEPS)
        return {
            Step.RECEIVE: self._queue(Step.RECEIVE, self.exchange(Exchange.JOBS)),
            **{name: self._queue(name, steps) for step in STEPS for name in (step, later(step))},
            QUARANTINE: self._queue(QUARANTINE, self.exchange(Exchange.DEAD)),
        }

    def limit_of(self, queue: str) -> int:
        """The delivery limit of one queue."""
        # The end of the line must never drop: what its consumer gives back or rejects stays in it.
        return _UNLIMITED if queue == QUARANTINE else self.delivery_limit

    def queue_arguments(self, queue: str) -> dict[str, str | int]:
        return {
            "x-queue-type": "quorum",
            "x-delivery-limit": self.limit_of(queue),
            "x-dead-letter-exchange": self.exchange_name(Exchange.DEAD),
            # Dead-lettering is at most once unless asked otherwise, and at least once needs reject-publish.
            "x-dead-letter-strategy": "at-least-once",
            "x-overflow": "reject-publish",
            "x-max-length": self.max_length,
        }

    def _queue(self, name: str, exchange: entity.Exchange) -> entity.Queue:
        return entity.Queue(
            self.queue_name(name),
            exchange,
            routing_key=name,
            durable=True,
            auto_delete=False,
            queue_arguments=self.queue_arguments(name),
        )
