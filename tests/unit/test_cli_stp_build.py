"""`lodge stp build` and `lodge sandbox payrun`: from a table of payees to pay events, or to nothing at all."""

import json
import re
import stat
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pipeline.channels.payee_columns import STREAMS, payee_columns, payer_columns, total_columns
from pipeline.channels.stp_documents import read_pay_event
from pipeline.interfaces.cli import main, stp_building
from pipeline.interfaces.cli.payee_table import Line, Table
from tests.doubles.payee_tables import OTHER_ABN, as_csv, line

DOCUMENTATION = Path(__file__).parents[2] / "docs" / "stp-input.md"
Lodge = Callable[..., tuple[object, str, str]]


@pytest.fixture
def lodge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Lodge:
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[object, str, str]:
        with pytest.raises(SystemExit) as left:
            main(arguments)
        said = capsys.readouterr()
        return left.value.code, said.out, said.err

    return run


@pytest.fixture(autouse=True)
def nothing_half_written(tmp_path: Path) -> Iterator[None]:
    yield
    assert [one.name for one in tmp_path.iterdir() if one.name.startswith(".")] == []


def today(payee: int = 1, **changes: str) -> dict[str, str]:
    day = f"{datetime.now(UTC):%Y-%m-%d}"
    return line(payee, **{"pay_date": day, "declared_on": day, **changes})


def write(tmp_path: Path, *lines: dict[str, str], name: str = "payees.csv") -> Path:
    path = tmp_path / name
    if path.suffix == ".csv":
        path.write_bytes(as_csv(lines))
    else:
        path.write_text("".join(json.dumps(one) + "\n" for one in lines))
    return path


def check(document: bytes) -> tuple[int, int]:
    """How many payers and payees, once it was found to be what the channel takes."""
    read = read_pay_event([document], update=False, now=datetime.now(UTC))
    return len(read.payers), len(read.payees)


def test_each_payer_becomes_a_file_for_its_owner_alone_or_all_become_one(lodge: Lodge, tmp_path: Path) -> None:
    write(
        tmp_path,
        today(1),
        today(2),
        today(1, bms_id="B/2"),
        today(1, payer_abn=OTHER_ABN),
        today(7, payer_abn=OTHER_ABN),
    )
    code, out, err = lodge("stp", "build", "payees.csv", "-o", "events")
    assert (code, "3 event(s) of 5 payee(s) in events" in out) == (0, True), err
    files = sorted((tmp_path / "events").iterdir())
    assert sorted(check(one.read_bytes()) for one in files) == [(1, 1), (1, 2), (1, 2)]
    assert {stat.S_IMODE(one.stat().st_mode) for one in files} == {0o600}
    assert stat.S_IMODE((tmp_path / "events").stat().st_mode) == 0o700

    assert lodge("stp", "build", "payees.csv", "-o", "all.xml")[0] == 0
    assert check((tmp_path / "all.xml").read_bytes()) == (3, 5)
    assert stat.S_IMODE((tmp_path / "all.xml").stat().st_mode) == 0o600


def test_the_same_table_is_the_same_bytes_as_csv_as_ndjson_and_built_again(lodge: Lodge, tmp_path: Path) -> None:
    lines = [today(1), today(2, gross="1.10", final="true")]
    write(tmp_path, *lines)
    write(tmp_path, *lines, name="payees.ndjson")
    (tmp_path / "typed.ndjson").write_text(
        "".join(
            json.dumps({**one, "gross": float(one["gross"]), "final": one.get("final") == "true", "email": None}) + "\n"
            for one in lines
        )
    )
    for number, source in enumerate(("payees.csv", "payees.csv", "payees.ndjson", "typed.ndjson")):
        at = (
            ()
            if number == 0
            else (
                "--at",
                f"{datetime.fromtimestamp((tmp_path / 'payees.csv').stat().st_mtime, UTC):%Y-%m-%dT%H:%M:%SZ}",
            )
        )
        assert lodge("stp", "build", source, "-o", f"{number}.xml", *at) == (0, *lodge_said(number)), source
    first, *others = [(tmp_path / f"{number}.xml").read_bytes() for number in range(4)]
    assert others == [first] * 3


def lodge_said(number: int) -> tuple[str, str]:
    return f"1 event(s) of 2 payee(s) in {number}.xml\nnext: lodge submit {number}.xml --dry-run\n", ""


