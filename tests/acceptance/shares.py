"""What a bureau's batch does to small employers: `python -m tests.acceptance.shares --help`.

Each small employer lodges one, right behind the batch; what is told of them is how long each waited from its push
until it was final. All is compared within one run: with small employers that are alone, and with the control, in which
the same batch is by as many senders as it has lodgments, so that nobody is beyond its share and all stand in one line.
"""

import argparse
import os
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from benchmarks.cpu import cpu_seconds
from pipeline.broker.producer import Producer
from tests.acceptance.havoc import Crew
from tests.acceptance.long_run import set_up
from tests.doubles.jobs import job
from tests.services.pipeline_processes import until

PATIENT: dict[str, Any] = {"agency_timeout": 120, "stuck_after": "PT10M", "in_flight": "32"}
"""Nothing is repeated because the machine is busy, and the line is here: the sandbox answers one after the other, and
more requests under way would only wait there instead, where nobody can order them."""
_PATIENCE = 3600.0


@dataclass(frozen=True, slots=True)
class Waits:
    """Seconds from a small employer's push until its lodgment was final."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        return median(self.seconds)

    @property
    def p99(self) -> float:
        return quantiles(self.seconds, n=100, method="inclusive")[-1]

    def told(self) -> str:
        return f"median {self.median:.2f} s, 99th percentile {self.p99:.2f} s, longest {max(self.seconds):.2f} s"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lodgments", type=int, default=4000, help="the bureau's batch")
    parser.add_argument("--employers", type=int, default=200, help="small employers, one lodgment each")
    parser.add_argument("--every", type=float, default=0, help="seconds between two of them; 0: all at once")
    arguments = parser.parse_args()
    with ExitStack() as stack:
        crew = set_up(Path(tempfile.mkdtemp(prefix="lodge-shares-")), stack, **PATIENT)
        push(crew, "warm", 200, bureau=False)
        await_final(crew, "warm", 200)
        alone = small_ones(crew, "alone", arguments.employers, arguments.every)
        say(f"{arguments.employers} small employers alone: {alone.told()}")
        for name, bureau in (("control", False), ("bureau", True)):
            started, used = time.monotonic(), cpu_seconds(os.getpid())
            push(crew, name, arguments.lodgments, bureau=bureau)
            found = small_ones(crew, f"small-{name}", arguments.employers, arguments.every)
            await_final(crew, name, arguments.lodgments)
            size = arguments.lodgments + arguments.employers
            rate, each = size / (time.monotonic() - started), (cpu_seconds(os.getpid()) - used) / size
            say(f"beside a batch of {arguments.lodgments} ({name}): {found.told()}")
            say(f"  in all {rate:.0f} lodgments/s, {each * 1e6:.0f} µs of CPU each, agency and servers included")
            say(f"  times alone: median {found.median / alone.median:.2f}, p99 {found.p99 / alone.p99:.2f}")


def names(name: str, size: int) -> list[str]:
    """So many job ids."""
    return [f"{name}-{number:06}" for number in range(size)]


def push(crew: Crew, name: str, size: int, *, bureau: bool) -> None:
    """Lodgments of one sender, or each of a sender of its own."""
    jobs = [job(one, sender={"id": name if bureau else one, "type": "REGA"}) for one in names(name, size)]
    with Producer([crew.servers.broker_url], crew.servers.namespace) as producer:
        producer.push_many(jobs)


def small_ones(crew: Crew, name: str, size: int, every: float = 0) -> Waits:
    """Push one lodgment for each of so many employers, and see how long each waits."""
    pushed: dict[str, datetime] = {}
    with Producer([crew.servers.broker_url], crew.servers.namespace) as producer:
        for job_id in names(name, size):
            pushed[job_id] = datetime.now(UTC)
            producer.push_many([job(job_id, sender={"id": job_id, "type": "REGA"})])
            time.sleep(every)
    await_final(crew, name, size)
    ended = crew.site.query(f"SELECT job_id, finished_at FROM lodgment_outcome WHERE job_id LIKE '{name}-%'")  # noqa: S608
    return Waits(tuple((at - pushed[job_id]).total_seconds() for job_id, at in ended))


def await_final(crew: Crew, name: str, size: int) -> None:
    """Until so many of this name are accepted."""
    query = f"SELECT count(*) FROM lodgment_outcome WHERE state = 'accepted' AND job_id LIKE '{name}-%'"  # noqa: S608
    until(f"{name} is final", lambda: crew.site.query(query) == [(size,)], _PATIENCE)


def say(text: str) -> None:
    """Print a line at once."""
    print(text, flush=True)  # noqa: T201  - a command's output


if __name__ == "__main__":
    main()
