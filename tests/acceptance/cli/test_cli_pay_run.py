"""A pay event from the command line: held for a permission, released, lodged again; and the agencies' book of it."""

from pathlib import Path
from uuid import uuid4

from tests.acceptance.cli.conftest import Lodge
from tests.doubles.pay_jobs import SOFTWARE_ID, pay_job
from tests.doubles.stp import ABN


def test_a_pay_event_that_is_held_for_a_permission_is_lodged_once_it_is_released(lodge: Lodge, tmp_path: Path) -> None:
    (tmp_path / "ids.csv").write_text(f"abn,software_id\n{ABN},{SOFTWARE_ID}\n")
    assert lodge("db", "upgrade").code == 0
    assert lodge("software-ids", "import", "ids.csv").code == 0
    # The sandbox is shared by all tests: a document that another one lodged would be a duplicate.
    name = f"pay-{uuid4().hex}"
    job = pay_job(name, "not-authorised")
    held = lodge("submit", "-", "--wait", stdin=job)
    assert held.code != 0
    assert "SBR.GEN.AUTH.006" in held.out

    released = lodge("release", "--held-for", "SBR.GEN.AUTH.006", "--reason", "the employer has notified us")
    assert (released.code, "Released: 1." in released.out) == (0, True), released.err
    again = lodge("submit", "-", "--wait", stdin=job)
    assert again.code == 0, again.err

    reference = lodge("explain", name, "--json").json()["lodgment"]["reference"]
    (line,) = [one for one in lodge("sandbox", "book", "--json").json() if one["reference"].startswith(reference)]
    assert (line["channel"], line["gateway"], line["software_id"]) == ("sbr2_stp", "first", SOFTWARE_ID)
    assert (line["seen"], line["processed"], line["pulls"], line["violations"]) == (2, 1, 1, None)
    assert "sbr2_stp" in lodge("sandbox", "book").out