def test_all_problems_are_told_up_to_a_limit_and_nothing_is_written(lodge: Lodge, tmp_path: Path) -> None:
    write(tmp_path, today(1, tfn="123456789"), today(2), *(today(n, gross="much") for n in range(3, 9)))
    code, out, err = lodge("stp", "build", "payees.csv", "-o", "events", "--errors", "3")
    assert (code, out) == (1, "")
    told = err.splitlines()
    assert told[0].startswith("payees.csv, line 2: column tfn: is no tax file number")
    assert told[1].startswith("payees.csv, line 4: column gross: must be dollars and cents as 1234.56")
    assert told[3:] == ["… and 4 more.", "7 problem(s): NOTHING was written."]
    assert "123456789" not in err
    assert sorted(one.name for one in tmp_path.iterdir()) == ["payees.csv"]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "line 1: the table is empty: its first line must name the columns"),
        (b"payer_abn,payee_id\n", "payees.csv: holds no payee"),
        (b"payer_abn,shoe_size\n1,2\n", "line 1: column 'shoe_size': there is no such column"),
        (b"tfn,tfn\n1,2\n", "line 1: column 'tfn': gives tfn, as 'tfn' does; keep one of them"),
        (as_csv([line()]) + b"a,b\n", "line 3: has 2 cells, the header names 21 columns: quote texts with commas"),
        (as_csv([line()]) + b'"' + b"x" * 10 + b"\n", "line 3: is not readable as CSV: unexpected end of data"),
        (as_csv([line()]) + b"caf\xe9\n", "line 3: is not UTF-8: export or save the table as UTF-8"),
        (as_csv([line()]) + b"x" * 70_000, "line 3: has more than 65536 bytes: one payee stands on a line"),
    ],
)
def test_a_table_that_cannot_be_read_is_told_by_line(
    lodge: Lodge, tmp_path: Path, content: bytes, problem: str
) -> None:
    (tmp_path / "payees.csv").write_bytes(content)
    code, _, err = lodge("stp", "build", "payees.csv", "-o", "events")
    assert (code, problem in err) == (1, True), err


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[1]", "line 2: must be one JSON object"),
        ("{", "line 2: is no JSON: one object stands on a line"),
        ('{"tfn": {"a": 1}}', "line 2: column 'tfn': must be a text, a number, true or false"),
        ('{"tfn": "1", "tfn": "2"}', "line 2: column 'tfn': gives tfn, as 'tfn' does"),
        ('{"shoe_size": 2}', "line 2: column 'shoe_size': there is no such column"),
    ],
)
def test_an_object_that_cannot_be_read_is_told_by_line(lodge: Lodge, tmp_path: Path, text: str, problem: str) -> None:
    (tmp_path / "payees.ndjson").write_text(json.dumps(today()) + "\n" + text + "\n")
    code, _, err = lodge("stp", "build", "payees.ndjson", "-o", "events")
    assert (code, problem in err) == (1, True), err


def test_payers_that_do_not_stand_together_are_told_to_be_sorted(lodge: Lodge, tmp_path: Path) -> None:
    write(tmp_path, today(1), today(1, payer_abn=OTHER_ABN), today(2))
    code, _, err = lodge("stp", "build", "payees.csv", "-o", "events")
    assert code == 1
    assert (
        "line 4: column payer_abn: this payer's lines began on line 2 and others stand between: sort the table" in err
    )


def test_an_exports_own_names_codes_and_gaps_are_mapped(lodge: Lodge, tmp_path: Path) -> None:
    ours = today()
    names = {"tfn": "Tax File No", "payee_id": "Employee", "gross": "Gross YTD", "income_type": "Pay kind"}
    theirs = {names.get(name, name): value for name, value in ours.items() if name != "payer_name"}
    write(tmp_path, {**theirs, "Pay kind": "Salary", "Cost centre": "12"})
    write(tmp_path, ours, name="ours.csv")
    mapping = tmp_path / "export.toml"
    mapping.write_text(
        'ignore = ["Cost centre"]\n[columns]\n'
        + "".join(f'"{their}" = "{our}"\n' for our, their in names.items())
        + '[values]\npayer_name = "Synthetic Bakery"\n[codes.income_type]\nSalary = "SAW"\n'
    )
    at = ("--at", f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}")
    assert lodge("stp", "build", "payees.csv", "--mapping", "export.toml", "-o", "a.xml", *at)[0] == 0
    assert lodge("stp", "build", "ours.csv", "-o", "b.xml", *at)[0] == 0
    assert (tmp_path / "a.xml").read_bytes() == (tmp_path / "b.xml").read_bytes()

    write(tmp_path, {**theirs, "Tax File No": "12"})
    err = lodge("stp", "build", "payees.csv", "--mapping", "export.toml", "-o", "c.xml")[2]
    assert "line 2: column 'Tax File No' (tfn): must be a tax file number of 9 digits" in err


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('[columns]\n"Shoe" = "shoe_size"', "columns: there is no column 'shoe_size'"),
        ("[column]\na = 'tfn'", "column: Extra inputs are not permitted"),
        ("columns = 3", "columns: Input should be a valid dictionary"),
        ("][", "is no TOML in UTF-8"),
        (None, "cannot be read: No such file or directory"),
    ],
)
def test_a_mapping_that_cannot_be_used_is_told(lodge: Lodge, tmp_path: Path, text: str | None, problem: str) -> None:
    write(tmp_path, today())
    if text is not None:
        (tmp_path / "export.toml").write_text(text)
    code, _, err = lodge("stp", "build", "payees.csv", "--mapping", "export.toml", "-o", "events")
    assert (code, problem in err, "[stp.mapping]" in err) == (2, True, True), err


