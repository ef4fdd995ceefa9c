"""Many employers, a token for each, and a token service that is slow and fails: what it was asked, by its own record.

python -m tests.acceptance.token_load --lodgments 50000 --employers 5000
"""

import argparse
import os
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import psycopg
from psycopg import sql

from pipeline.broker.producer import Producer
from pipeline.broker.topology import Topology
from pipeline.lodgment.software_id import control_digit
from pipeline.sandbox.home import synthetic_abn
from tests.conftest import AMQP, DATABASE, delete_topology
from tests.doubles.jobs import document, job
from tests.services.pipeline_processes import Servers, Site, until
from tests.services.postgres import PrivatePostgres
from tests.services.processes import Service
from tests.services.rabbitmq import PrivateRabbit

_OTHERS = ("intake", "signer", "transport", "outcome", "scheduler")


@dataclass(frozen=True, slots=True)
class Load:
    """What to lodge, and the trouble. `rate` and `concurrency` are the budget towards the token service."""

    lodgments: int
    employers: int
    token_workers: int = 4
    latency: float = 1.0
    fault_rate: float = 0.1
    rate: float = 50.0
    concurrency: int = 64
    token_requests: int = 16

    def jobs(self) -> Sequence[bytes]:
        return [
            job(
                f"load-{number:06d}",
                employer={"abn": synthetic_abn(number % self.employers)},
                software_product=PRODUCT,
                payload={"inline": document(name=f"Synthetic {number}")},
            )
            for number in range(self.lodgments)
        ]

    def software_ids(self) -> str:
        """What `lodge software-ids import` takes."""
        rows = (f"{PRODUCT},{synthetic_abn(n)},{software_id(n)}" for n in range(self.employers))
        return "\n".join(("product,abn,software_id", *rows))

    def settings(self) -> dict[str, str]:
        return {
            "LODGE_ENVIRONMENTS__LOCAL__ACT_AS_EMPLOYER": "true",
            # A busy machine must not make time-outs of a service that is only slow.
            "LODGE_ENVIRONMENTS__LOCAL__STS_TIMEOUT": "PT30S",
            "LODGE_STS_RATE": str(self.rate),
            "LODGE_STS_CONCURRENCY": str(self.concurrency),
            "LODGE_TOKEN_REQUESTS": str(self.token_requests),
            "LODGE_STUCK_AFTER": "PT30M",
        }


PRODUCT = "Synthetic Pay"
_RENEWED_AFTER = 600
"""Seconds in which nobody may ask again: a token lives 30 min, and half of its useful life passes at least."""


def software_id(employer: int) -> str:
    nine = f"{100_000_000 + employer}"
    return nine + control_digit(nine)


