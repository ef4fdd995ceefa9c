"""Four token workers, a token for each employer, and a token service that is slow, fails, or is away."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipeline.broker.topology import Topology
from tests.acceptance.token_load import Load, Run
from tests.services.pipeline_processes import Servers, Site, until

StartRun = Callable[[Load], Run]


@pytest.fixture
def start_run(tmp_path: Path, amqp_url: str, database_url: str, topology: Topology) -> Iterator[StartRun]:
    sites: list[Site] = []

    def start(load: Load) -> Run:
        servers = Servers(amqp_url, database_url, topology.namespace)
        site = Site(tmp_path, servers)
        sites.append(site)
        run = Run(site, servers, load)
        run.start()
        return run

    yield start
    for site in sites:
        print(*site.surprises(), sep="\n")  # noqa: T201  - pytest shows it with a failure
        site.close()


def test_four_workers_ask_once_for_each_employer_and_never_twice_at_a_time(start_run: StartRun) -> None:
    run = start_run(Load(lodgments=200, employers=40, latency=0.3, rate=20, concurrency=6))
    run.push()
    run.await_final(240)
    figures = run.check()
    assert figures["requests"] >= 40  # type: ignore[operator]  # JSON
    assert run.site.surprises() == []


def test_while_the_service_is_away_one_probe_asks_and_afterwards_all_go_on(start_run: StartRun) -> None:
    run = start_run(Load(lodgments=120, employers=40, latency=0.0, fault_rate=0.0))
    run.site.script(service="sts", outage=True)
    run.push()
    until("the breaker is open", lambda: breaker(run) == "open", 120, run.states)
    until("all wait", lambda: run.states() == {"parked token.requested": 120}, 120, run.states)
    asked = run.site.asked()[0]["requests"]
    until("it was probed", lambda: run.site.asked()[0]["requests"] > asked, 60)
    assert run.site.asked()[0]["requests"] <= asked + 2
    run.site.script(service="sts")
    run.await_final(240)
    assert run.states() == {"accepted": 120}
    assert run.site.query("SELECT max(failures) FROM lodgment") == [(0,)]
    assert breaker(run) in {"closed", "ramping"}
    events = "\n".join(log.read_text() for log in run.site.folder.glob("*worker-token.log"))
    assert events.count('"event": "breaker.opened"') == 1
    assert "E1001" in next(line for line in events.splitlines() if "breaker.opened" in line)


def breaker(run: Run) -> str | None:
    found = run.site.query("SELECT state FROM channel_state WHERE scope = 'sts'")
    return str(found[0][0]) if found else None
