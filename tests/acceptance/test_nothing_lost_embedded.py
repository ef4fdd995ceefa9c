"""Nothing is lost, nothing is lodged twice: the embedded profile, whose only process is killed again and again."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.havoc import Batch, check_calm, mixed_batch
from tests.services.pipeline_processes import Site, until


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A folder with a sandbox that runs, and nothing else."""
    site = Site(tmp_path)
    try:
        site.start_sandbox()
        yield site
    finally:
        site.close()


def write_ndjson(batch: Batch, path: Path) -> str:
    path.write_bytes(b"\n".join(batch.jobs.values()))
    return str(path)


def final(site: Site) -> int:
    return len([state for state in site.states().values() if state in {"accepted", "rejected"}])


def test_a_killed_process_goes_on_where_it_was(site: Site, tmp_path: Path, chance: random.Random) -> None:
    batch = mixed_batch(120, chance)
    path = write_ndjson(batch, tmp_path / "batch.ndjson")
    submitting = site.launch_command("submit", path, "--wait")
    until("some are final", lambda: final(site) >= 10)
    site.kill(submitting)
    before = final(site)
    running = site.start("run", ready="worker.started")
    until("more are final", lambda: final(site) > before or final(site) == len(site.states()))
    site.kill(running)
    # What the killed command had not yet taken was never confirmed to anybody: whoever pushed it pushes it again.
    again = site.launch_command("submit", path, "--wait")
    assert again.left(within=180) is not None
    check_calm(site, batch)
