"""What a replay does to live work: `python -m tests.acceptance.replay_pace --help`.

Live jobs are pushed at a constant rate, whatever becomes of them, and timed from the moment at which each was to be
pushed until its outcome is in the ledger. A replay beside them is paused and resumed in turn, so that whatever else the
machine does meets both halves alike. Exit code 1 if the slowest hundredth takes more than a fifth longer beside it.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median

from pipeline.broker.producer import Producer
from tests.acceptance.havoc import Crew
from tests.doubles.jobs import document, job
from tests.services.pipeline_processes import LODGE, Servers, Site, until
from tests.services.postgres import PrivatePostgres
from tests.services.rabbitmq import PrivateRabbit

_PATIENCE = 1800.0
_ALLOWED = 1.2
_SWITCH = timedelta(seconds=2)
"""What was pushed so soon after pausing or resuming belongs to neither half."""


@dataclass(frozen=True, slots=True)
class Phase:
    """A time in which the replay ran, or in which it was paused; and how many of it ended meanwhile."""

    replaying: bool
    start: datetime
    end: datetime
    ended: int


class LiveLoad(threading.Thread):
    """Jobs at a constant rate until told to stop; late by nothing but the broker's confirm."""

    def __init__(self, servers: Servers, rate: float) -> None:
        super().__init__(daemon=True)
        self.planned: dict[str, datetime] = {}
        """When each was to be pushed."""
        self._servers = servers
        self._every = 1 / rate
        self._stopping = threading.Event()

    def run(self) -> None:
        begun, at = time.monotonic(), datetime.now(UTC)
        with Producer([self._servers.broker_url], self._servers.namespace) as producer:
            number = 0
            while not self._stopping.wait(max(0.0, begun + number * self._every - time.monotonic())):
                job_id = f"live-{number:06}"
                self.planned[job_id] = at + timedelta(seconds=number * self._every)
                producer.push(_job(job_id))
                number += 1

    def stop(self) -> None:
        self._stopping.set()
        self.join()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--live", type=float, default=10, help="live jobs a second")
    parser.add_argument("--lodgments", type=int, default=20_000, help="held lodgments in the replay")
    parser.add_argument("--rate", type=float, default=200, help="of the replay, lodgments a second at most")
    parser.add_argument("--seconds", type=float, default=60, help="of each half of a round")
    parser.add_argument("--rounds", type=int, default=5, help="without the replay, then beside it")
    parser.add_argument("--ungoverned", action="store_true", help="a control: the replay goes by its rate alone")
    arguments = parser.parse_args()
    with ExitStack() as stack:
        crew = _set_up(stack, ungoverned=arguments.ungoverned)
        started = time.monotonic()
        _hold(crew, arguments.lodgments)
        held = _count(crew, "state = 'held'")
        _say(f"{held} held after {time.monotonic() - started:.0f} s")
        load = LiveLoad(crew.servers, arguments.live)
        load.start()
        time.sleep(arguments.seconds)
        which = _begin(crew, arguments.rate)
        phases = []
        for _ in range(arguments.rounds):
            phases += [_phase(crew, which, arguments.seconds, replaying=one) for one in (False, True)]
        load.stop()
        took = _taken(crew, load)
    return _report(phases, load, took)


def _set_up(stack: ExitStack, *, ungoverned: bool) -> Crew:
    rabbit, postgres = PrivateRabbit(), PrivatePostgres()
    for server in (rabbit, postgres):
        stack.callback(server.stop)
        server.start()
    servers = Servers(rabbit.url, postgres.url, "replay-pace")
    # A sandbox that is slow for want of CPU is no agency that is down.
    site = Site(Path(tempfile.mkdtemp(prefix="lodge-replay-pace-")), servers, agency_timeout=60)
    stack.callback(site.close)
    # What waits in a queue is not lost here, and nothing else may be sent twice beside what is measured.
    site.environment["LODGE_STUCK_AFTER"] = "PT5M"
    if ungoverned:
        site.environment |= {"LODGE_REPLAY__SLOWER": "10", "LODGE_REPLAY__RAISE_BY": "1"}
    site.start_sandbox()
    crew = Crew(site, servers, rabbit, postgres)
    crew.start()
    return crew


def _hold(crew: Crew, size: int) -> None:
    """Lodgments that the agency refuses once: held, and good when they are replayed."""
    jobs = [_job(f"held-{number:06}", "invalid") for number in range(size)]
    with Producer([crew.servers.broker_url], crew.servers.namespace) as producer:
        producer.push_many(jobs)
    until("all have come to rest", lambda: _count(crew, "state IN ('held', 'accepted')") == size, _PATIENCE)


