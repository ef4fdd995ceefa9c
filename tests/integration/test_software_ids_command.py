"""`lodge software-ids` on a ledger of its own: what is registered, what is refused and how, what the audit keeps."""

import csv
import json
import os
import sqlite3
import stat
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pipeline.interfaces.cli import main
from tests.doubles.jobs import ABN

AGENT_ABN = "11000002568"
PRODUCT = ("--product", "Pay")


@dataclass(frozen=True, slots=True)
class Left:
    """How a command left."""

    code: int | str | None
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)


class Lodge:
    """`lodge` in a folder of the test's own."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self._monkeypatch = monkeypatch
        self._capsys = capsys

    def __call__(self, *arguments: str) -> Left:
        self._monkeypatch.chdir(self.folder)
        with pytest.raises(SystemExit) as left:
            main(arguments)
        said = self._capsys.readouterr()
        return Left(left.value.code, said.out, said.err)

    def elsewhere(self, name: str) -> "Lodge":
        (self.folder / name).mkdir()
        return Lodge(self.folder / name, self._monkeypatch, self._capsys)


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Lodge:
    """The command with a ledger and nothing else."""
    for name in [name for name in os.environ if name.startswith("LODGE_")]:
        monkeypatch.delenv(name)
    lodge = Lodge(tmp_path, monkeypatch, capsys)
    assert lodge("db", "upgrade").code == 0
    return lodge


def audited(lodge: Lodge) -> list[tuple[str, str]]:
    with closing(sqlite3.connect(lodge.folder / "var" / "ledger.sqlite3")) as ledger:
        return ledger.execute("SELECT action, reason FROM operator_action ORDER BY id").fetchall()


def ids(lodge: Lodge, *options: str) -> dict[str, str]:
    """Party to id."""
    return {one["party"]: one["software_id"] for one in lodge("software-ids", "list", *options, "--json").json()}


def test_an_id_is_generated_once_shown_and_audited(alone: Lodge) -> None:
    left = alone("software-ids", "generate", "51 824 753 556", *PRODUCT, "--note", "first client", "--json")
    assert left.code == 0, left.err
    [made] = left.json()
    assert alone("software-ids", "generate", ABN, *PRODUCT, "--json").json()[0]["software_id"] == made["software_id"]

    shown = alone("software-ids", "show", made["software_id"], "--json").json()
    assert {name: shown[name] for name in ("party", "product", "origin", "checked", "note")} == {
        "party": ABN,
        "product": "Pay",
        "origin": "generated",
        "checked": "control_digit",
        "note": "first client",
    }
    assert audited(alone) == [("software-id.generate", f"{made['software_id']} for ABN {ABN} with product 'Pay'")]


def test_the_product_comes_from_the_settings_where_none_is_named(
    alone: Lodge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LODGE_ENVIRONMENT", "evte")
    left = alone("software-ids", "generate", ABN)
    assert left.code == 2
    assert "--product: name the payroll product, or set software.product" in left.err
    settings = tmp_path / "lodge.toml"
    settings.write_text('[software]\norganisation = "Synthetic"\nproduct = "Wages"\nversion = "1"\n')
    monkeypatch.setenv("LODGE_SETTINGS_FILE", str(settings))
    assert alone("software-ids", "generate", ABN, "--json").json()[0]["product"] == "Wages"


def test_in_the_sandbox_the_product_is_the_one_on_its_list(alone: Lodge) -> None:
    assert alone("software-ids", "generate", ABN, "--json").json()[0]["product"] == "SYNTHETIC Pay"


def test_a_file_of_clients_gets_ids_all_or_none(alone: Lodge, tmp_path: Path) -> None:
    clients = tmp_path / "clients.csv"
    clients.write_text(
        f"abn,wpn,note\n51824753557,,\n{AGENT_ABN},,ok\n{AGENT_ABN},,twice\n,12345678,\n,,\n{ABN},,=1+1\n"
    )
    left = alone("software-ids", "generate", "--from", "clients.csv", *PRODUCT)
    assert left.code == 1
    for problem in (
        "clients.csv: line 2: abn: is no ABN: its check digits do not hold",
        "clients.csv: line 4: abn: ABN 11000002568 with product 'Pay' stands on line 3 already",
        "clients.csv: line 5: wpn: must be an ABN (11 digits) or a withholding payer number (9 digits)",
        "clients.csv: line 7: note: must not begin with =",
        "4 problem(s): NOTHING was registered.",
    ):
        assert problem in left.err
    assert ids(alone) == {}
    assert audited(alone) == []

    clients.write_text(f"abn,wpn,note\n{AGENT_ABN},,ok\n,123456789,\n")
    left = alone("software-ids", "generate", "--from", "clients.csv", *PRODUCT)
    assert left.code == 0, left.err
    assert sorted(ids(alone)) == [AGENT_ABN, "123456789"]
    assert len(set(ids(alone).values())) == 2


def test_an_import_names_every_bad_line_and_registers_nothing(alone: Lodge, tmp_path: Path) -> None:
    alone("software-ids", "generate", ABN, *PRODUCT)
    (tmp_path / "ids.csv").write_text(
        f"software_id,abn,product\n0004785936,{AGENT_ABN},Pay\n478593,{AGENT_ABN},Wages\n1234567890,{ABN},Wages\n"
    )
    left = alone("software-ids", "import", "ids.csv")
    assert left.code == 1
    assert (
        "line 3: software_id: must be exactly 10 digits, leading zeroes included; this has 6: a spreadsheet" in left.err
    )
    assert "line 4: software_id: 1234567890: control digit must be 5" in left.err
    assert "--allow-failing-control-digit" in left.err
    (tmp_path / "ids.csv").write_text(f"software_id,abn,product\n0004785936,{AGENT_ABN},Pay\n0000000022,{ABN},Pay\n")
    left = alone("software-ids", "import", "ids.csv")
    assert left.code == 1
    assert f"line 3: software_id: ABN {ABN} with product 'Pay' has {ids(alone)[ABN]} already" in left.err
    assert list(ids(alone)) == [ABN]


def test_a_dry_run_checks_and_registers_nothing_and_the_import_may_be_repeated(alone: Lodge, tmp_path: Path) -> None:
    (tmp_path / "ids.csv").write_text(f"software_id,abn,product\n0004785936,{AGENT_ABN},Pay\n1234567890,{ABN},Pay\n")
    command = ("software-ids", "import", "ids.csv", "--allow-failing-control-digit")
    assert "Would register: 2" in alone(*command, "--dry-run").out
    assert ids(alone) == {}
    first = alone(*command)
    assert "Registered: 2; registered before: 0; control digit fails: 1." in first.out
    assert "warning: line 3: software_id: 1234567890: control digit must be 5" in first.err
    assert "Registered: 0; registered before: 2" in alone(*command).out
    assert ids(alone) == {AGENT_ABN: "0004785936", ABN: "1234567890"}
    [allowed] = alone("software-ids", "list", ABN, "--json").json()
    assert allowed["checked"] == "allowed"
    assert [action for action, _ in audited(alone)] == ["software-id.import"] * 2
    assert sum("allowed although its control digit must be 5" in reason for _, reason in audited(alone)) == 1


def test_an_id_that_another_client_has_or_had_is_not_imported(alone: Lodge, tmp_path: Path) -> None:
    (tmp_path / "ids.csv").write_text(f"software_id,abn,product\n0004785936,{ABN},Pay\n")
    alone("software-ids", "import", "ids.csv")
    assert alone("software-ids", "retire", "0004785936", "--reason", "client left").code == 0
    left = alone("software-ids", "import", "ids.csv")
    assert "to use it again, lodge software-ids restore 0004785936" in left.err
    (tmp_path / "ids.csv").write_text(f"software_id,abn,product\n0004785936,{AGENT_ABN},Pay\n")
    left = alone("software-ids", "import", "ids.csv")
    assert f"0004785936 belongs to ABN {ABN} with product 'Pay'; no two clients" in left.err
    assert alone("software-ids", "restore", "0004785936", "--reason", "by mistake").code == 0
    assert ids(alone) == {ABN: "0004785936"}
    assert [action for action, _ in audited(alone)] == [f"software-id.{one}" for one in ("import", "retire", "restore")]


def test_a_retired_id_gives_way_to_a_new_one_and_cannot_come_back(alone: Lodge) -> None:
    alone("software-ids", "generate", ABN, *PRODUCT)
    first = ids(alone)[ABN]
    alone("software-ids", "retire", first, "--reason", "leaked")
    alone("software-ids", "generate", ABN, *PRODUCT)
    second = ids(alone)[ABN]
    assert second != first
    left = alone("software-ids", "restore", first, "--reason", "why not")
    assert left.code == 1
    assert f"has {second} by now: retire that first [software-id.other]" in left.err
    assert len(alone("software-ids", "list", "--retired", "--json").json()) == 2


def test_the_rule_is_explained_on_any_id_with_and_without_a_ledger(alone: Lodge) -> None:
    left = alone("software-ids", "check", "0004785936")
    assert left.code == 0
    assert "0+0+0+4+7+8+5+9+3 = 36; 36 modulo 10 = 6; tenth digit: 6" in left.out
    assert "Not registered here." in left.out
    assert alone("software-ids", "check", "1234567890").code == 1
    left = alone.elsewhere("bare")("software-ids", "check", "1234567890")
    assert left.code == 1
    assert "control digit must be 5" in left.out
    assert "Not looked up: ledger: there is none" in left.out
    assert alone("software-ids", "check", "12345").code == 2


def test_an_export_is_private_and_can_be_imported_elsewhere(alone: Lodge, tmp_path: Path) -> None:
    (tmp_path / "clients.csv").write_text(f"abn,wpn\n{ABN},\n{AGENT_ABN},\n,123456789\n")
    alone("software-ids", "generate", "--from", "clients.csv", *PRODUCT)
    assert alone("software-ids", "export", "out.csv").code == 0
    assert stat.S_IMODE((tmp_path / "out.csv").stat().st_mode) == 0o600
    with (tmp_path / "out.csv").open(newline="") as file:
        rows = {row["abn"] or row["wpn"]: row["software_id"] for row in csv.DictReader(file)}
    assert rows == ids(alone)
    assert alone("software-ids", "export", "out.csv").code == 2

    other = alone.elsewhere("other")
    other("db", "upgrade")
    assert other("software-ids", "import", "../out.csv").code == 0
    assert ids(other) == rows


def test_files_that_cannot_be_read_are_one_line(alone: Lodge, tmp_path: Path) -> None:
    (tmp_path / "latin.csv").write_bytes("abn,note\n51824753556,Zo\xeb\n".encode("latin-1"))
    (tmp_path / "odd.csv").write_text("abn,colour\n")
    (tmp_path / "empty.csv").write_text("")
    for name, words in (
        ("none.csv", "none.csv cannot be read"),
        ("latin.csv", "is not UTF-8"),
        ("odd.csv", "column 'colour': unknown; there are abn, wpn, product, note"),
        ("empty.csv", "column 'abn' or 'wpn': is missing"),
    ):
        left = alone("software-ids", "generate", "--from", name, *PRODUCT)
        assert left.code in {1, 2}
        assert words in left.err


def test_thousands_of_clients_get_ids_in_one_go(alone: Lodge, tmp_path: Path) -> None:
    parties = [f"{number:09d}" for number in range(5_000)]
    (tmp_path / "clients.csv").write_text("wpn\n" + "\n".join(parties) + "\n")
    left = alone("software-ids", "generate", "--from", "clients.csv", *PRODUCT)
    assert left.code == 0, left.err
    assert "Generated: 5000; had one already: 0." in left.err
    with closing(sqlite3.connect(tmp_path / "var" / "ledger.sqlite3")) as ledger:
        found = ledger.execute("SELECT count(*), count(DISTINCT id), count(DISTINCT party) FROM software_id").fetchone()
    assert found == (5_000, 5_000, 5_000)
