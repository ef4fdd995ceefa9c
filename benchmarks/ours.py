"""This pipeline as it is run on a server: six worker processes, jobs pushed by its own producer."""

import json
import secrets
import sys
import time
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from subprocess import Popen

import psycopg
from kombu.connection import Connection
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.course import ACTION, BenchError, Course, Round, Step, plain_environment, running, wait_until
from pipeline.broker.port import Exchange
from pipeline.broker.producer import Producer
from pipeline.broker.topology import Topology
from pipeline.channels.asic_profile import SERVICE
from pipeline.ledger import migrate
from pipeline.sandbox.home import APPLIES_TO, synthetic_abn
from tests.services.processes import free_port
from workers.process import Worker

_LODGE = str(Path(sys.executable).with_name("lodge"))
_ROOT = Path(__file__).resolve().parents[1]


class Pipeline:
    """`extra` names workers that get a second process, or a third."""

    def __init__(self, course: Course, extra: Sequence[Worker] = ()) -> None:
        self._course = course
        self._workers = [*Worker, *extra]
        self._topology = Topology(course.servers.namespace)
        self._settings = course.folder / "lodge.toml"
        self._pushed = 0
        self._rounds = 0
        self._write_settings()
        migrate.upgrade(course.servers.database_url)

    @property
    def name(self) -> str:
        return "pipeline"

    def run(self, lodgments: int, warm_up: int) -> Round:
        self._rounds += 1
        with ExitStack() as stack:
            ports = {f"{number} {worker}": free_port() for number, worker in enumerate(self._workers, start=1)}
            processes = {name: stack.enter_context(self._worker(name, port)) for name, port in ports.items()}
            for name, process in processes.items():
                self._await(name, process, ports[name])
            producer = stack.enter_context(Producer([self._course.servers.broker_url], self._topology.namespace))
            outcomes = _Outcomes(stack.enter_context(Connection(self._course.servers.broker_url)), self._topology)
            self._lodge(producer, outcomes, warm_up)
            # The request for a token is part of what is measured.
            self._execute("DELETE FROM security_token")
            self._course.seen()
            before = _steps(ports.values())
            own = time.process_time()
            watch = self._course.watch({name: process.pid for name, process in processes.items()})
            seconds, published_in = self._lodge(producer, outcomes, lodgments)
            used = {**watch.read(), "producer": round(time.process_time() - own, 2)}
            after = _steps(ports.values())
            self._see_promises_kept(lodgments)
        return Round(self.name, lodgments, seconds, published_in, used, _between(before, after))

    def _worker(self, name: str, port: int) -> AbstractContextManager[Popen[bytes]]:
        command = [_LODGE, "worker", name.split()[1], "--metrics-port", str(port)]
        environment = {**plain_environment(), "LODGE_SETTINGS_FILE": str(self._settings)}
        return running(command, self._course.logs / f"{name.replace(' ', '-')}.log", environment, _ROOT)

    def _await(self, name: str, process: Popen[bytes], port: int) -> None:
        def ready() -> bool:
            if process.poll() is not None:
                raise BenchError(f"{name} did not start; its output is in {self._course.logs}")
            return _scrape(port) is not None

        wait_until(f"the start of {name}", ready)

    def _lodge(self, producer: Producer, outcomes: "_Outcomes", count: int) -> tuple[float, float]:
        """Seconds until every outcome was in the ledger and published, and until the last job was confirmed."""
        outcomes.forget()
        started = time.perf_counter()
        producer.push_many(self._jobs(count))
        published = time.perf_counter()
        ended = wait_until(f"{count} outcomes", lambda: outcomes.count() >= count)
        return ended - started, published - started

    def _jobs(self, count: int) -> Iterator[bytes]:
        for _ in range(count):
            self._pushed += 1
            job = {
                "version": 1,
                "job_id": f"benchmark-{self._pushed}",
                "channel": "asic_bn",
                "service": SERVICE,
                "action": ACTION,
                # A share is each sender's: with one for all rounds, the later ones would wait for turns.
                "sender": {"id": f"SYNTHETIC-AGENT-{self._rounds}", "type": "REGA"},
                "employer": {"abn": synthetic_abn(self._pushed % 10_000)},
                "payload": {"inline": self._course.payload},
            }
            yield json.dumps(job).encode()

    def _see_promises_kept(self, lodgments: int) -> None:
        """Every lodgment final, claimed and attempted once, its documents and events stored, sent exactly once.

        Raises:
            BenchError: the figure would not be worth having.
        """
        total = self._pushed
        kept = {
            "lodgment WHERE state = 'accepted'": total,
            "lodgment": total,
            "attempt WHERE number = 1 AND finished_at IS NOT NULL": total,
            "attempt": total,
            "artifact": 3 * total,
            "message_event": total,
        }
        for what, wanted in kept.items():
            found = self._execute(f"SELECT count(*) FROM {what}")  # noqa: S608  - from the table above
            if found != wanted:
                raise BenchError(f"{what}: {found} rows, not {wanted}")
        seen = self._course.seen()
        if seen != {"requests": lodgments, "references": lodgments}:
            raise BenchError(f"the agency saw {seen} for {lodgments} lodgments")

    def _execute(self, statement: str) -> int | None:
        with psycopg.connect(self._course.servers.database_url, autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            row = cursor.fetchone() if cursor.description else None
        return None if row is None else int(row[0])

    def _write_settings(self) -> None:
        course = self._course
        master_key = course.folder / "master.key"
        master_key.touch(0o600)
        master_key.write_bytes(b64encode(secrets.token_bytes(32)))
        settings: dict[str, object] = {
            "environment": "benchmark",
            "ledger_url": course.servers.database_url,
            "broker_urls": [course.servers.broker_url],
            "namespace": course.servers.namespace,
            "master_key_file": str(master_key),
            "log_format": "json",
        }
        environment: dict[str, object] = {
            "agency_url": course.agency_url,
            "sts_url": course.sts_url,
            "applies_to": APPLIES_TO,
            "ca_file": str(course.home.ca_file),
            "keystore": str(course.home.keystore_file),
            "keystore_password_file": str(course.home.keystore_password_file),
            "credential": course.home.credential().id,
        }
        lines = [*_toml(settings), "[environments.benchmark]", *_toml(environment)]
        self._settings.write_text("\n".join(lines) + "\n")


class _Outcomes:
    """A subscriber's queue for outcome events; only counted, the events go with it."""

    def __init__(self, connection: Connection, topology: Topology) -> None:
        self._channel = connection.channel()
        self._queue = self._channel.queue_declare(exclusive=True).queue
        self._channel.queue_bind(self._queue, topology.exchange_name(Exchange.OUTCOMES), "outcome.#")

    def forget(self) -> None:
        self._channel.queue_purge(self._queue)

    def count(self) -> int:
        return int(self._channel.queue_declare(self._queue, passive=True).message_count)


def _toml(values: Mapping[str, object]) -> list[str]:
    return [f"{name} = {json.dumps(value)}" for name, value in values.items()]


def _scrape(port: int) -> str | None:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            text: str = answer.read().decode()
    except urllib.error.URLError:
        return None
    return text


def _steps(ports: Iterable[int]) -> dict[str, Step]:
    """What the workers say, by step; processes with the same step are added up."""
    sums: dict[tuple[str, str], float] = {}
    for port in ports:
        for family in text_string_to_metric_families(_scrape(port) or ""):
            for sample in family.samples:
                if "step" in sample.labels:
                    key = sample.labels["step"], sample.name
                    sums[key] = sums.get(key, 0) + sample.value
    return {
        step: Step(
            int(sums.get((step, "lodge_batch_seconds_count"), 0)),
            int(sums.get((step, "lodge_settled_total"), 0)),
            sums.get((step, "lodge_batch_seconds_sum"), 0),
        )
        for step, _ in sums
    }


def _between(before: Mapping[str, Step], after: Mapping[str, Step]) -> dict[str, Step]:
    nothing = Step(0, 0, 0)
    return {
        name: Step(
            now.batches - before.get(name, nothing).batches,
            now.settled - before.get(name, nothing).settled,
            round(now.seconds - before.get(name, nothing).seconds, 2),
        )
        for name, now in after.items()
    }
