"""The command `lodge`: exit codes, one line for an error, quick help, and what needs no agency."""

import base64
import json
import os
import stat
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import jsonschema
import pytest

from tests.doubles.command import Lodge
from tests.doubles.jobs import job


@pytest.fixture
def lodge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Lodge:
    for name in [name for name in os.environ if name.startswith("LODGE_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return Lodge(capsys)


def test_help_loads_neither_database_nor_broker_nor_xml() -> None:
    code = "import sys, pipeline.interfaces.cli as c; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"sqlalchemy", "kombu", "pika", "aiohttp", "lxml.etree", "cryptography"} & set(loaded)


def test_says_which_release_it_is(lodge: Lodge) -> None:
    left = lodge("--version")
    assert left.code == 0
    assert left.out.startswith(f"lodge {version('lodgment-pipeline')} (Python ")


@pytest.mark.parametrize(
    "command",
    ["submit", "status", "explain", "codes", "evidence", "release", "cancel", "doctor", "ping", "tokens"],
)
def test_every_command_says_what_happens(lodge: Lodge, command: str) -> None:
    left = lodge(command, "--help")
    assert left.code == 0
    assert "Usage: lodge" in left.out


@pytest.mark.parametrize(
    "arguments", [("nonsense",), ("release", "x"), ("submit",), ("submit", "x.ndjson", "--offline"), ("worker", "x")]
)
def test_bad_usage_leaves_with_two(lodge: Lodge, arguments: tuple[str, ...]) -> None:
    assert lodge(*arguments).code == 2


def test_a_code_is_explained_without_a_ledger(lodge: Lodge) -> None:
    (found,) = json.loads(lodge("codes", "CMN.ATO.PAYEVNT.000194", "--json").out)
    assert (found["who"], found["retried"]) == ("producer", "as a new job")
    assert "UTC" in found["meaning"]
    assert "MessageTimestampGenerationDt" in lodge("codes", "000194").out
    left = lodge("codes", "nonsense")
    assert left.code == 1
    assert "[codes.none]" in left.err


def test_gaps_need_a_ledger(lodge: Lodge) -> None:
    left = lodge("codes", "--gaps")
    assert left.code == 2
    assert "[ledger.none]" in left.err


def test_bad_settings_are_one_line_that_names_the_field(lodge: Lodge, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LODGE_BATCH", "0")
    left = lodge("status")
    assert left.code == 2
    assert left.err.startswith("lodge: settings: batch: ")
    assert left.err.count("\n") == 1


def test_a_settings_file_that_is_not_there_is_named(lodge: Lodge, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LODGE_SETTINGS_FILE", "/nowhere/lodge.toml")
    left = lodge("status")
    assert left.code == 2
    assert "LODGE_SETTINGS_FILE: there is no file /nowhere/lodge.toml" in left.err


def test_debug_may_stand_anywhere_and_shows_the_traceback(lodge: Lodge, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LODGE_BATCH", "0")
    assert "Traceback" in lodge("status", "--debug").err
    assert "Traceback" in lodge("--debug", "status").err


def test_looking_where_nothing_was_lodged_says_so_and_makes_nothing(lodge: Lodge, tmp_path: Path) -> None:
    for command in ("status", "tokens"):
        left = lodge(command)
        assert left.code == 2
        assert f"there is none at {tmp_path}/var/ledger.sqlite3 yet" in left.err
    assert list(tmp_path.iterdir()) == []


def test_the_printed_schema_accepts_a_job_and_refuses_half_of_one(lodge: Lodge) -> None:
    schema = json.loads(lodge("schema", "job").out)
    fields = json.loads(job("a"))
    jsonschema.validate(fields, schema)
    del fields["sender"]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(fields, schema)


def test_a_master_key_is_random_private_and_never_replaced(lodge: Lodge, tmp_path: Path) -> None:
    assert lodge("master-key", "one.key").code == 0
    assert lodge("master-key", "two.key").code == 0
    one, two = tmp_path / "one.key", tmp_path / "two.key"
    assert stat.S_IMODE(one.stat().st_mode) == 0o600
    assert len(base64.b64decode(one.read_text().strip(), validate=True)) == 32
    assert one.read_text() != two.read_text()
    left = lodge("master-key", "one.key")
    assert left.code == 2
    assert "exists already" in left.err


def test_the_schema_goes_up_and_down_and_up(lodge: Lodge) -> None:
    assert lodge("db", "current").code == 1
    assert lodge("db", "upgrade").code == 0
    assert lodge("db", "current").code == 0
    refused = lodge("db", "downgrade", "base")
    assert refused.code == 2
    assert "--yes" in refused.err
    assert lodge("db", "downgrade", "base", "--yes").code == 0
    assert lodge("db", "current").code == 1
    assert lodge("db", "upgrade").code == 0
    assert lodge("status").code == 0


def test_the_migrations_do_not_drift(lodge: Lodge) -> None:
    left = lodge("db", "drift")
    assert (left.code, left.err) == (0, "")


def test_bad_documents_push_nothing_and_name_the_place(lodge: Lodge, tmp_path: Path) -> None:
    (tmp_path / "jobs.ndjson").write_bytes(job("good") + b"\n" + job("bad", payload={"inline": "<a><b></a>"}) + b"\n")
    left = lodge("submit", "jobs.ndjson")
    assert left.code == 1
    assert "jobs.ndjson, line 2: payload: the document is not well-formed XML" in left.err
    assert "NOTHING was submitted" in left.err
    assert not (tmp_path / "var" / "ledger.sqlite3").exists()


def test_one_id_for_two_documents_is_refused_before_anything_is_pushed(lodge: Lodge, tmp_path: Path) -> None:
    (tmp_path / "jobs.ndjson").write_bytes(job("same") + b"\n" + job("same", "reject") + b"\n")
    left = lodge("submit", "jobs.ndjson")
    assert left.code == 1
    assert "jobs.ndjson, line 2: job_id: jobs.ndjson, line 1 has it already, with other content" in left.err


def test_a_database_that_does_not_answer_is_one_line(lodge: Lodge, monkeypatch: pytest.MonkeyPatch) -> None:
    lodge("master-key", "one.key")
    monkeypatch.setenv("LODGE_MASTER_KEY_FILE", "one.key")
    monkeypatch.setenv("LODGE_LEDGER_URL", "postgresql://nobody:hunter2@127.0.0.1:9/nothing")
    left = lodge("status")
    assert left.code == 1
    assert "[ledger.down]; nothing was lost" in left.err
    assert "hunter2" not in left.err
    assert "Traceback" not in left.err
