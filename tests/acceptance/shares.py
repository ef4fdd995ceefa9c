"""What a bureau's batch does to small employers: `python -m tests.acceptance.shares --help`.

The control is the same batch by as many senders as it has lodgments: none of them is beyond its share, so that nothing
is parked, and small employers stand behind all of it.
"""

import argparse
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from pipeline.broker.producer import Producer
from tests.acceptance.havoc import Crew
from tests.acceptance.long_run import set_up
from tests.doubles.jobs import job
from tests.services.pipeline_processes import until

_PATIENCE = 3600.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lodgments", type=int, default=4000, help="the bureau's batch")
    parser.add_argument("--employers", type=int, default=200, help="small employers, one lodgment each")
    arguments = parser.parse_args()
    with ExitStack() as stack:
        crew = set_up(Path(tempfile.mkdtemp(prefix="lodge-shares-")), stack)
        _push(crew, "warm", 200, bureau=False)
        _wait(crew, "warm", 200)
        alone = _small_ones(crew, "alone", arguments.employers)
        _say(f"{arguments.employers} small employers alone: {alone}")
        for name, bureau in (("control", False), ("bureau", True)):
            started = time.monotonic()
            _push(crew, name, arguments.lodgments, bureau=bureau)
            told = _small_ones(crew, f"small-{name}", arguments.employers)
            _wait(crew, name, arguments.lodgments)
            rate = (arguments.lodgments + arguments.employers) / (time.monotonic() - started)
            _say(f"beside a batch of {arguments.lodgments} ({name}): {told}; all in all {rate:.0f} lodgments/s")


def _push(crew: Crew, name: str, size: int, *, bureau: bool) -> None:
    jobs = [
        job(f"{name}-{number:06}", sender={"id": name if bureau else f"{name}-{number}", "type": "REGA"})
        for number in range(size)
    ]
    with Producer([crew.servers.broker_url], crew.servers.namespace) as producer:
        producer.push_many(jobs)


def _small_ones(crew: Crew, name: str, size: int) -> str:
    started = time.monotonic()
    _push(crew, name, size, bureau=False)
    _wait(crew, name, size)
    return f"all final in {time.monotonic() - started:.1f} s"


def _wait(crew: Crew, name: str, size: int) -> None:
    def done() -> bool:
        final = [job_id for job_id, state in crew.site.states().items() if state == "accepted"]
        return sum(job_id.startswith(f"{name}-") for job_id in final) == size

    until(f"{name} is final", done, _PATIENCE)


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201  - a command's output


if __name__ == "__main__":
    main()
