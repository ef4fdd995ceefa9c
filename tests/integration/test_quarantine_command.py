"""`lodge quarantine` what was refused is corrected, returned or discarded once, and audited."""

import asyncio
import json
import os
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.bootstrap import open_ledger
from pipeline.interfaces.cli import main
from pipeline.ledger import lodgments, quarantine
from pipeline.ledger.lodgment_rows import NewLodgment
from pipeline.ledger.quarantine import Quarantined
from pipeline.lodgment.lodgment import Lodgment, Reason
from pipeline.lodgment.states import State, Step
from pipeline.sandbox.home import open_home
from pipeline.settings import Settings
from tests.doubles.jobs import job
from tests.doubles.lodgments import NOW, a_lodgment, fresh_id

WHY = ("--reason", "the producer agrees")


class Desk:
    """The command, and a ledger to put things into quarantine."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self._folder = folder
        self._capsys = capsys

    def __call__(self, *arguments: str) -> tuple[object, str, str]:
        with pytest.raises(SystemExit) as left:
            main(["quarantine", *arguments])
        said = self._capsys.readouterr()
        return left.value.code, said.out, said.err

    def keep(self, body: bytes, *, code: str = "job.invalid", held: Lodgment | None = None) -> str:
        """Keep a message, of a lodgment if one is given; its id."""
        step = Step.RECEIVE if held is None else Step.SEAL
        lodgment_id = None if held is None else held.id
        item = Quarantined(fresh_id(), step, code, "synthetic", None, lodgment_id, "m", body, received_at=NOW)

        async def put() -> None:
            ledger = open_ledger(Settings(home=self._folder / "var"))
            async with ledger.transaction() as tx:
                if held is not None:
                    await lodgments.add(tx, [NewLodgment(held, "{}", {})])
                await quarantine.add(tx, [item])
            await ledger.close()

        asyncio.run(put())
        return str(item.id)

    def query(self, sql: str) -> list[tuple[object, ...]]:
        with closing(sqlite3.connect(self._folder / "var" / "ledger.sqlite3")) as connection:
            return connection.execute(sql).fetchall()


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Desk:
    for name in [name for name in os.environ if name.startswith("LODGE_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LODGE_SANDBOX_URL", "https://localhost:1")
    open_home(tmp_path / "var" / "sandbox", NOW)
    with pytest.raises(SystemExit):
        main(["db", "upgrade"])
    return Desk(tmp_path, capsys)


def test_a_refused_job_is_corrected_where_it_lies_and_checked_before_anything_is_written(desk: Desk) -> None:
    refused = json.loads(job("one")) | {"priorty": 5}
    kept = desk.keep(json.dumps(refused).encode())
    code, out, _ = desk("show", kept)
    assert code == 0
    assert "payload.inline: text," in out
    assert "Synthetic Bakery" not in out

    code, _, err = desk("fix", kept, "--set", "priority=12", *WHY)
    assert code == 1
    assert "it would be refused again, nothing was changed" in err
    assert desk.query("SELECT fixed_at FROM quarantine") == [(None,)]
    code, out, _ = desk("fix", kept, "--unset", "priorty", "--set", "priority=7", *WHY)
    assert (code, out.startswith("Fixed: 1.")) == (0, True)
    [(action, reason)] = desk.query("SELECT action, reason FROM operator_action")
    assert action == "quarantine.fix"
    assert "priority set, priorty left out" in str(reason)
    code, _, err = desk("return", kept, "--code", "job.invalid", *WHY)
    assert (code, "[quarantine.which]" in err) == (2, True)


def test_what_would_be_refused_again_is_not_returned(desk: Desk) -> None:
    kept = desk.keep(b"{ no JSON")
    code, _, err = desk("return", kept, *WHY)
    assert (code, "[job.json]" in err) == (1, True)
    assert desk.query("SELECT released_at FROM quarantine") == [(None,)]


def test_a_lodgment_whose_message_is_returned_goes_on_once(desk: Desk) -> None:
    held = replace(a_lodgment(), state=State.HELD, due_at=None, reason=Reason("defect.ValueError", "synthetic"))
    kept = desk.keep(b"{}", code="defect.ValueError", held=held)
    assert desk("fix", kept, "--set", "a=b", *WHY)[0] == 1
    assert desk("return", kept, *WHY)[:2] == (0, "Returned: 1.\n")
    assert desk.query("SELECT state, reason_code FROM lodgment") == [("received", "operator.released")]
    assert desk.query("SELECT fate FROM quarantine") == [("returned",)]
    code, _, err = desk("return", kept, *WHY)
    assert (code, "[quarantine.left]" in err) == (1, True)
    assert sorted(desk.query("SELECT action FROM operator_action")) == [("quarantine.returned",), ("release",)]


def test_all_of_one_code_are_discarded_with_a_reason_and_the_others_stay(desk: Desk) -> None:
    desk.keep(b"{", code="job.json")
    desk.keep(b"[", code="job.json")
    other = desk.keep(b"{}")
    code, _, err = desk("discard", "--code", "job.json", "--reason", " ")
    assert (code, "[operator.reason]" in err) == (2, True)
    assert desk("discard", "--code", "job.json", *WHY)[:2] == (0, "Discarded: 2.\n")
    assert [item["id"] for item in json.loads(desk("list", "--json")[1])] == [other]
    assert len(json.loads(desk("list", "--json", "--all")[1])) == 3
    code, _, err = desk("discard", "--code", "job.json", *WHY)
    assert (code, "[quarantine.none]" in err) == (1, True)
