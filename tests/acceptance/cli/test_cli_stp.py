"""From a table of payees to accepted lodgments, as a payroll engineer types it."""

from pathlib import Path

from tests.acceptance.cli.conftest import Lodge


def test_a_table_of_payees_is_built_and_lodged(lodge: Lodge, tmp_path: Path) -> None:
    made = lodge("sandbox", "payrun", "--employers", "6", "--payees", "300", "--seed", "77", "-o", "payrun")
    assert made.code == 0, made.err
    assert lodge("db", "upgrade").code == 0
    assert lodge("software-ids", "import", "payrun/software-ids.csv").out.startswith("Registered: 6;")
    built = lodge("stp", "build", "payrun/payees.csv", "-o", "events")
    assert (built.code, "6 event(s) of 300 payee(s) in events" in built.out) == (0, True), built.err
    left = lodge("submit", "events", "--wait")
    assert left.code == 0, left.err + left.out
    states = {one["state"]: one["count"] for one in lodge("status", "--json").json()["states"]}
    assert states == {"accepted": 6}
    # One of them is so large that it went by reference.
    assert max(one.stat().st_size for one in (tmp_path / "events").iterdir()) > 256 * 1024
