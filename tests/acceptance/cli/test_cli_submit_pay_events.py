"""Files of pay events from the command line: split by payer, checked, sealed and verified, nothing sent."""

import gzip
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pipeline.lodgment.job import INLINE_LIMIT
from pipeline.protocol.as4_verify import PUSH_POLICY, verify_message
from pipeline.protocol.mime import read_package
from tests.acceptance.cli.conftest import Lodge
from tests.doubles.stp import ABN, child, parent

SBR2 = """
[environments.elsewhere.sbr2]
gateways = {first = "https://localhost:9"}
gateway = "first"
applies_to = "https://sbr.sandbox.invalid"
product_id = "SYNTHETIC-0001"
vendor = "Synthetic Payroll Pty Ltd"
name = "Synthetic Pay"
version = "1.0"
domain = "pipeline.example.test"
software_ids = false
"""


def payer(number: int, changes: dict[str, str] | None = None, family_name: str = "Synthetic") -> bytes:
    own = f"{number}.1"
    today = f"{datetime.now(UTC):%Y-%m-%d}"
    usual = {
        "Rp/Payroll/PaymentRecordTransactionD": today,
        "Rp/Declaration/SignatureD": today,
        "Rp/Payroll/MessageTimestampGenerationDt": f"{today}T00:00:00Z",
        "Rp/Payroll/InteractionTransactionId": f"SYN-{number}",
        "Rp/Payroll/InteractionRecordCt": "1",
    }
    name = {"Payee/PersonNameDetails/FamilyNameT": family_name}
    return (parent({**usual, **(changes or {})}, own) + child(1, name, own)).encode()


@pytest.fixture
def sbr2(lodge: Lodge, sandbox_settings: Path) -> Lodge:
    """The command with settings that describe an SBR2 environment; nobody listens at its gateway."""
    sandbox_settings.write_text(sandbox_settings.read_text() + SBR2)
    lodge.environment["LODGE_SETTINGS_FILE"] = str(sandbox_settings)
    return lodge


def lodged(message: bytes) -> bytes:
    """The document in a message, once its signature was found to be by the certificate it names."""
    boundary = message.split(b"\r\n", 1)[0].removeprefix(b"--").decode()
    package = read_package(f'multipart/related; type="application/soap+xml"; boundary="{boundary}"', (message,))
    verified = verify_message(package.root, package.attachments, PUSH_POLICY, lambda named: named)
    (attached,) = verified.attachments
    return gzip.decompress(attached.content)


def test_a_file_of_several_payers_is_sealed_and_verified_part_by_part(sbr2: Lodge, tmp_path: Path) -> None:
    parts = [payer(1), payer(2, family_name="Synthetic" * (INLINE_LIMIT // 9 + 1)), payer(3)]
    (tmp_path / "events.xml").write_bytes(b"".join(parts))
    left = sbr2("submit", "events.xml", "--dry-run", "--offline")
    assert left.code == 0, left.err + left.out
    assert left.out.count("sealed, signature and digests verified") == 3
    messages = [path.read_bytes() for path in (tmp_path / "dry-run").iterdir()]
    assert sorted(map(lodged, messages)) == sorted(parts)
    assert list((tmp_path / "var" / "spool").iterdir()) == []


def test_one_bad_payer_stops_the_file_or_is_left_out_if_wished(sbr2: Lodge, tmp_path: Path) -> None:
    bad = payer(2, {"Rp/Payroll/InteractionRecordCt": "7"})
    (tmp_path / "events.xml").write_bytes(payer(1) + bad + payer(3))
    stopped = sbr2("submit", "events.xml", "--dry-run", "--offline")
    assert stopped.code == 1
    fault = "payload: document 2.1, InteractionRecordCt: says 7 payee records, 1 follow (PAYEVNT.000191)"
    assert f"events.xml, payer 2 (document 2.1): {fault}" in stopped.err
    assert not (tmp_path / "dry-run").exists()

    skipped = sbr2("submit", "events.xml", "--dry-run", "--offline", "--skip-invalid")
    assert skipped.code == 1
    assert "1 bad, 2 good: the good ones go on." in skipped.err
    assert sorted(lodged(path.read_bytes()) for path in (tmp_path / "dry-run").iterdir()) == [payer(1), payer(3)]


def test_an_action_that_there_is_not_is_told_with_those_that_there_are(sbr2: Lodge, tmp_path: Path) -> None:
    (tmp_path / "event.xml").write_bytes(payer(1))
    left = sbr2("submit", "event.xml", "--action", "Amend", "--dry-run", "--offline")
    assert left.code == 1
    assert "payevnt/Adjust, payevnt/Submit, payevnt/Update" in left.err


def test_an_environment_without_sbr2_settings_says_so(lodge: Lodge, sandbox_settings: Path, tmp_path: Path) -> None:
    (tmp_path / "event.xml").write_bytes(payer(1))
    left = lodge("submit", "event.xml", "--dry-run", "--offline", LODGE_SETTINGS_FILE=str(sandbox_settings))
    assert left.code == 1
    assert "channel: unknown; this pipeline has asic_bn" in left.err


def test_a_file_of_several_payers_is_lodged_and_submitting_it_again_lodges_nothing_more(
    lodge: Lodge, tmp_path: Path
) -> None:
    large = payer(2, family_name="Synthetic" * (INLINE_LIMIT // 9 + 1))
    (tmp_path / "events.xml").write_bytes(payer(1) + large)
    assert lodge("db", "upgrade").code == 0
    made = lodge("software-ids", "generate", ABN, "--note", "synthetic client")
    assert made.code == 0, made.err
    for _ in range(2):
        left = lodge("submit", "events.xml", "--wait")
        assert left.code == 0, left.err + left.out
        states = {one["state"]: one["count"] for one in lodge("status", "--json").json()["states"]}
        assert states == {"accepted": 2}
    assert list((tmp_path / "var" / "spool").iterdir()) == []
