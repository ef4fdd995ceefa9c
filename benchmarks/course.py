"""What every contestant is given, and what it brings back."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from ssl import create_default_context
from typing import Protocol

from benchmarks.cpu import cpu_seconds, listener
from benchmarks.servers import Servers
from pipeline.channels.asic_profile import SERVICE, business_names
from pipeline.sandbox.home import Home

ACTION = "bnLodgeApplication"
PATIENCE = 300.0
"""Seconds until a round counts as stuck."""
_PAYEES = 215
_STOPPING = 60.0


class BenchError(RuntimeError):
    """The benchmark could not be run, or a contestant did not do its work."""


@dataclass(frozen=True, slots=True)
class Step:
    """What one step's worker says about itself: batches handled, deliveries settled, seconds in hand."""

    batches: int
    settled: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Round:
    """One contestant's run over `lodgments`, from the first publish to the last outcome; `cpu` is in seconds."""

    contestant: str
    lodgments: int
    seconds: float
    published_in: float
    cpu: Mapping[str, float]
    steps: Mapping[str, Step]

    @property
    def rate(self) -> float:
        return self.lodgments / self.seconds


class Contestant(Protocol):
    """A pipeline to be measured."""

    @property
    def name(self) -> str: ...

    def run(self, lodgments: int, warm_up: int) -> Round: ...


@dataclass(frozen=True, slots=True)
class Course:
    """The same for all: servers, agency, document. `folder` is for settings and keys, `logs` is kept."""

    servers: Servers
    home: Home
    agency_pid: int
    agency_url: str
    sts_url: str
    payload: str
    folder: Path
    logs: Path

    def seen(self) -> Mapping[str, int]:
        """How many requests and different references the agency saw since the last call."""
        trusted = create_default_context(cafile=str(self.home.ca_file))
        with urllib.request.urlopen(f"{self.agency_url}/seen", context=trusted, timeout=10) as answer:  # noqa: S310  - ours
            seen: dict[str, int] = json.load(answer)
        return seen

    def watch(self, own: Mapping[str, int]) -> "Watch":
        """A clock on `own` processes, by name, and on everybody else's that take part."""
        pids = {**own, "agency": self.agency_pid}
        for name, port in (("RabbitMQ", self.servers.broker_port), ("PostgreSQL", self.servers.database_port)):
            pid = listener(port)
            if pid is not None:
                pids[name] = pid
        return Watch(pids)


class Watch:
    """CPU seconds of processes since it was made."""

    def __init__(self, pids: Mapping[str, int]) -> None:
        self._pids = pids
        self._before = self._now()

    def read(self) -> dict[str, float]:
        return {name: round(used - self._before[name], 2) for name, used in self._now().items()}

    def _now(self) -> dict[str, float]:
        return {name: cpu_seconds(pid) for name, pid in self._pids.items()}


def payload(count: int = _PAYEES) -> str:
    """Synthetic XML, the `businessDocumentBody` that the ASIC channel expects: about 19 KB, or 87 bytes a payee."""
    payees = "".join(
        f'<payee id="{i}"><name>Employee {i}</name><gross>{i * 13.5:.2f}</gross><tax>{i * 3.1:.2f}</tax></payee>'
        for i in range(count)
    )
    namespace = business_names()[SERVICE, ACTION].namespace
    return f'<businessDocumentBody xmlns="{namespace}">{payees}</businessDocumentBody>'


@contextmanager
def running(
    command: Sequence[str], log: Path, environment: Mapping[str, str], folder: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """A process with its output in `log`; told to stop at the end, and expected to have gone in peace.

    Raises:
        BenchError: it ended by itself, in anger, or not at all.
    """
    with log.open("ab") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=dict(environment), cwd=folder
        )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            status = process.wait(_STOPPING)
        except subprocess.TimeoutExpired:
            process.kill()
            status = process.wait()
    if status != 0:
        raise BenchError(f"a process ended with {status}; its output is in {log}")


@contextmanager
def agency(home: Home, log: Path) -> Iterator[tuple[int, str, str]]:
    """The stub and the token service: process id, the agency's URL, the token service's."""
    command = [sys.executable, "-m", "benchmarks.agency", str(home.path)]
    with log.open("ab") as output:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=output)
    try:
        assert process.stdout is not None  # noqa: S101  - it is piped
        first = process.stdout.readline()
        if not first:
            raise BenchError(f"the agency did not start; its output is in {log}")
        urls = json.loads(first)
        yield process.pid, urls["agency"], urls["sts"]
    finally:
        process.terminate()
        process.wait(_STOPPING)


def plain_environment() -> dict[str, str]:
    """This process's environment without settings of ours: a contestant is set up by the benchmark alone."""
    return {name: value for name, value in os.environ.items() if not name.startswith("LODGE_")}


def wait_until(what: str, ready: "Probe") -> float:
    """The moment at which `ready` answered yes, asked every 50 ms.

    Raises:
        BenchError: it did not in `PATIENCE`.
    """
    deadline = time.perf_counter() + PATIENCE
    while not ready():
        if time.perf_counter() > deadline:
            raise BenchError(f"{what}: not within {PATIENCE:g} s")
        time.sleep(0.05)
    return time.perf_counter()


class Probe(Protocol):
    def __call__(self) -> bool: ...
