"""What the doctor says of keys: file modes, dates and chains."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509

from pipeline.interfaces.cli.doctor.endpoints import Stage
from pipeline.interfaces.cli.doctor.keys import (
    FileState,
    judge_chain,
    judge_expiry,
    judge_keystore_file,
    keystore_file_line,
    keystore_lines,
)
from pipeline.interfaces.cli.doctor.line import RENEWERS, Role, Verdict
from pipeline.protocol.credential import EXPIRY_WARNING, Credential
from pipeline.protocol.synthetic_keystore import write
from pipeline.settings import EnvironmentSettings
from tests.doubles.synthetic_credentials import (
    AGENT_ABN,
    CLIENT_ABN,
    ISSUED_AT,
    credential,
    leaf_of,
    lone_authority,
    root_authority,
    sub_authority,
)

NOW = ISSUED_AT + timedelta(days=30)
PATH = Path("/etc/lodge/keystore.xml")
DAY = timedelta(days=1)


@pytest.mark.parametrize(
    ("left", "verdict"),
    [
        (300 * DAY, Verdict.PASS),
        (EXPIRY_WARNING, Verdict.PASS),
        (EXPIRY_WARNING - timedelta(seconds=1), Verdict.WARN),
        (timedelta(seconds=1), Verdict.WARN),
        (timedelta(0), Verdict.FAIL),
        (-DAY, Verdict.FAIL),
    ],
)
def test_a_credential_is_told_sixty_days_before_it_ends_and_by_whom_it_is_renewed(
    left: timedelta, verdict: Verdict
) -> None:
    line = judge_expiry("ABRD:51824753556_Synthetic", NOW + left, NOW)
    assert line.verdict is verdict
    assert line.measured["left_days"] == pytest.approx(left / DAY, abs=0.01)
    assert line.who == (() if verdict is Verdict.PASS else RENEWERS)
    assert {"principal_authority", "machine_credential_administrator"} == set(RENEWERS)


@pytest.mark.parametrize(
    ("mode", "encrypted", "verdict"),
    [
        (0o600, True, Verdict.PASS),
        (0o400, False, Verdict.PASS),
        (0o640, True, Verdict.WARN),
        (0o644, True, Verdict.WARN),
        (0o640, False, Verdict.FAIL),
        (0o660, True, Verdict.FAIL),
        (0o602, True, Verdict.FAIL),
    ],
)
def test_the_mode_of_a_keystore_is_judged_by_what_it_guards(mode: int, encrypted: bool, verdict: Verdict) -> None:
    line = judge_keystore_file(PATH, FileState(0o100000 | mode, encrypted))
    assert line.verdict is verdict
    assert (f"chmod 600 {PATH}" in line.fix) is (verdict is not Verdict.PASS)


@pytest.mark.parametrize(
    ("content", "verdict"),
    [
        (b"-----BEGIN PRIVATE KEY-----\n", Verdict.FAIL),
        (b"-----BEGIN RSA PRIVATE KEY-----\n", Verdict.FAIL),
        (b"-----BEGIN ENCRYPTED PRIVATE KEY-----\n", Verdict.WARN),
        (b"<credentialStore/>", Verdict.WARN),
    ],
)
def test_a_key_without_a_password_must_not_be_readable_by_others(
    tmp_path: Path, content: bytes, verdict: Verdict
) -> None:
    path = tmp_path / "key"
    path.write_bytes(content)
    path.chmod(0o644)
    assert keystore_file_line(path).verdict is verdict


def test_a_keystore_that_is_not_there_is_told(tmp_path: Path) -> None:
    line = keystore_file_line(tmp_path / "absent.xml")
    assert line.verdict is Verdict.FAIL
    assert "absent.xml" in line.found


LEAF, SUB, ROOT = credential().certificate, sub_authority().certificate, root_authority().certificate


def holder_of(certificates: Sequence[x509.Certificate]) -> Credential:
    """A credential with this leaf, and the others in the order given."""
    leaf, *others = certificates
    return replace(credential(), certificate=leaf, chain=tuple(others))


@pytest.mark.parametrize(
    ("certificates", "stage", "verdict", "words"),
    [
        ((LEAF, SUB, ROOT), Stage.TEST, Verdict.PASS, "Payroll ← Synthetic Sub CA ← Synthetic Root CA, complete"),
        ((LEAF, ROOT, SUB), Stage.TEST, Verdict.PASS, "complete"),
        ((LEAF, SUB), Stage.TEST, Verdict.WARN, "no certificate of the issuer 'Synthetic Root CA'"),
        ((LEAF, ROOT), Stage.TEST, Verdict.WARN, "no certificate of the issuer 'Synthetic Sub CA'"),
        ((LEAF,), Stage.UNKNOWN, Verdict.WARN, "no certificate of the issuer 'Synthetic Sub CA'"),
        ((LEAF, SUB, ROOT), Stage.PRODUCTION, Verdict.WARN, "issues test credentials"),
        ((LEAF, SUB, ROOT), Stage.UNKNOWN, Verdict.PASS, "complete"),
    ],
)
def test_a_chain_is_followed_by_its_signatures_in_any_order(
    certificates: Sequence[x509.Certificate], stage: Stage, verdict: Verdict, words: str
) -> None:
    line = judge_chain(holder_of(certificates), stage, NOW)
    assert line.verdict is verdict, line
    assert words in line.found


def test_an_authority_that_has_expired_is_told() -> None:
    line = judge_chain(holder_of((LEAF, SUB, ROOT)), Stage.TEST, ISSUED_AT + timedelta(days=731))
    assert line.verdict is Verdict.WARN
    assert "Synthetic Sub CA" in line.found


@pytest.mark.parametrize(
    ("issuer", "stage", "verdict", "who"),
    [
        ("ATO Sub Certification Authority", Stage.PRODUCTION, Verdict.PASS, ()),
        ("ATO Sub Certification Authority", Stage.TEST, Verdict.WARN, (Role.PROVIDER,)),
        ("ATO Sub Certification Authority Preprod02", Stage.TEST, Verdict.PASS, ()),
        ("ATO Sub Certification Authority Offline01", Stage.PRODUCTION, Verdict.WARN, RENEWERS),
        ("Test Australian Business Register CA", Stage.PRODUCTION, Verdict.WARN, RENEWERS),
    ],
)
def test_an_issuer_of_the_other_world_is_told(
    issuer: str, stage: Stage, verdict: Verdict, who: tuple[Role, ...]
) -> None:
    authority = lone_authority(issuer)
    line = judge_chain(holder_of((leaf_of(authority), authority.certificate)), stage, NOW)
    assert (line.verdict, line.who) == (verdict, who)


def environment(path: Path, wanted: str) -> EnvironmentSettings:
    return EnvironmentSettings(
        agency_url="https://localhost",
        sts_url="https://localhost/sts",
        applies_to="https://relying.example",
        keystore=path,
        keystore_password_file=path.with_suffix(".password"),
        credential=wanted,
    )


@pytest.fixture(scope="module")
def keystore(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two credentials, one of which ends within the time of warning."""
    soon = credential(f"ABRD:{CLIENT_ABN}_Soon", 5, timedelta(days=50))
    path = tmp_path_factory.mktemp("keys") / "keystore.xml"
    path.write_bytes(write([credential(), soon], "hunter2", b"s" * 32))
    path.chmod(0o600)
    write_password(path, "hunter2")
    return path