def test_what_is_there_already_is_neither_replaced_nor_added_to(lodge: Lodge, tmp_path: Path) -> None:
    write(tmp_path, today())
    (tmp_path / "events").mkdir()
    assert lodge("stp", "build", "payees.csv", "-o", "events")[0] == 0
    code, _, err = lodge("stp", "build", "payees.csv", "-o", "events")
    assert (code, err) == (
        2,
        "lodge: events is there already, and what is in it would be lodged as well: name another [stp.out]\n",
    )
    (tmp_path / "one.xml").write_text("mine")
    assert "one.xml is there already, and it is not replaced" in lodge("stp", "build", "payees.csv", "-o", "one.xml")[2]
    assert (tmp_path / "one.xml").read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("payees.txt", "-o", "e"), "payees.txt: must end in .csv, .ndjson or .jsonl"),
        (("gone.csv", "-o", "e"), "gone.csv: No such file or directory"),
        (("payees.csv", "-o", "e", "--at", "now"), "--at: must be a date and time in UTC"),
        (("payees.csv", "-o", "e", "--at", "2999-01-01T00:00:00Z"), "and not be in the future"),
        (("payees.csv", "-o", "payees.csv/e"), "payees.csv/e cannot be written: "),
    ],
)
def test_what_cannot_be_asked_for_is_told(
    lodge: Lodge, tmp_path: Path, arguments: tuple[str, ...], problem: str
) -> None:
    write(tmp_path, today())
    code, _, err = lodge("stp", "build", *arguments)
    assert (code, problem in err) == (2, True), err


def test_a_table_that_changes_while_it_is_read_leaves_nothing(
    lodge: Lodge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, today(1), today(2))

    class Changing(Table):
        """A payroll export that is written again between the two readings."""

        def lines(self) -> Iterator[Line]:
            yield from super().lines()
            path.write_bytes(as_csv([today(1), today(3)]))

    monkeypatch.setattr(stp_building, "Table", Changing)
    code, _, err = lodge("stp", "build", "payees.csv", "-o", "events")
    assert (code, err) == (1, "lodge: payees.csv was changed while it was read: build it again [stp.changed]\n")
    assert not (tmp_path / "events").exists()


def test_a_disk_that_is_full_leaves_nothing(lodge: Lodge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, today())

    def full(*_: object) -> Iterator[bytes]:
        yield b"half of it"
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(stp_building, "documents", full)
    code, _, err = lodge("stp", "build", "payees.csv", "-o", "events")
    assert (code, err) == (2, "lodge: events cannot be written: No space left on device [stp.out]\n")
    assert not (tmp_path / "events").exists()


@pytest.mark.parametrize("kind", ["csv", "ndjson"])
def test_a_synthetic_pay_run_builds_to_the_events_it_writes_itself(lodge: Lodge, tmp_path: Path, kind: str) -> None:
    size = ("--employers", "7", "--payees", "60", "--seed", "4")
    assert lodge("sandbox", "payrun", *size, "--as", kind, "-o", "table")[0] == 0
    assert lodge("sandbox", "payrun", *size, "--as", "documents", "-o", "ready")[0] == 0
    assert lodge("stp", "build", f"table/payees.{kind}", "-o", "built")[0] == 0
    built = sorted(one.read_bytes() for one in (tmp_path / "built").iterdir())
    assert built == sorted(one.read_bytes() for one in (tmp_path / "ready" / "events").iterdir())
    assert sum(check(one)[1] for one in built) == 60
    assert set(re.findall(rb"TaxFileNumberId>([0-9]+)<", b"".join(built))) == {b"111111111"}
    assert "SYNTHETIC" in (tmp_path / "table" / "README").read_text()


def test_a_synthetic_pay_run_is_another_with_another_seed_and_is_not_added_to_a_folder(
    lodge: Lodge, tmp_path: Path
) -> None:
    size = ("--employers", "2", "--payees", "9", "--date", "2026-11-20")
    for seed, out in (("1", "a"), ("1", "b"), ("2", "c")):
        assert lodge("sandbox", "payrun", *size, "--seed", seed, "-o", out)[0] == 0
    one, same, other = [(tmp_path / out / "payees.csv").read_bytes() for out in "abc"]
    assert one == same != other
    assert "a is there already and is not added to" in lodge("sandbox", "payrun", *size, "-o", "a")[2]
    assert (
        "--payees: 9 employers have at least 9 payees"
        in lodge("sandbox", "payrun", "--employers", "9", "--payees", "8", "-o", "d")[2]
    )


def test_the_columns_are_documented_as_they_are(lodge: Lodge) -> None:
    text = DOCUMENTATION.read_text()
    for column in (payer_columns() | payee_columns() | total_columns()).values():
        if not column.name.startswith(STREAMS[1:]):
            form = ", ".join(column.choices) or column.form.value
            place = column.place.replace("Remuneration[1]", "Remuneration")
            assert f"| `{column.name}` | {'yes' if column.required else ''} | {form} | `{place}` |" in text
    listed = json.loads(lodge("stp", "columns", "--json")[1])
    assert [one["name"] for one in listed] == [*payer_columns(), *payee_columns(), *total_columns()]
    assert "IncomeStreamTypeC" in lodge("stp", "columns")[1]
