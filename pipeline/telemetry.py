"""Logs and metrics: constant event names, ids as fields, one registry per process."""

import logging
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TextIO

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from pipeline.lodgment.states import Step


def configure_logs(level: str, *, json_lines: bool, stream: TextIO | None = None) -> None:
    """Structured events on `stream`, stderr unless given: JSON lines for machines, aligned text for a terminal."""
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer() if json_lines else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    # The broker's library tells every lost connection as an error of its own; ours are events with codes.
    logging.getLogger("pika").setLevel(logging.CRITICAL)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.WriteLoggerFactory(file=stream or sys.stderr),
        cache_logger_on_first_use=False,
    )


class Metrics:
    """What operators watch. Liveness is progress: the time of the last settled message, not an open socket."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._settled = Counter("lodge_settled", "Deliveries settled", ["step"], registry=self.registry)
        self._poison = Counter("lodge_poison", "Deliveries quarantined", ["step"], registry=self.registry)
        self._down = Counter(
            "lodge_dependency_down", "Waits for a dependency", ["step", "code"], registry=self.registry
        )
        self._batch = Histogram("lodge_batch_seconds", "Time a batch takes", ["step"], registry=self.registry)
        self._in_hand = Gauge("lodge_in_hand", "Deliveries in hand", ["step"], registry=self.registry)
        self._progress = Gauge(
            "lodge_last_progress", "Unix time of the last settled one", ["step"], registry=self.registry
        )
        self._published = Counter("lodge_rescheduled", "Messages put back by the scheduler", registry=self.registry)
        self._swept = Gauge("lodge_last_sweep", "Unix time of the scheduler's last sweep", registry=self.registry)

        self._open = Gauge("lodge_open", "Lodgments that are not final", ["channel", "state"], registry=self.registry)
        self._oldest = Gauge(
            "lodge_oldest_seconds", "Age of the oldest lodgment", ["channel", "state"], registry=self.registry
        )
        self._late = Gauge(
            "lodge_late", "Lodgments that an agency is late with", ["channel", "lateness"], registry=self.registry
        )
        self._warnings = Counter(
            "lodge_late_told", "Warnings of lateness", ["channel", "lateness"], registry=self.registry
        )
        self._holds = Gauge("lodge_holds", "Holds that stand", ["scope"], registry=self.registry)

    def serve(self, port: int) -> None:
        """Expose `/metrics` on the loopback interface."""
        start_http_server(port, addr="127.0.0.1", registry=self.registry)

    @contextmanager
    def handling(self, step: Step, size: int) -> Iterator[None]:
        started = time.perf_counter()
        self._in_hand.labels(step).inc(size)
        try:
            yield
        finally:
            self._in_hand.labels(step).dec(size)
            self._batch.labels(step).observe(time.perf_counter() - started)

    def settled(self, step: Step, count: int) -> None:
        self._settled.labels(step).inc(count)
        self._progress.labels(step).set_to_current_time()

    def poison(self, step: Step) -> None:
        self._poison.labels(step).inc()

    def dependency_down(self, step: str, code: str) -> None:
        self._down.labels(step, code).inc()

    def warned(self, channel: str, lateness: str) -> None:
        self._warnings.labels(channel, lateness).inc()

    def standing(
        self,
        states: Iterable[tuple[str, str, int, float]],
        late: Iterable[tuple[str, str, int]],
        holds: Iterable[tuple[str, int]],
    ) -> None:
        """What is open: channel, state, number and the oldest's age in seconds; channel, lateness and number; scope and
        number of holds.
        """
        for gauge in (self._open, self._oldest, self._late, self._holds):
            gauge.clear()
        for channel, state, number, age in states:
            self._open.labels(channel, state).set(number)
            self._oldest.labels(channel, state).set(age)
        for channel, lateness, number in late:
            self._late.labels(channel, lateness).set(number)
        for scope, number in holds:
            self._holds.labels(scope).set(number)

    def swept(self, published: int) -> None:
        self._published.inc(published)
        self._swept.set_to_current_time()
