"""Evidence of what the pipeline lodged with the sandbox, by the command, and checked with nothing of ours."""

import asyncio
import hashlib
import json
import os
import shutil
import stat
import subprocess
import zipfile
from datetime import timedelta
from pathlib import Path

import pytest

from pipeline.bootstrap import opened
from pipeline.broker.port import Exchange, Outgoing
from pipeline.ledger import lodgments, software_ids
from pipeline.lodgment.states import FINAL, Step
from pipeline.profiles import payroll_product
from pipeline.sandbox.server import Sandbox
from pipeline.settings import Settings
from tests.doubles.command import Lodge
from tests.doubles.evidence_keys import KINDS, certificate_of, key_file, key_of, pem_of, public_pem
from tests.doubles.jobs import job
from tests.doubles.pay_jobs import pay_job
from tests.doubles.registered_ids import registered
from tests.services.sandbox_home import new_home
from workers.process import Worker, run

JOBS = {
    "pay": pay_job("pay", "partially-accept"),
    "lost": pay_job("lost", "lost-reply"),
    "name": job("name"),
    "refused": job("refused", "reject"),
}
PATIENCE = 60.0
OPENSSL = shutil.which("openssl")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a pipeline that has lodged `JOBS`; no test changes it."""
    folder = tmp_path_factory.mktemp("home")
    asyncio.run(_lodge_all(folder))
    return folder


async def _lodge_all(folder: Path) -> None:
    async with Sandbox(new_home(folder / "sandbox")) as sandbox:
        settings = Settings(home=folder, sandbox_url=sandbox.url, stuck_after=timedelta(seconds=20))
        async with opened(settings) as parts:
            async with parts.ledger.transaction() as tx:
                await software_ids.add(tx, [registered(payroll_product(settings))])
            stop = asyncio.Event()
            working = asyncio.create_task(run(parts, tuple(Worker), stop))
            jobs = [Outgoing(Exchange.JOBS, Step.RECEIVE, body, name) for name, body in JOBS.items()]
            await parts.broker.publish(jobs)
            async with asyncio.timeout(PATIENCE):
                while True:
                    async with parts.ledger.transaction(read_only=True) as tx:
                        rows = await lodgments.known_jobs(tx, list(JOBS))
                    if len(rows) == len(JOBS) and all(row.state in FINAL for row in rows.values()):
                        break
                    await asyncio.sleep(0.02)
            stop.set()
            await working


@pytest.fixture
def lodge(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Lodge:
    for name in [name for name in os.environ if name.startswith("LODGE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("LODGE_HOME", str(home))
    monkeypatch.chdir(tmp_path)
    return Lodge(capsys)


@pytest.mark.parametrize("which", JOBS)
def test_evidence_of_what_was_lodged_holds(lodge: Lodge, tmp_path: Path, which: str) -> None:
    key_file(tmp_path, pem_of(key_of("ec")), name="key.pem")
    key_file(tmp_path, public_pem(key_of("ec")), name="trust.pem")
    left = lodge("evidence", which, "--out", "e.zip", "--sign-key", "key.pem")
    assert (left.code, "PERSONAL DATA" in left.err) == (0, True), left.err
    assert stat.S_IMODE((tmp_path / "e.zip").stat().st_mode) == 0o600
    held = lodge("evidence", "verify", "e.zip", "--trust", "trust.pem")
    assert held.code == 0, held.out
    assert "FAIL" not in held.out
    assert "RSA signature over" in held.out
    assert ("repeats all 4 digests" in held.out) is (which in {"pay", "lost"})
    again = lodge("evidence", which, "--out", "again.zip", "--sign-key", "key.pem")
    assert again.code == 0
    assert (tmp_path / "again.zip").read_bytes() == (tmp_path / "e.zip").read_bytes()


def test_evidence_tells_the_story_with_every_code_explained(lodge: Lodge, tmp_path: Path) -> None:
    assert lodge("evidence", "pay", "--out", "e.zip").code == 0
    with zipfile.ZipFile(tmp_path / "e.zip") as container:
        story = {name: json.loads(container.read(name)) for name in container.namelist() if name.endswith(".json")}
    (event,) = story["events.json"]["events"]
    assert (event["code"], event["record"], event["payee"]) == ("CMN.ATO.GEN.402043", "1.3", "SYN-2")
    explained = story["events.json"]["explanations"]["CMN.ATO.GEN.402043"]
    assert (explained["who"], explained["retried"]) == ("producer", "as a new job")
    assert [one["purpose"] for one in story["attempts.json"]] == ["submit", "poll"]
    assert all(one["http_status"] == 200 for one in story["attempts.json"])
    told = [one["what"] for one in story["history.json"]["history"]]
    assert told[0] == "received"
    assert {"sealed", "attempt begun", "first byte left", "attempt ended", "outcome recorded", "final"} <= set(told)
    assert [one["kind"] for one in story["manifest.json"]["replies"]] == ["receipt", "response"]
    assert story["lodgment.json"]["outcome"]["state"] == "partially_accepted"


def test_evidence_without_the_document_holds_and_does_not_hold_the_document(lodge: Lodge, tmp_path: Path) -> None:
    assert lodge("evidence", "name", "--out", "e.zip").code == 0
    assert lodge("evidence", "name", "--out", "without.zip", "--without-payload").code == 0
    left = lodge("evidence", "verify", "without.zip", "--json")
    assert (left.code, json.loads(left.out)["good"]) == (0, True)
    with zipfile.ZipFile(tmp_path / "e.zip") as whole, zipfile.ZipFile(tmp_path / "without.zip") as without:
        document = whole.read("payload.xml")
        assert document in whole.read("envelopes/0001.xml")
        assert all(document not in without.read(name) for name in without.namelist())
        head, tail = (without.read(f"envelopes/0001.{part}") for part in ("head", "tail"))
        (envelope,) = json.loads(without.read("manifest.json"))["envelopes"]
    assert hashlib.sha256(head + document + tail).hexdigest() == envelope["sha256"]


@pytest.mark.skipif(OPENSSL is None, reason="openssl is not installed")
@pytest.mark.parametrize("kind", KINDS)
def test_a_third_party_needs_nothing_of_ours(lodge: Lodge, tmp_path: Path, kind: str) -> None:
    """As docs/evidence.md has it: zipfile, hashlib, json and openssl."""
    authority_key, key = key_of("ec", "authority"), key_of(kind)
    authority = certificate_of(authority_key, "Synthetic authority")
    own = certificate_of(key, "Synthetic operator", authority, authority_key)
    key_file(tmp_path, pem_of(key), pem_of(own), name="key.pem")
    key_file(tmp_path, pem_of(authority), name="ca.pem")
    assert lodge("evidence", "pay", "--out", "e.zip", "--sign-key", "key.pem").code == 0
    assert lodge("evidence", "verify", "e.zip", "--trust", "ca.pem").code == 0
    with zipfile.ZipFile(tmp_path / "e.zip") as container:
        for name in ("manifest.json", "manifest.json.sig", "signer.pem"):
            (tmp_path / name).write_bytes(container.read(name))
        listed = json.loads(container.read("manifest.json"))["files"]
        assert {one["name"] for one in listed} | {"manifest.json", "manifest.json.sig", "signer.pem"} == set(
            container.namelist()
        )
        for one in listed:
            assert hashlib.sha256(container.read(one["name"])).hexdigest() == one["sha256"]

    def openssl(*arguments: str) -> bytes:
        done = subprocess.run([str(OPENSSL), *arguments], cwd=tmp_path, capture_output=True, timeout=30, check=False)
        return done.stdout + done.stderr

    assert b"OK" in openssl("verify", "-CAfile", "ca.pem", "signer.pem")
    (tmp_path / "key.pub").write_bytes(openssl("x509", "-in", "signer.pem", "-pubkey", "-noout"))
    signature = ("manifest.json.sig", "manifest.json")
    check = ["dgst", "-sha256", "-verify", "key.pub", "-signature", *signature]
    if kind == "ed25519":
        check = ["pkeyutl", "-verify", "-pubin", "-inkey", "key.pub", "-rawin", "-sigfile", signature[0]]
        check += ["-in", signature[1]]
    assert b"Verified" in openssl(*check)
    changed = (tmp_path / "manifest.json").read_bytes().replace(b"partially_accepted", b"accepted")
    (tmp_path / "manifest.json").write_bytes(changed)
    assert b"Verified Successfully" not in openssl(*check)
    assert b"Verified OK" not in openssl(*check)


def test_a_key_in_the_settings_signs(lodge: Lodge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key_file(tmp_path, pem_of(key_of("ed25519"), "swordfish"), name="key.pem")
    key_file(tmp_path, b"swordfish", name="password")
    monkeypatch.setenv("LODGE_EVIDENCE_KEY", str(tmp_path / "key.pem"))
    monkeypatch.setenv("LODGE_EVIDENCE_KEY_PASSWORD_FILE", str(tmp_path / "password"))
    left = lodge("evidence", "name")
    assert (left.code, "NOT SIGNED" in left.err) == (0, False)
    (written,) = tmp_path.glob("evidence-*.zip")
    assert "signed by a key without certificate" in lodge("evidence", "verify", str(written)).out


def test_unsigned_evidence_says_so_and_is_not_enough_for_who_trusts_a_key(lodge: Lodge, tmp_path: Path) -> None:
    key_file(tmp_path, public_pem(key_of("ec")), name="trust.pem")
    left = lodge("evidence", "name", "--out", "e.zip")
    assert (left.code, "NOT SIGNED" in left.err) == (0, True)
    alone = lodge("evidence", "verify", "e.zip")
    assert (alone.code, "is not signed" in alone.out) == (0, True)
    trusting = lodge("evidence", "verify", "e.zip", "--trust", "trust.pem")
    assert (trusting.code, "[evidence.bad]" in trusting.err) == (1, True)


def test_a_file_that_is_there_is_not_replaced_and_half_of_one_does_not_stay(lodge: Lodge, tmp_path: Path) -> None:
    (tmp_path / "e.zip").write_bytes(b"precious")
    left = lodge("evidence", "name", "--out", "e.zip")
    assert (left.code, "[file.exists]" in left.err) == (2, True)
    assert (tmp_path / "e.zip").read_bytes() == b"precious"
    assert "[file.write]" in lodge("evidence", "name", "--out", "nowhere/e.zip").err
    assert "[lodgment.none]" in lodge("evidence", "nonsense", "--out", "n.zip").err
    assert "[evidence.key]" in lodge("evidence", "name", "--out", "n.zip", "--sign-key", "nowhere.pem").err
    assert not (tmp_path / "n.zip").exists()


def test_verifying_needs_neither_ledger_nor_settings(
    lodge: Lodge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert lodge("evidence", "name", "--out", "e.zip").code == 0
    monkeypatch.setenv("LODGE_HOME", str(tmp_path / "nowhere"))
    monkeypatch.setenv("LODGE_SETTINGS_FILE", "/nowhere/lodge.toml")
    assert lodge("evidence", "verify", "e.zip").code == 0
    assert not (tmp_path / "nowhere").exists()


def test_codes_that_nobody_has_explained_are_listed_with_an_example(lodge: Lodge) -> None:
    gaps = json.loads(lodge("codes", "--gaps", "--json").out)
    assert {one["code"] for one in gaps} == {"S9001", "S9002", "S9101"}
    example = gaps[0]["example"]
    story = json.loads(lodge("explain", example, "--json").out)
    assert gaps[0]["code"] in {one["code"] for one in story["events"]}
    assert [one["code"] for one in json.loads(lodge("codes", "S9002", "--gaps", "--json").out)] == ["S9002"]
    assert "S9001" in lodge("codes", "--gaps").out


def test_explain_names_the_payee_and_what_the_code_means(lodge: Lodge) -> None:
    told = lodge("explain", "pay").out
    line = next(line for line in told.splitlines() if line.startswith("Error"))
    assert "SYN-2" in line
    assert "1.3" in line
    assert "fails its check digit" in told
    assert "111111111" not in told