def _job(job_id: str, scenario: str | None = None) -> bytes:
    """Each of a sender of its own, so that none waits for its share."""
    body = document(scenario, name=f"Synthetic {job_id}")
    return job(job_id, sender={"id": job_id, "type": "REGA"}, payload={"inline": body})


def _begin(crew: Crew, rate: float) -> str:
    """Start a replay of all that is held, and pause it when its first stages are over."""
    said = _lodge(crew, "replay", "plan", "--where", "state=held", "--reason", "measured", "--json")
    which = str(json.loads(said)["replay"]["id"])
    _lodge(crew, "replay", "start", which, "--rate", str(rate))
    until("its first stages are over", lambda: _replay(crew)[0] == "running" and _replay(crew)[1] == 3, _PATIENCE)
    _lodge(crew, "replay", "pause", which)
    return which


def _phase(crew: Crew, which: str, seconds: float, *, replaying: bool) -> Phase:
    before = _replay(crew)[2]
    if replaying:
        _lodge(crew, "replay", "resume", which)
    start = datetime.now(UTC)
    time.sleep(seconds)
    end = datetime.now(UTC)
    state, _, ended, speed = _replay(crew)
    if replaying:
        assert state == "running", f"the replay is {state}: give it more --lodgments"
        _lodge(crew, "replay", "pause", which)
        until("what was on its way has ended", lambda: _count(crew, "state = 'sending'") < 100, _PATIENCE)
    what = f"replaying, {(ended - before) / seconds:.1f}/s, now up to {speed}" if replaying else "alone"
    _say(f"{what}: from {start:%H:%M:%S} to {end:%H:%M:%S}")
    return Phase(replaying, start, end, ended - before)


def _taken(crew: Crew, load: LiveLoad) -> dict[str, datetime]:
    """When each live lodgment had its outcome."""
    until(
        "all live work is final", lambda: _count(crew, "finished_at IS NULL AND job_id LIKE 'live-%'") == 0, _PATIENCE
    )
    found = crew.site.query("SELECT job_id, finished_at FROM lodgment WHERE job_id LIKE 'live-%'")
    assert len(found) == len(load.planned), "a live job was lost"
    assert crew.site.surprises() == []
    return dict(found)


def _report(phases: Sequence[Phase], load: LiveLoad, took: dict[str, datetime]) -> int:
    halves: dict[bool, list[float]] = {False: [], True: []}
    rounds: list[list[float]] = []
    for phase in phases:
        seconds = [
            (took[job_id] - at).total_seconds()
            for job_id, at in load.planned.items()
            if phase.start + _SWITCH <= at < phase.end
        ]
        halves[phase.replaying] += seconds
        rounds.append(seconds)
        _say(f"{'beside the replay' if phase.replaying else 'alone':18} {_shown(seconds)}")
    ratios = [_hundredth(beside) / _hundredth(alone) for alone, beside in zip(rounds[::2], rounds[1::2], strict=True)]
    ratio = _hundredth(halves[True]) / _hundredth(halves[False])
    replayed = sum(phase.ended for phase in phases if phase.replaying)
    _say(f"all alone          {_shown(halves[False])}")
    _say(f"all beside it      {_shown(halves[True])}; {replayed} replayed")
    _say(f"p50 x {median(halves[True]) / median(halves[False]):.3f}, p99 x {ratio:.3f}")
    _say(f"p99 of each round x {', '.join(f'{one:.2f}' for one in ratios)}; their median {median(ratios):.3f}")
    _say(f"p99 within a fifth: {'yes' if ratio <= _ALLOWED else 'NO'}")
    return 0 if ratio <= _ALLOWED else 1


def _shown(seconds: Sequence[float]) -> str:
    return f"{len(seconds)} live: p50 {median(seconds) * 1000:.0f} ms, p99 {_hundredth(seconds) * 1000:.0f} ms"


def _hundredth(seconds: Sequence[float]) -> float:
    """What the slowest hundredth took at least."""
    return sorted(seconds)[-max(1, len(seconds) // 100)]


def _count(crew: Crew, where: str) -> int:
    return int(crew.site.query(f"SELECT count(*) FROM lodgment WHERE {where}")[0][0])  # noqa: S608  - our own words


def _replay(crew: Crew) -> tuple[str, int, int, str]:
    """State, stage, how many have ended, and how many a second may go out."""
    [(state, stage, ended, pace)] = crew.site.query("SELECT state, stage, ended, pace FROM replay")
    return state, stage, ended, "?" if pace is None else f"{pace['speed']:.1f}/s ({pace['why']})"


def _lodge(crew: Crew, *arguments: str) -> str:
    left = subprocess.run(
        [LODGE, *arguments], env=crew.site.environment, check=True, capture_output=True, timeout=120, text=True
    )
    return left.stdout


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201  - a command's output


if __name__ == "__main__":
    sys.exit(main())
