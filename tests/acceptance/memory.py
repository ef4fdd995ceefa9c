"""How much memory each worker needs for one large pay event: `python -m tests.acceptance.memory --help`.

Real processes on the RabbitMQ and the PostgreSQL of LODGE_TEST_AMQP_URL and LODGE_TEST_DATABASE_URL. A small event goes
first, so that everything is loaded; then each process's peak is set back, and the large one goes.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg

from pipeline.broker.topology import Topology
from pipeline.channels.stp_writing import Event, documents
from pipeline.ledger import migrate
from pipeline.sandbox.home import open_home
from pipeline.sandbox.pay_run import Employer, PayRun, event_documents
from tests.conftest import AMQP, DATABASE, delete_topology
from tests.services.master_key import write_master_key
from tests.services.pipeline_processes import LODGE, WORKERS, until
from tests.services.processes import Service, free_port

_PATIENCE = 600.0

Written = Callable[[PayRun], Iterator[bytes]]
"""Writes an event's documents."""


@dataclass(frozen=True, slots=True)
class Peak:
    """Of one process, in bytes: its peak when all was loaded, and while the large event went through."""

    before: int
    after: int

    @property
    def growth(self) -> int:
        return self.after - self.before


class Watched:
    """The six workers and the sandbox in processes of their own, and their peaks."""

    def __init__(self, folder: Path, broker_url: str, ledger_url: str, namespace: str, **more: object) -> None:
        """`more`: further settings."""
        self.folder = folder
        open_home(folder / "sandbox", datetime.now(UTC))
        migrate.upgrade(ledger_url)
        port = free_port()
        self.broker_url, self.ledger_url, self.namespace = broker_url, ledger_url, namespace
        settings = folder / "lodge.toml"
        described = {
            "home": str(folder),
            "broker_urls": [broker_url],
            "ledger_url": ledger_url,
            "namespace": namespace,
            "master_key_file": str(write_master_key(folder / "master.key")),
            "sandbox_url": f"https://localhost:{port}",
            "payload_roots": [str(folder)],
            "log_format": "json",
            **more,
        }
        settings.write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in described.items()))
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("LODGE_")},
            "LODGE_SETTINGS_FILE": str(settings),
        }
        self._processes: dict[str, Service] = {}
        self._launch("sandbox", ("sandbox", "serve", "--port", str(port)), "sandbox.started")
        for name in WORKERS:
            self._launch(name, ("worker", name), "worker.started")
        for one in self._processes.values():
            one.await_ready()

    def _launch(self, name: str, arguments: tuple[str, ...], ready: str) -> None:
        log = self.folder / f"{name}.log"
        service = Service(name, [LODGE, *arguments], log, lambda: ready in log.read_text(), self.environment)
        self._processes[name] = service
        service.launch()

    def close(self) -> None:
        for one in self._processes.values():
            one.kill()

    def lodge(self, *arguments: str) -> None:
        subprocess.run([LODGE, *arguments], env=self.environment, check=True, capture_output=True, timeout=_PATIENCE)

    def lodge_event(self, number: int, payees: int, number_accepted: int, written: Written) -> int:
        """Lodge an employer's event of so many payees, and wait until so many in all are accepted; its size."""
        run = PayRun(Employer(number, payees), f"SYN-{number}", datetime.now(UTC), full=True)
        path = self.folder / f"event-{number}.xml"
        with path.open("wb") as file:
            file.writelines(written(run))
        ids = self.folder / f"ids-{number}.csv"
        ids.write_text(f"abn,software_id\n{run.employer.abn},{run.employer.software_id}\n")
        self.lodge("software-ids", "import", str(ids))
        self.lodge("submit", str(path))
        until(f"{number_accepted} accepted", lambda: self._accepted() == number_accepted, _PATIENCE, self._states)
        return path.stat().st_size

    def peaks(self) -> Mapping[str, int]:
        return {name: one.peak_memory() for name, one in self._processes.items()}

    def forget_peaks(self) -> None:
        for one in self._processes.values():
            one.forget_peak_memory()

    def payload_size(self) -> int:
        """Bytes of the largest payload as it is sealed and sent."""
        (found,) = self.query("SELECT max(size) FROM artifact WHERE kind = 'payload'")
        return int(str(found[0]))

    def _accepted(self) -> int:
        return sum(state == "accepted" for (state,) in self._states())

    def _states(self) -> list[tuple[object, ...]]:
        return self.query("SELECT state FROM lodgment_outcome")

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """Ask the ledger."""
        with psycopg.connect(self.ledger_url, connect_timeout=10) as connection:
            return connection.execute(sql.encode()).fetchall()


def watched(stack: ExitStack, **more: object) -> Watched:
    """On a database and in a namespace of its own, which `stack` removes; `more` are settings."""
    try:
        broker_url, database_url = os.environ[AMQP], os.environ[DATABASE]
    except KeyError as error:
        raise SystemExit(f"{error.args[0]} must name a server to measure with") from None
    name = f"memory_{uuid4().hex[:12]}"
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    stack.callback(_drop, database_url, name)
    stack.callback(delete_topology, broker_url, Topology(name))
    ledger_url = database_url.rpartition("/")[0] + f"/{name}"
    folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="lodge-memory-"))
    found = Watched(Path(folder), broker_url, ledger_url, name, **more)
    stack.callback(found.close)
    return found


def _hard_to_compress(run: PayRun) -> Iterator[bytes]:
    """The event with made-up texts that no compression shortens much: real payees differ more than synthetic ones."""
    chance = random.Random(run.submission)  # noqa: S311  - repeatable, not a secret
    noisy = ("address_1", "address_2", "suburb", "other_given_name")
    event = Event(run.payer, run.employer.payees, {}, run.now)
    return documents(event, (one | {name: chance.randbytes(80).hex() for name in noisy} for one in run.payees()))


def _drop(database_url: str, name: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


def measure(payees: int, *, ordinary: bool = False) -> tuple[int, int, Mapping[str, Peak]]:
    """Bytes of the large event as it came and as it is sent, and each process's peaks."""
    written = event_documents if ordinary else _hard_to_compress
    with ExitStack() as stack:
        site = watched(stack)
        site.lodge_event(1, 20, 1, written)
        site.forget_peaks()
        before = site.peaks()
        size = site.lodge_event(2, payees, 2, written)
        after = site.peaks()
        return size, site.payload_size(), {name: Peak(before[name], after[name]) for name in before}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--payees", type=int, default=20_000)
    parser.add_argument("--most", type=float, help="end with an error when a worker grew by more times what is sent")
    parser.add_argument("--ordinary", action="store_true", help="texts like those of the sandbox, which compress well")
    asked = parser.parse_args()
    size, sent, peaks = measure(asked.payees, ordinary=asked.ordinary)
    sys.stdout.write(f"{size / 1e6:.1f} MB as it came, {sent / 1e6:.1f} MB as it is sent\n")
    for name, peak in peaks.items():
        sys.stdout.write(
            f"{name:10} {peak.before / 1e6:7.1f} MB, then {peak.after / 1e6:7.1f} MB: {peak.growth / 1e6:6.1f} MB more,"
            f" {peak.growth / sent:5.1f} times what is sent\n"
        )
    if asked.most is not None and max(peaks[name].growth for name in WORKERS) > asked.most * sent:
        sys.exit(f"a worker grew by more than {asked.most:g} times what is sent")


if __name__ == "__main__":
    main()
