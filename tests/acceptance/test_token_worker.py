"""Four token workers, a token for each employer, and a token service that is slow, fails, or is away."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipeline.broker.topology import Topology
from tests.acceptance.token_load import Load, Run
from tests.services.pipeline_processes import ForkedSite, Servers, Site, until

StartRun = Callable[[Load], Run]


@pytest.fixture
def start_run(tmp_path: Path, amqp_url: str, database_url: str, topology: Topology) -> Iterator[StartRun]:
    sites: list[Site] = []

    def start(load: Load) -> Run:
        servers = Servers(amqp_url, database_url, topology.namespace)
        site = ForkedSite(tmp_path, servers)
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
    """Before it opens, it takes eight failures, and as many requests may be under way as the budget allows."""
    run = start_run(Load(lodgments=120, employers=40, latency=0.0, fault_rate=0.0, concurrency=8))
    run.site.script(service="sts", outage=True)
    run.push()
    until("the breaker is open and nothing is asked", lambda: at_rest(run), 120, run.states)
    until("all wait", lambda: run.states() == {"parked token.requested": 120}, 120, run.states)
    before = openings(run)
    until("it was probed three times more", lambda: openings(run) >= before + 3, 120)
    requests, probes = run.site.asked()[0]["requests"], openings(run) - 1
    assert requests <= 8 + 8 + probes + 1
    run.site.script(service="sts")
    run.await_final(240)
    assert run.states() == {"accepted": 120}
    assert run.site.query("SELECT max(failures) FROM lodgment") == [(0,)]
    events = "\n".join(log.read_text() for log in run.site.folder.glob("*worker-token.log"))
    assert events.count('"event": "breaker.opened"') == 1
    assert "E1001" in next(line for line in events.splitlines() if "breaker.opened" in line)


def at_rest(run: Run) -> bool:
    [(under_way,)] = run.site.query("SELECT count(*) FROM security_token WHERE lease_until IS NOT NULL")
    return run.site.query("SELECT state FROM channel_state WHERE scope = 'sts'") == [("open",)] and under_way == 0


def openings(run: Run) -> int:
    """Failed probes, and the first opening."""
    return int(run.site.query("SELECT openings FROM channel_state WHERE scope = 'sts'")[0][0])
