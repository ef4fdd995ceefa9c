"""The pipeline as an operator runs it: a process for each worker, one for the sandbox agencies, settings in a file."""

import json
import os
import signal
import sqlite3
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from pipeline.ledger import migrate
from pipeline.sandbox.sts import STS_PATH
from tests.services import nursery
from tests.services.master_key import write_master_key
from tests.services.processes import Service, free_port
from tests.services.sandbox_home import new_home

LODGE = str(Path(sys.executable).parent / "lodge")
WORKERS = ("intake", "token", "signer", "transport", "outcome", "scheduler")


@dataclass(frozen=True, slots=True)
class Servers:
    """Where the server profile's broker and ledger are."""

    broker_url: str
    ledger_url: str
    namespace: str


class Site:
    """A folder with settings, logs and a sandbox, and the processes that run there; `close` kills every one of them.

    Without `servers` it is the embedded profile. `agency_timeout` in seconds: a lease lasts twice that and 15 more.
    """

    def __init__(self, folder: Path, servers: Servers | None = None, *, agency_timeout: float = 4) -> None:
        self.folder = folder
        self._servers = servers
        self._home = new_home(folder / "sandbox")
        self._port = free_port()
        self.url = f"https://localhost:{self._port}"
        self._settings = folder / "lodge.toml"
        self._settings.write_text("\n".join(self._described(agency_timeout)))
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("LODGE_")},
            "LODGE_SETTINGS_FILE": str(self._settings),
        }
        self._started: list[tuple[str, Service]] = []
        self._ended: list[Service] = []
        migrate.upgrade(servers.ledger_url if servers is not None else f"sqlite:///{folder / 'ledger.sqlite3'}")

    def _described(self, agency_timeout: float) -> Iterator[str]:
        yield 'environment = "local"'
        yield f'home = "{self.folder}"'
        yield 'log_format = "json"'
        yield 'stuck_after = "PT5S"'
        if self._servers is not None:
            yield f'broker_urls = ["{self._servers.broker_url}"]'
            yield f'ledger_url = "{self._servers.ledger_url}"'
            yield f'namespace = "{self._servers.namespace}"'
            yield f'master_key_file = "{write_master_key(self.folder / "master.key")}"'
        yield "[environments.local]"
        yield f'agency_url = "{self.url}"'
        yield f'sts_url = "{self.url}{STS_PATH}"'
        yield f'applies_to = "{self._home.applies_to}"'
        yield f'ca_file = "{self._home.ca_file}"'
        yield f'keystore = "{self._home.keystore_file}"'
        yield f'keystore_password_file = "{self._home.keystore_password_file}"'
        yield f'credential = "{self._home.credential().id}"'
        yield f'agency_timeout = "PT{agency_timeout}S"'
        yield 'sts_timeout = "PT4S"'
        yield 'retry_first = "PT0.5S"'
        yield 'poll_first = "PT1S"'
        yield 'unavailable_first = "PT1S"'
        # Troubles are scripted for single lodgments here, many of them in a row: the agency is not down.
        yield "[[environments.local.policies]]"
        yield 'channel = "asic_bn"'
        yield "breaker_failures = 1000"
        yield "breaker_ratio = 1.0"
        yield "breaker_ratio_least = 1000"

    def set(self, **settings: str) -> None:
        """For processes that start from now on, over what the file says."""
        self.environment.update({f"LODGE_{name.upper()}": value for name, value in settings.items()})

    def start(self, *arguments: str, ready: str) -> Service:
        """A `lodge` process, once its log says `ready`."""
        service = self._launch(arguments, "log", ready)
        service.await_ready()
        return service

    def start_sandbox(self) -> None:
        self.start("sandbox", "serve", "--port", str(self._port), ready="sandbox.started")

    def start_worker(self, name: str) -> Service:
        service = self.launch_worker(name)
        service.await_ready()
        return service

    def launch_worker(self, name: str) -> Service:
        """Started and not awaited: what it needs may come later."""
        return self._launch(("worker", name), "log", "worker.started")

    def launch_command(self, *arguments: str) -> Service:
        """A command that prints for people, and ends."""
        service = self._launch(arguments, "out", "")
        self._ended.append(service)
        return service

    def run_command(self, *arguments: str) -> None:
        """A command that must do what it is asked to."""
        subprocess.run([LODGE, *arguments], env=self.environment, check=True, capture_output=True, timeout=120)

    def _launch(self, arguments: Sequence[str], kind: str, ready: str) -> Service:
        name = "-".join(arguments[:2]) if kind == "log" else arguments[0]
        log = self.folder / f"{len(self._started):03d}-{name}.{kind}"
        service = self._process(name, arguments, log, lambda: ready in log.read_text())
        self._started.append((name, service))
        service.launch()
        return service

    def _process(self, name: str, arguments: Sequence[str], log: Path, ready: Callable[[], bool]) -> Service:
        return Service(name, [LODGE, *arguments], log, ready, self.environment)

    def kill(self, service: Service) -> None:
        """SIGKILL."""
        self._ended.append(service)
        service.kill()

    def stop(self, service: Service) -> int | None:
        """SIGTERM; the exit code, or None if it has not ended within half a minute."""
        self._ended.append(service)
        service.tell(signal.SIGTERM)
        return service.left(within=30)

    def close(self) -> None:
        for _, service in self._started:
            service.kill()

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """Ask the ledger, in the SQL of both databases."""
        if self._servers is None:
            with closing(sqlite3.connect(self.folder / "ledger.sqlite3", timeout=30)) as connection:
                return connection.execute(sql).fetchall()
        with psycopg.connect(self._servers.ledger_url, connect_timeout=10) as connection:
            return connection.execute(sql.encode()).fetchall()

    def states(self) -> dict[str, str]:
        """Each lodgment's state, by job id."""
        return dict(self.query("SELECT job_id, state FROM lodgment_outcome"))

    def book(self) -> list[dict[str, Any]]:
        """The agency's own word: how often it saw and processed each reference. In pages: exact when all is calm."""
        return self._ask_sandbox("book")

    def asked(self) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """The token service's own word: what it was asked in all, and for each party."""
        [total, *parties] = self._ask_sandbox("sts")
        return total, parties

    def script(self, **trouble: object) -> None:
        """Put a service of the sandbox in trouble, or out of it."""
        self._ask_sandbox("script", json.dumps(trouble).encode())

    def _ask_sandbox(self, door: str, body: bytes | None = None) -> list[dict[str, Any]]:
        context = ssl.create_default_context(cafile=self._home.ca_file)
        with urllib.request.urlopen(f"{self.url}/sandbox/{door}", body, timeout=30, context=context) as reply:  # noqa: S310
            return [json.loads(line) for line in reply]

    def surprises(self) -> list[str]:
        """Processes that ended by themselves, and whatever is in a log that no trouble outside explains."""
        ended = [
            f"{name} ended by itself with {service.left()}"
            for name, service in self._started
            if service.left() is not None and service not in self._ended
        ]
        # The sandbox's log tells of clients that were killed while it answered.
        logs = [log for log in sorted(self.folder.glob("*.log")) if "sandbox" not in log.name]
        return ended + [f"{log.name}: {line}" for log in logs for line in _odd_lines(log)]


class ForkedSite(Site):
    """A site whose processes are forked from one that has loaded the program: for tests, where starts are the most of
    the work.
    """

    def run_command(self, *arguments: str) -> None:
        left = nursery.run_command(arguments, self.folder, self.environment)
        assert left.code == 0, left.err.decode()

    def _process(self, name: str, arguments: Sequence[str], log: Path, ready: Callable[[], bool]) -> Service:
        return nursery.Nursling(name, arguments, log, ready, dict(self.environment))


def _odd_lines(log: Path) -> list[str]:
    """Errors, and what is not a log event at all: a traceback, a warning of Python's."""
    odd = []
    for line in log.read_text().splitlines():
        try:
            level = json.loads(line)["level"]
        except (ValueError, KeyError, TypeError):
            level = "none"
        if level not in {"debug", "info", "warning"}:
            odd.append(line[:2000])
    return odd


def until(
    what: str, holds: Callable[[], bool], seconds: float = 60, instead: Callable[[], object] = lambda: ""
) -> None:
    """Look until it holds.

    Raises:
        AssertionError: it did not within `seconds`; says what is the case `instead`.
    """
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}; {instead()}"
        time.sleep(0.1)