class Run:
    """The processes of one load, and what they did."""

    def __init__(self, site: Site, servers: Servers, load: Load) -> None:
        self.site = site
        self.load = load
        self._servers = servers
        self.token_workers: list[Service] = []
        site.environment.update(load.settings())
        site.start_sandbox()
        site.script(service="sts", latency=load.latency, fault_rate=load.fault_rate, seed=1)

    def start(self) -> None:
        ids = self.site.folder / "software-ids.csv"
        ids.write_text(self.load.software_ids())
        self.site.run_command("software-ids", "import", str(ids))
        launched = [self.site.launch_worker(name) for name in _OTHERS]
        self.token_workers = [self.site.launch_worker("token") for _ in range(self.load.token_workers)]
        for worker in (*launched, *self.token_workers):
            worker.await_ready()

    def push(self) -> None:
        with Producer([self._servers.broker_url], self._servers.namespace) as producer:
            producer.push_many(self.load.jobs())

    def final(self) -> int:
        return int(self.site.query("SELECT count(*) FROM lodgment WHERE finished_at IS NOT NULL")[0][0])

    def states(self) -> dict[str, int]:
        found = self.site.query("SELECT state, coalesce(reason_code, ''), count(*) FROM lodgment GROUP BY 1, 2")
        return {f"{state} {code}".strip(): number for state, code, number in found}

    def await_final(self, patience: float) -> None:
        until("all are final", lambda: self.final() == self.load.lodgments, patience, self.states)

    def check(self) -> dict[str, object]:
        """The promises, by the token service's and the agency's own records; the figures."""
        load, (total, parties) = self.load, self.site.asked()
        assert self.states() == {"accepted": load.lodgments}
        assert {line["processed"] for line in self.site.book()} == {1}
        assert len({(one["second_party"], one["software_id"]) for one in parties}) == load.employers == len(parties)
        assert {one["most_at_once"] for one in parties} == {1}, "two requests for one key were under way"
        again = [one["soonest_again"] for one in parties if one["soonest_again"] is not None]
        assert all(seconds >= _RENEWED_AFTER for seconds in again), "a good token was asked for again"
        assert total["most_at_once"] <= load.concurrency
        # A full second's allowance may be followed by a second of refill.
        assert total["most_in_a_second"] <= 2 * load.rate + 1
        return {
            **total,
            "keys renewed meanwhile": sum(one["issued"] > 1 for one in parties),
            "the soonest after, s": min(again, default=None),
            "requests per key": dict(sorted(Counter(one["requests"] for one in parties).items())),
            "peak memory of the token workers, MB": [worker.peak_memory() // 2**20 for worker in self.token_workers],
        }


def main() -> None:
    """Exit code 0 and the figures if every promise was kept; else the assertion that was not."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lodgments", type=int, default=50_000)
    parser.add_argument("--employers", type=int, default=5_000)
    parser.add_argument("--token-workers", type=int, default=4)
    parser.add_argument("--latency", type=float, default=1.0)
    parser.add_argument("--fault-rate", type=float, default=0.1)
    parser.add_argument("--rate", type=float, default=50.0)
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--patience", type=float, default=3600.0, help="seconds")
    given = parser.parse_args()
    load = Load(
        lodgments=given.lodgments,
        employers=given.employers,
        token_workers=given.token_workers,
        latency=given.latency,
        fault_rate=given.fault_rate,
        rate=given.rate,
        concurrency=given.concurrency,
    )
    folder = Path(tempfile.mkdtemp(prefix="lodge-token-load-"))
    _say(f"{load}; logs in {folder}")
    with ExitStack() as stack:
        servers = _servers(stack)
        site = Site(folder, servers, agency_timeout=30)
        stack.callback(site.close)
        run = Run(site, servers, load)
        run.start()
        started = time.monotonic()
        run.push()
        _say(f"{time.monotonic() - started:.0f} s: pushed")
        deadline = started + given.patience
        while run.final() < load.lodgments and time.monotonic() < deadline:
            total, parties = site.asked()
            issued = sum(one["issued"] for one in parties)
            _say(
                f"{time.monotonic() - started:.0f} s: {run.final()} final, {issued} tokens of {total['requests']} asked"
            )
            time.sleep(15)
        run.await_final(1)
        _say(f"{time.monotonic() - started:.0f} s: all final")
        for name, figure in run.check().items():
            _say(f"{name}: {figure}")


def _servers(stack: ExitStack) -> Servers:
    """Those that the environment names, else private ones."""
    broker, server = os.environ.get(AMQP), os.environ.get(DATABASE)
    if broker is None or server is None:
        rabbit, postgres = PrivateRabbit(), PrivatePostgres()
        for one in (rabbit, postgres):
            stack.callback(one.stop)
            one.start()
        broker, server = rabbit.url, postgres.url
    name = f"load_{uuid4().hex[:12]}"
    for statement, at in (("CREATE DATABASE {}", "now"), ("DROP DATABASE {} WITH (FORCE)", "end")):
        command = sql.SQL(statement).format(sql.Identifier(name))
        if at == "now":
            _execute(server, command)
        else:
            stack.callback(_execute, server, command)
    stack.callback(delete_topology, broker, Topology(name))
    return Servers(broker, urlsplit(server)._replace(path=f"/{name}").geturl(), name)


def _execute(server: str, command: sql.Composed) -> None:
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(command)


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201  - a command's output


if __name__ == "__main__":
    main()
