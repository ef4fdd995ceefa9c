"""For payroll applications: hear how lodgments end, as it happens. Synchronous, over kombu."""

import time
from collections import deque
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Self

import structlog
from kombu import entity
from kombu.connection import Connection
from kombu.message import Message

from pipeline.broker.messages import OutcomeEvent
from pipeline.broker.port import Exchange
from pipeline.broker.synchronous import LOST, connect
from pipeline.broker.topology import Topology
from pipeline.lodgment.errors import DependencyDownError, RefusedError

log = structlog.get_logger()

_HEARTBEAT = 20
_SLICE = 1.0
"""Seconds between heartbeat checks."""


class OutcomeListener:
    """Outcome events whose routing key fits `pattern`, from the moment of opening: open it before pushing the jobs.

    Its queue is its own and ends with it. What is published while nobody listens is not kept: the ledger has it.
    """

    def __init__(
        self,
        urls: Sequence[str],
        namespace: str = "lodge",
        pattern: str = "outcome.#",
        *,
        connect_timeout: float = 10.0,
        ca_file: str | None = None,
    ) -> None:
        self._urls = urls
        self._topology = Topology(namespace)
        self._pattern = pattern
        self._timeout = connect_timeout
        self._ca_file = ca_file
        self._connection: Connection | None = None
        self._heard: deque[OutcomeEvent] = deque()

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def open(self) -> None:
        """Connect and bind.

        Raises:
            DependencyDownError: `broker.down`, or `broker.unroutable` where no worker has declared the namespace.
            ConfigurationError: the broker refuses this user, password or virtual host.
        """
        connection = connect(
            self._urls,
            connect_timeout=self._timeout,
            answer_timeout=self._timeout,
            ca_file=self._ca_file,
            heartbeat=_HEARTBEAT,
        )
        exchange = self._topology.exchange(Exchange.OUTCOMES)
        exchange.no_declare = True
        queue = entity.Queue(
            "",
            exchange,
            routing_key=self._pattern,
            durable=False,
            exclusive=True,
            auto_delete=True,
            queue_arguments={"x-queue-type": "classic"},
        )
        try:
            channel = connection.channel()
            bound = queue(channel)
            bound.declare()
            bound.consume("outcomes", self._on_message, no_ack=True)
        except LOST as error:
            connection.release()
            raise DependencyDownError("broker.unroutable", f"no exchange {exchange.name}: {error}") from error
        self._connection = connection

    def events(self, timeout: float) -> Iterator[OutcomeEvent]:
        """Events as they come; ends when `timeout` seconds have passed without one.

        Raises:
            DependencyDownError: the connection was lost, and with it what was published since; ask the ledger.
        """
        while (event := self._next(timeout)) is not None:
            yield event

    def close(self) -> None:
        if self._connection is not None:
            self._connection.release()
            self._connection = None

    def _next(self, timeout: float) -> OutcomeEvent | None:
        if self._connection is None:
            raise DependencyDownError("broker.down", "the listener is not open")
        deadline = time.monotonic() + timeout
        while not self._heard:
            left = deadline - time.monotonic()
            if left <= 0:
                return None
            try:
                self._connection.heartbeat_check()
                self._connection.drain_events(timeout=min(left, _SLICE))
            except TimeoutError:
                continue
            except LOST as error:
                raise DependencyDownError(
                    "broker.down", f"the connection was lost, outcomes since then were not heard: {error}"
                ) from error
        return self._heard.popleft()

    def _on_message(self, message: Message) -> None:
        try:
            self._heard.append(OutcomeEvent.read(message.body))
        except RefusedError as error:
            log.warning("broker.outcome_unread", code=error.code)