def write_password(keystore: Path, password: str) -> None:
    file = keystore.with_suffix(".password")
    file.write_text(password)
    file.chmod(0o600)


def test_each_credential_that_is_about_to_end_is_told(keystore: Path) -> None:
    lines, chosen = keystore_lines(environment(keystore, AGENT_ABN), Stage.TEST, NOW, readable=True)
    told = [(str(line.check), line.verdict) for line in lines]
    assert told == [
        ("keys.keystore_file", Verdict.PASS),
        ("keys.unlock", Verdict.PASS),
        ("keys.credential", Verdict.PASS),
        ("keys.expiry", Verdict.PASS),
        ("keys.expiry", Verdict.WARN),
        ("keys.chain", Verdict.PASS),
    ]
    assert chosen is not None
    assert chosen.abn == AGENT_ABN
    assert "_Soon" in lines[4].found


def test_a_wrong_password_fails_once_and_is_not_repeated_anywhere(keystore: Path, tmp_path: Path) -> None:
    copy = tmp_path / "keystore.xml"
    copy.write_bytes(keystore.read_bytes())
    copy.chmod(0o600)
    write_password(copy, "swordfish")
    lines, chosen = keystore_lines(environment(copy, AGENT_ABN), Stage.TEST, NOW, readable=True)
    assert chosen is None
    assert [str(line.check) for line in lines if line.verdict is Verdict.FAIL] == ["keys.unlock"]
    assert {line.verdict for line in lines[2:]} == {Verdict.SKIP}
    assert "swordfish" not in repr(lines)


def test_a_credential_that_is_not_there_is_told_with_those_that_are(keystore: Path) -> None:
    lines, chosen = keystore_lines(environment(keystore, "51824753556"), Stage.TEST, NOW, readable=True)
    assert chosen is None
    line = next(line for line in lines if line.check == "keys.credential")
    assert line.verdict is Verdict.FAIL
    assert f"ABRD:{CLIENT_ABN}_Soon" in line.found
