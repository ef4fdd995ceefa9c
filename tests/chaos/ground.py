"""Where a scenario plays: a ledger, a namespace, a sandbox and workers of its own, and the evidence at the end."""

import json
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pika
import psycopg
from psycopg import sql

from pipeline.broker.port import Exchange
from pipeline.broker.producer import Producer
from pipeline.broker.topology import Topology
from tests.acceptance.havoc import Batch
from tests.chaos.batches import Marked
from tests.chaos.checker import Evidence, Expected, Kept, Line, Row, judge
from tests.chaos.crashing import Harness
from tests.services.nursery import Nursling
from tests.services.pipeline_processes import WORKERS, ForkedSite, Servers, until
from tests.services.processes import Service

PATIENCE = 180.0
_ROWS = "SELECT job_id, reference, state, reason_code, reason_text FROM lodgment_outcome"
_ROUNDS = 4
_BAD_CONFIGURATION = 2


class Ground(ForkedSite):
    """One scenario's processes. `settings` are LODGE_ variables; `clock` is the file that all processes go by;
    `brokers` are the nodes, where there are several.

    What a subscriber of outcome events would get is kept in a queue of its own, from the start.
    """

    def __init__(
        self,
        folder: Path,
        servers: Servers,
        marked: Marked,
        *,
        agency_timeout: float = 1,
        settings: Mapping[str, str] | None = None,
        clock: Path | None = None,
        brokers: Sequence[str] = (),
    ) -> None:
        self._brokers = tuple(brokers) or (servers.broker_url,)
        folder.mkdir(parents=True, exist_ok=True)
        self._harness = Harness(clock=clock)
        super().__init__(folder, servers, agency_timeout=agency_timeout)
        self.environment.update({"LODGE_BROKER_URLS": ",".join(self._brokers), **(settings or {})})
        self.servers = servers
        self.marked = marked
        self.ends: dict[str, str] = {}
        self.workers: list[tuple[str, Service]] = []
        self._clock = clock
        self._topology = Topology(servers.namespace, int((settings or {}).get("LODGE_DELIVERY_LIMIT", 20)))
        self._told: set[tuple[str, str]] = set()
        self._told_queue = f"told.{servers.namespace}"
        self._declare()

    def _process(self, name: str, arguments: Sequence[str], log: Path, ready: Callable[[], bool]) -> Service:
        return Nursling(name, arguments, log, ready, dict(self.environment), self._harness)

    def hire(self, name: str, harness: Harness | None = None) -> Service:
        """Start a worker; it need not be ready yet."""
        usual, self._harness = self._harness, harness or self._harness
        try:
            worker = self.launch_worker(name)
        finally:
            self._harness = usual
        self.workers.append((name, worker))
        return worker

    def open(self, *, but: Sequence[str] = ()) -> "Ground":
        """The sandbox, and one of each worker `but` some."""
        self.start_sandbox()
        self.crew(but=but)
        return self

    def crew(self, *, but: Sequence[str] = ()) -> None:
        hired = [self.hire(name) for name in WORKERS if name not in but]
        for worker in hired:
            worker.await_ready()

    def strike(self, *names: str) -> None:
        """SIGKILL to every worker of these names."""
        for name, worker in tuple(self.workers):
            if name in names:
                self.workers.remove((name, worker))
                self.kill(worker)

    def await_crash(self, worker: Service, meanwhile: Callable[[], None] = lambda: None) -> None:
        """Wait until an armed worker has killed itself.

        Raises:
            AssertionError: it did not, so that nothing was shown.
        """
        self._ended.append(worker)

        def dead() -> bool:
            code = worker.left(within=0.2)
            assert code in {None, -signal.SIGKILL}, f"the armed worker left with {code}"
            if code is None:
                meanwhile()
            return code is not None

        until("the armed worker dies at its point", dead, PATIENCE)
        self.workers = [one for one in self.workers if one[1] is not worker]

    def refused(self, name: str) -> str:
        """Start a worker that must refuse to work; the line in which it says why."""
        worker = self.hire(name)
        self._ended.append(worker)
        self.workers.pop()
        code = worker.left(within=60)
        said = self.log_of(worker).splitlines()
        assert code == _BAD_CONFIGURATION, f"{name} left with {code}: {said[-3:]}"
        assert said[-1].startswith("lodge: "), said
        return said[-1]

    def log_of(self, worker: Service) -> str:
        """What one process has logged."""
        return worker._log.read_text()

    def stand_down(self) -> None:
        """SIGTERM to all workers at once; each must end in order."""
        leaving, self.workers = self.workers, []
        for _, worker in leaving:
            self._ended.append(worker)
            if worker.left() is None:
                worker.tell(signal.SIGTERM)
        codes = [(name, worker.left(within=45)) for name, worker in leaving]
        assert all(code == 0 for _, code in codes), f"not every worker ended in order: {codes}"

    def confirm(self, batch: Batch) -> None:
        """These will be pushed, or are: every one of them must come to its end."""
        self.ends.update(batch.ends)

    def push(self, batch: Batch) -> None:
        """Return once the broker has confirmed every job."""
        self.confirm(batch)
        with Producer(list(self._brokers), self.servers.namespace) as producer:
            producer.push_many(batch.jobs.values())

    def verdict(
        self,
        *,
        kept: Mapping[str, int] | None = None,
        errors: Sequence[str] = (),
        secrets: Sequence[str] = (),
        patience: float = PATIENCE,
    ) -> None:
        """Wait for calm, let the workers go, and judge.

        Raises:
            AssertionError: every promise that was broken.
        """
        self.await_calm(kept or {}, patience)
        expected = Expected(self.ends, kept or {}, (*self.marked.texts, *self.secrets(), *secrets), frozenset(errors))
        found = judge(self.evidence(), expected)
        assert not found, "\n  ".join((f"{len(found)} promises broken:", *found[:25]))

    def await_calm(self, kept: Mapping[str, int], patience: float = PATIENCE) -> None:
        """Until all is as expected and everybody was told; then the workers go.

        What a worker had in hand unfinished comes back to its queue: then others must finish it.
        """
        self.await_calm_states(patience)
        until("everybody was told", lambda: not self._untold(), patience / 3, self._untold)
        count = "SELECT count(*) FROM quarantine"
        until("quarantine has what it should", lambda: self.query(count) == [(sum(kept.values()),)], patience / 3)
        for _ in range(_ROUNDS):
            until("no message is ready", lambda: not any(self.queues().values()), patience / 3, self.queues)
            self.stand_down()
            if not any(self.queues(alone=True).values()):
                return
            self.crew()
        raise AssertionError(f"messages come back and back: {self.queues()}")

    def await_calm_states(self, patience: float = PATIENCE) -> None:
        """Until every lodgment is in the state that is expected of it."""
        wanted = {job_id: end.partition(":")[0] for job_id, end in self.ends.items()}
        until("every lodgment is as expected", lambda: self.states() == wanted, patience, self._unsettled)

    def _unsettled(self) -> object:
        states = self.states()
        wrong = {
            job_id: (states.get(job_id), end)
            for job_id, end in self.ends.items()
            if states.get(job_id) != end.partition(":")[0]
        }
        rows = self.query(
            "SELECT job_id, state, reason_code, attempts FROM lodgment_outcome WHERE finished_at IS NULL LIMIT 5"
        )
        return {"wrong": len(wrong), "for example": list(wrong.items())[:5], "open": rows}

    def _untold(self) -> list[str]:
        self._told |= self._drain_told()
        wanted = {(job_id, end.partition(":")[0]) for job_id, end in self.ends.items()}
        return sorted(
            f"{job_id} {end}" for job_id, end in wanted - self._told if end not in {"parked", "awaiting", "unknown"}
        )[:10]

    def evidence(self) -> Evidence:
        """Everything that `judge` wants to see."""
        kept = self.query("SELECT step, code, reason FROM quarantine")
        book = [
            Line(line["reference"], line["body_sha256"], line["seen"], line["processed"], line["violations"])
            for line in self.book()
        ]
        return Evidence(
            [Row(*row) for row in self.query(_ROWS)],
            book,
            [Kept(*row) for row in kept],
            frozenset(self._told | self._drain_told()),
            self.queues(alone=not self.workers),
            {log.name: log.read_text() for log in sorted(self.folder.glob("*.log"))},
            [
                f"{name} ended by itself with {service.left()}"
                for name, service in self._started
                if service.left() is not None and service not in self._ended
            ],
        )

    def secrets(self) -> list[str]:
        """Keys and passwords of this run, as they stand in their files."""
        files = (self.folder / "master.key", self._home.keystore_password_file, self._home.basic_password_file)
        return [word for file in files if file.exists() for word in file.read_text().split()]

    @property
    def ca_file(self) -> Path:
        """Whom to trust to be the sandbox."""
        return self._home.ca_file

    @property
    def tls_file(self) -> Path:
        """Certificate and key of the sandbox's host, for one who stands in its place."""
        return self._home.tls_file

    def logged(self, text: str) -> int:
        """How often it stands in the logs of the workers."""
        return sum(log.read_text().count(text) for log in self.folder.glob("*-worker-*.log"))

    def execute(self, statement: str) -> None:
        """Change the ledger behind everybody's back."""
        with psycopg.connect(self.servers.ledger_url, autocommit=True) as connection:
            connection.execute(statement.encode())

    def inject(self, queue: str, *bodies: bytes) -> None:
        """Messages into a step's queue, by nobody of ours."""
        with self._channel() as channel:
            channel.confirm_delivery()
            for number, body in enumerate(bodies):
                properties = pika.BasicProperties(message_id=f"injected-{number}", delivery_mode=2)
                channel.basic_publish("", self._topology.queue_name(queue), body, properties, mandatory=True)

    def purge(self, *queues: str) -> int:
        """Lose every message that is ready in these queues; how many there were."""
        with self._channel() as channel:
            return sum(channel.queue_purge(self._topology.queue_name(name)).method.message_count for name in queues)

    def queues(self, *, alone: bool = False) -> dict[str, int]:
        """Messages ready. `alone` waits until nobody consumes any more, so that what was in hand is counted, too."""
        found: dict[str, tuple[int, int]] = {}

        def look() -> bool:
            with self._channel() as channel:
                for name in self._topology.queues():
                    method = channel.queue_declare(self._topology.queue_name(name), passive=True).method
                    found[name] = (method.message_count, method.consumer_count)
            return not alone or all(consumers == 0 for _, consumers in found.values())

        until("nobody consumes", look, 30, lambda: found)
        return {name: ready for name, (ready, _) in found.items()}

    def _declare(self) -> None:
        """The namespace as a worker declares it, and the subscriber's queue."""
        with self._channel() as channel:
            for exchange in self._topology.exchanges():
                channel.exchange_declare(exchange.name, exchange.type, durable=True)
            for name, queue in self._topology.queues().items():
                channel.queue_declare(queue.name, durable=True, arguments=self._topology.queue_arguments(name))
                channel.queue_bind(queue.name, queue.exchange.name, queue.routing_key)
            channel.queue_declare(self._told_queue, durable=True, arguments={"x-queue-type": "quorum"})
            channel.queue_bind(self._told_queue, self._topology.exchange_name(Exchange.OUTCOMES), "outcome.#")

    def _drain_told(self) -> set[tuple[str, str]]:
        told = set()
        with self._channel() as channel:
            for method, _, body in channel.consume(self._told_queue, auto_ack=True, inactivity_timeout=0.3):
                if method is None:
                    break
                event = json.loads(body)
                told.add((event["job_id"], event["event"]))
        return told

    @contextmanager
    def _channel(self) -> Iterator[Any]:
        places = [pika.URLParameters(url) for url in self._brokers]
        for place in places:
            place.socket_timeout = 10
        connection = pika.BlockingConnection(places)
        try:
            yield connection.channel()
        finally:
            connection.close()

    def close(self) -> None:
        super().close()
        with suppress(pika.exceptions.AMQPError), self._channel() as channel:
            for queue in self._topology.queues().values():
                channel.queue_delete(queue.name)
            channel.queue_delete(self._told_queue)
            for exchange in self._topology.exchanges():
                channel.exchange_delete(exchange.name)


@contextmanager
def database(server_url: str, name: str, tablespace: str = "pg_default") -> Iterator[str]:
    """An empty database on the server, dropped afterwards; its URL."""
    create = sql.SQL("CREATE DATABASE {} TABLESPACE {}").format(sql.Identifier(name), sql.Identifier(tablespace))
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(create)
    try:
        yield server_url.removesuffix("postgres") + name
    finally:
        # A scenario that failed may have left the server dead: then there is nothing to clear away.
        with suppress(psycopg.OperationalError), psycopg.connect(server_url, autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
