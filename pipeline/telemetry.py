"""Logs and metrics: constant event names, ids as fields, one registry per process."""

import logging
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import TextIO

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from pipeline.lodgment.breaker import BreakerScope, BreakerState
from pipeline.lodgment.states import Step
from pipeline.lodgment.sweeping import SweepKind


def configure_logs(level: str, *, json_lines: bool, stream: TextIO | None = None) -> None:
    """Structured events on `stream`, stderr unless given: JSON lines for machines, aligned text for a terminal."""
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer() if json_lines else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    # The drivers tell every lost connection and every failed batch in lines of their own; ours are events with codes.
    for driver in ("pika", "psycopg"):
        logging.getLogger(driver).setLevel(logging.CRITICAL)
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


_DISTINCT_CODES = 40
"""Unknown codes that are counted by name for each channel; what the other side writes must not fill the registry."""


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
        self._unknown_faults = Counter(
            "lodge_unknown_fault", "Faults whose code is in no table", ["channel", "code"], registry=self.registry
        )
        self._codes: dict[str, set[str]] = {}
        self._sts_skew = Gauge(
            "lodge_sts_clock_skew_seconds",
            "How far the token service's clock is ahead of ours, by its last reply",
            registry=self.registry,
        )
        self._swept = Gauge("lodge_last_sweep", "Unix time of the scheduler's last sweep", registry=self.registry)
        self._stuck = Counter(
            "lodge_sweep_acted", "Lodgments that a sweep found stuck and put right", ["kind"], registry=self.registry
        )
        self._sweep_age = Gauge(
            "lodge_sweep_age_seconds",
            "Since when a kind of sweep has not run, anywhere",
            ["kind"],
            registry=self.registry,
        )
        self._credential = Gauge(
            "lodge_credential_seconds_left",
            "Time until a machine credential expires; negative once it has",
            ["credential", "abn"],
            registry=self.registry,
        )
        self._unusable = Gauge(
            "lodge_credentials_unusable", "Credentials that are there and cannot be used", registry=self.registry
        )
        self._credentials: set[tuple[str, str]] = set()

        self._tokens = Counter(
            "lodge_token_answers",
            "Answers of the token service: why it was asked, and issued or the class of failure",
            ["turn", "outcome"],
            registry=self.registry,
        )
        self._token_wait = Histogram(
            "lodge_token_wait_seconds",
            "From when a token was due to be asked for until its answer",
            ["turn"],
            buckets=(0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600),
            registry=self.registry,
        )
        self._token_request = Histogram(
            "lodge_token_request_seconds", "Time the token service takes", registry=self.registry
        )
        self._asking = Gauge("lodge_token_requests_under_way", "Token requests under way", registry=self.registry)
        self._breaker = Gauge(
            "lodge_breaker_state",
            "1 for the state that a breaker is in",
            ["scope", "name", "state"],
            registry=self.registry,
        )
        self._opened = Counter(
            "lodge_breaker_opened", "Times that a breaker opened", ["scope", "name"], registry=self.registry
        )
        self._closed = Counter(
            "lodge_breaker_closed", "Times that a breaker closed again", ["scope", "name"], registry=self.registry
        )
        self._at_doors = Gauge(
            "lodge_breaker_waiting", "Lodgments before an agency's closed door", ["name"], registry=self.registry
        )

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
        self._replays = Gauge("lodge_replays", "Replays that are not over", ["state"], registry=self.registry)
        self._replayed = Counter(
            "lodge_replayed", "Replayed lodgments by the state in which they ended", ["state"], registry=self.registry
        )
        self._replay_speed = Gauge(
            "lodge_replay_speed",
            "Lodgments a second that the replay looked at last may start",
            registry=self.registry,
        )
        self._replay_slowed = Counter(
            "lodge_replay_slowed", "Times that a replay gave way to live work", registry=self.registry
        )

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

    @contextmanager
    def asking(self) -> Iterator[None]:
        with self._asking.track_inprogress(), self._token_request.time():
            yield

    def token(self, turn: str, outcome: str, waited: float) -> None:
        self._tokens.labels(turn, outcome).inc()
        self._token_wait.labels(turn).observe(max(0.0, waited))

    def breaker(self, scope: BreakerScope, name: str, before: BreakerState, after: BreakerState) -> None:
        for one in BreakerState:
            self._breaker.labels(scope, name, one).set(one is after)
        if before is not after and BreakerState.CLOSED in {before, after}:
            (self._opened if before is BreakerState.CLOSED else self._closed).labels(scope, name).inc()

    def at_doors(self, crowds: Iterable[tuple[str, int]]) -> None:
        """How many wait before each door, by its name."""
        self._at_doors.clear()
        for name, number in crowds:
            self._at_doors.labels(name).set(number)

    def poison(self, step: Step) -> None:
        self._poison.labels(step).inc()

    def dependency_down(self, step: str, code: str) -> None:
        self._down.labels(step, code).inc()

    def unknown_fault(self, channel: str, code: str) -> None:
        """Count a fault that no table explains; codes beyond the first forty of a channel count as `other`."""
        codes = self._codes.setdefault(channel, set())
        if len(codes) < _DISTINCT_CODES:
            codes.add(code)
        self._unknown_faults.labels(channel, code if code in codes else "other").inc()

    def sts_clock_skew(self, seconds: float) -> None:
        self._sts_skew.set(seconds)

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

    def replayed(self, state: str) -> None:
        self._replayed.labels(state).inc()

    def replays(self, by_state: Mapping[str, int]) -> None:
        """How many replays are running, paused and halted."""
        self._replays.clear()
        for state, number in by_state.items():
            self._replays.labels(state).set(number)

    def replay_speed(self, speed: float) -> None:
        self._replay_speed.set(speed)

    def replay_slowed(self) -> None:
        self._replay_slowed.inc()

    def swept(self, published: int) -> None:
        self._published.inc(published)
        self._swept.set_to_current_time()

    def stuck(self, kind: SweepKind, count: int) -> None:
        self._stuck.labels(kind).inc(count)

    def sweep_ages(self, ages: Mapping[SweepKind, float]) -> None:
        """How long ago each kind of sweep last ran, in seconds, whichever process ran it."""
        for kind, seconds in ages.items():
            self._sweep_age.labels(kind).set(seconds)

    def credentials(self, left: Mapping[tuple[str, str], timedelta], unusable: int) -> None:
        """The time left of every credential, by its id and ABN; those that are gone show no more."""
        for labels, time_left in left.items():
            self._credential.labels(*labels).set(time_left.total_seconds())
        for labels in self._credentials - left.keys():
            self._credential.remove(*labels)
        self._credentials = set(left)
        self._unusable.set(unusable)
