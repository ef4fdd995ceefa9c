"""What one bureau's large pay events do to small employers: `python -m tests.acceptance.large_shares --help`.

The bureau lodges files of thousands of payees each, and behind them small employers one small event each. What is told
is how long each small one waited from its push until it went out to the agency, beside how long they wait alone.
Needs the RabbitMQ and the PostgreSQL of LODGE_TEST_AMQP_URL and LODGE_TEST_DATABASE_URL.
"""

import argparse
import csv
import hashlib
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline.broker.producer import Producer
from pipeline.channels.sbr2_profile import SERVICE, SUBMIT
from pipeline.channels.sbr2_stp import NAME
from pipeline.sandbox.pay_run import Employer, PayRun, event_documents
from tests.acceptance.memory import Watched, watched
from tests.acceptance.shares import Waits, say
from tests.doubles.jobs import job
from tests.services.pipeline_processes import until

_PATIENCE = 900.0
_BUREAU = 50_000
"""Employers from this number on are the bureau's."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=15, help="the bureau's events")
    parser.add_argument("--payees", type=int, default=20_000, help="in each of them")
    parser.add_argument("--employers", type=int, default=500, help="small employers, one small event each")
    arguments = parser.parse_args()
    with ExitStack() as stack:
        # Tokens, one for each employer, are not what is measured.
        site = watched(stack, sts_rate=1000, stuck_after="PT10M")
        now = datetime.now(UTC)
        some = arguments.employers
        rounds = {"alone": range(1, some + 1), "beside": range(some + 1, 2 * some + 1)}
        small = {
            name: [_event(PayRun(Employer(number, 2), f"SYN-{name}", now, full=True)) for number in numbers]
            for name, numbers in rounds.items()
        }
        large = _large_files(site.folder, arguments.files, arguments.payees, now)
        _register(site, [*range(1, 2 * some + 1), *range(_BUREAU, _BUREAU + arguments.files)])
        alone = _lodged(site, "alone", small["alone"])
        say(f"{some} small employers alone: {alone.told()}")
        started = time.monotonic()
        _push(site, large)
        beside = _lodged(site, "beside", small["beside"])
        gone = _gone(site, "large")
        say(f"beside {arguments.files} files of {arguments.payees} payees: {beside.told()}; {gone} of these were out")
        say(f"  times alone: median {beside.median / alone.median:.2f}, p99 {beside.p99 / alone.p99:.2f}")
        until("the files are out", lambda: _gone(site, "large") == arguments.files, _PATIENCE)
        say(f"all of the files were out after {time.monotonic() - started:.0f} s")


def _event(run: PayRun) -> tuple[PayRun, bytes]:
    return run, b"".join(event_documents(run))


def _job(name: str, run: PayRun, sender: str, payload: Mapping[str, object]) -> bytes:
    return job(
        f"{name}-{run.employer.number:06}",
        channel=NAME,
        service=SERVICE,
        action=SUBMIT,
        sender={"id": sender, "type": "ABN"},
        employer={"abn": run.employer.abn},
        payload=payload,
    )


def _large_files(folder: Path, files: int, payees: int, now: datetime) -> list[bytes]:
    """The jobs of the bureau's files, which differ in little but their payers."""
    first = PayRun(Employer(_BUREAU, payees), "SYN-LARGE-0", now, full=True)
    document = b"".join(event_documents(first))
    jobs = []
    for number in range(files):
        run = PayRun(Employer(_BUREAU + number, payees), f"SYN-LARGE-{number}", now, full=True)
        content = document
        for old, new in (
            (first.employer.abn, run.employer.abn),
            (first.employer.bms_id, run.employer.bms_id),
            (first.submission, run.submission),
        ):
            content = content.replace(old.encode(), new.encode())
        path = folder / f"large-{number}.xml"
        path.write_bytes(content)
        payload = {"reference": path.as_uri(), "size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        jobs.append(_job("large", run, first.employer.abn, payload))
    return jobs


def _register(site: Watched, numbers: Sequence[int]) -> None:
    path = site.folder / "ids.csv"
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("abn", "software_id"))
        rows.writerows((one.abn, one.software_id) for one in (Employer(number, 1) for number in numbers))
    site.lodge("software-ids", "import", str(path))


def _lodged(site: Watched, name: str, events: Sequence[tuple[PayRun, bytes]]) -> Waits:
    """Push each employer's event, and see how long each waits until it goes out."""
    jobs = [_job(name, run, run.employer.abn, {"inline": content.decode()}) for run, content in events]
    pushed = datetime.now(UTC)
    _push(site, jobs)
    until(f"{name} are out", lambda: _gone(site, name) == len(jobs), _PATIENCE, lambda: _states(site))
    sent = site.query(f"SELECT sent_at FROM lodgment_outcome WHERE job_id LIKE '{name}-%'")  # noqa: S608
    return Waits(tuple((at - pushed).total_seconds() for (at,) in sent))


def _push(site: Watched, jobs: Sequence[bytes]) -> None:
    with Producer([site.broker_url], site.namespace) as producer:
        producer.push_many(jobs)


def _gone(site: Watched, name: str) -> int:
    query = f"SELECT count(*) FROM lodgment_outcome WHERE sent_at IS NOT NULL AND job_id LIKE '{name}-%'"  # noqa: S608
    [(number,)] = site.query(query)
    return int(number)


def _states(site: Watched) -> list[tuple[Any, ...]]:
    return site.query("SELECT state, reason_code, count(*) FROM lodgment_outcome GROUP BY 1, 2")


if __name__ == "__main__":
    main()
