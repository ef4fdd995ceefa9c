"""Software ids in `submit` and `explain`, on a channel that carries none."""

from pathlib import Path

from tests.acceptance.cli.conftest import Lodge
from tests.doubles.jobs import job


def test_explain_says_that_a_channel_without_software_ids_did_not_look_one_up(lodge: Lodge, tmp_path: Path) -> None:
    (tmp_path / "jobs.ndjson").write_bytes(job("one", software_id="0004785936") + b"\n")
    assert lodge("submit", "jobs.ndjson", "--wait").code == 0
    told = lodge("explain", "one").out
    assert "software id 0004785936, given by the job; this channel carries none, so it was not looked up" in told


def test_submit_names_the_rule_that_a_jobs_software_id_breaks(lodge: Lodge, tmp_path: Path) -> None:
    (tmp_path / "jobs.ndjson").write_bytes(job("one", software_id="1234567890") + b"\n")
    left = lodge("submit", "jobs.ndjson")
    assert left.code == 1
    assert "software_id: control digit must be 5" in left.err
