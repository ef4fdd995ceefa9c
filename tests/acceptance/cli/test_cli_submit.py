"""Lodging from the command line: dry run, the embedded pipeline, and what comes of bad input."""

import base64
import sqlite3
import stat
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from lxml import etree

from pipeline.protocol.verify import Expectation, verify_envelope
from pipeline.sandbox.home import open_home
from pipeline.sandbox.relying_party import RelyingParty
from tests.acceptance.cli.conftest import Lodge, Sandbox
from tests.doubles.jobs import ABN, document, job

OPTIONS = ("--sender-id", "SYNTHETIC-1", "--sender-type", "REGA", "--abn", ABN)
_WSSE = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-secext-1.0.xsd"
_XENC = "http://www.w3.org/2001/04/xmlenc#"


def booked(sandbox: Sandbox, reference: str) -> list[int]:
    """How often the sandbox processed this reference, by its own book."""
    with closing(sqlite3.connect(f"file:{sandbox.home / 'book.sqlite'}?mode=ro", uri=True)) as book:
        return [row[0] for row in book.execute("SELECT processed FROM entry WHERE reference = ?", (reference,))]


def test_a_dry_run_writes_envelopes_that_the_relying_party_can_verify(
    lodge: Lodge, sandbox: Sandbox, tmp_path: Path
) -> None:
    (tmp_path / "jobs.ndjson").write_bytes(job("a/1") + b"\n" + job("a/2", not_before="2031-01-01T00:00:00Z") + b"\n")
    left = lodge("submit", "jobs.ndjson", "--dry-run", "--out", "sealed")
    assert left.code == 0, left.err
    written = sorted((tmp_path / "sealed").iterdir())
    assert [path.name for path in written] == ["a%2F1.xml", "a%2F2.xml"]

    home = open_home(sandbox.home, datetime.now(UTC))
    relying_party = RelyingParty(home.relying_party, home.sts.certificate)
    for path in written:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        root = etree.fromstring(path.read_bytes())
        token = relying_party.open(next(root.iter(f"{{{_XENC}}}EncryptedData")))
        certificate = base64.b64decode(root.findtext(f".//{{{_WSSE}}}BinarySecurityToken", ""))
        body = verify_envelope(path.read_bytes(), Expectation(certificate, token.proof_key))
        assert "Synthetic Bakery" in "".join(str(text) for text in body.itertext())
        assert booked(sandbox, next(body.iter("{*}messageReferenceNumber")).text or "") == []
    assert not (tmp_path / "var" / "ledger.sqlite3").exists()


def test_an_offline_dry_run_needs_no_agency(lodge: Lodge, tmp_path: Path) -> None:
    (tmp_path / "one.xml").write_text(document())
    left = lodge("submit", "one.xml", *OPTIONS, "--dry-run", "--offline", LODGE_SANDBOX_URL="https://localhost:9")
    assert left.code == 0, left.err
    assert "both signatures verified (token of our own making: no agency takes it)" in left.out
    assert len(list((tmp_path / "dry-run").iterdir())) == 1


def test_a_dry_run_says_why_nothing_could_be_sealed(lodge: Lodge, tmp_path: Path) -> None:
    (tmp_path / "one.xml").write_text(document())
    left = lodge("submit", "one.xml", *OPTIONS, "--dry-run", LODGE_SANDBOX_URL="https://localhost:9")
    assert left.code == 1
    assert "NOT sealed, parked: transport.connect" in left.out
    assert list((tmp_path / "dry-run").iterdir()) == []


def test_documents_are_lodged_and_a_rejected_one_can_be_explained(lodge: Lodge, tmp_path: Path) -> None:
    (tmp_path / "good.xml").write_text(document())
    (tmp_path / "bad.xml").write_text(document("reject", name="Taken"))
    left = lodge("submit", "good.xml", "bad.xml", *OPTIONS, "--wait", "--label", "batch=night")
    assert left.code == 1, left.err
    assert "bad.xml" in left.out
    assert "S9001" in left.out

    states = {one["state"]: one["count"] for one in lodge("status", "--json").json()["states"]}
    assert states == {"accepted": 1, "rejected": 1}

    (rejected,) = [line.split()[1] for line in left.out.splitlines() if "bad.xml" in line]
    story = lodge("explain", rejected, "--reply", "reply.xml", "--envelope", "envelope.xml")
    assert story.code == 0, story.err
    assert story.out.startswith("REJECTED")
    assert "the producer (whoever wrote the job or its document)" in story.out
    assert "the proposed name is not available" in story.out
    assert "batch=night" in story.out
    for name in ("reply.xml", "envelope.xml"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
        etree.parse(tmp_path / name)


def test_the_same_file_again_is_the_same_lodgment(lodge: Lodge, sandbox: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "one.xml").write_text(document(name="Once"))
    first, again = (lodge("submit", "one.xml", *OPTIONS, "--wait") for _ in range(2))
    assert (first.code, again.code) == (0, 0), again.err
    (count,) = lodge("status", "--json").json()["states"]
    assert (count["state"], count["count"]) == ("accepted", 1)
    job_id = next(word for word in again.out.split() if word.startswith("file-"))
    assert booked(sandbox, lodge("explain", job_id, "--json").json()["lodgment"]["reference"]) == [1]


def test_a_large_document_goes_by_reference_without_any_setting(lodge: Lodge, tmp_path: Path) -> None:
    body = document(name="Large").replace(
        "</businessDocumentBody>", f"<note>{'x' * 300_000}</note></businessDocumentBody>"
    )
    (tmp_path / "large.xml").write_text(body)
    left = lodge("submit", "large.xml", *OPTIONS, "--wait")
    assert left.code == 0, left.err + left.out


def test_bad_jobs_stop_all_of_them_unless_they_are_skipped(lodge: Lodge, tmp_path: Path) -> None:
    lines = job("good", payload={"inline": document(name="Skip")}) + b"\n" + job("bad", employer={"abn": "1"}) + b"\n"
    stopped = lodge("submit", "-", stdin=lines)
    assert stopped.code == 1
    assert "stdin, line 2: employer.abn: must be an ABN" in stopped.err
    assert not (tmp_path / "var" / "ledger.sqlite3").exists()

    skipped = lodge("submit", "-", "--skip-invalid", "--wait", stdin=lines)
    assert skipped.code == 1
    assert "accepted" in skipped.out


def test_a_job_id_with_other_content_is_refused_and_kept_in_quarantine(lodge: Lodge, tmp_path: Path) -> None:
    assert lodge("submit", "-", "--wait", stdin=job("one", payload={"inline": document(name="First")})).code == 0
    left = lodge("submit", "-", "--wait", stdin=job("one", payload={"inline": document(name="Second")}))
    assert left.code == 1
    assert "job.conflict" in left.out

    (kept,) = lodge("quarantine", "list", "--json").json()
    assert (kept["code"], kept["job_id"]) == ("job.conflict", "one")
    assert lodge("quarantine", "show", kept["id"], "--body", "body.json").code == 0
    assert b"Second" in (tmp_path / "body.json").read_bytes()
    assert lodge("status", "--json").json()["quarantined"] == 1


def test_what_is_held_goes_on_after_its_release(lodge: Lodge, tmp_path: Path) -> None:
    (tmp_path / "one.xml").write_text(document("invalid", name="Held"))
    left = lodge("submit", "one.xml", *OPTIONS, "--wait")
    assert left.code == 1
    (reason,) = lodge("status", "--json").json()["reasons"]
    assert (reason["state"], reason["code"], reason["count"]) == ("held", "asic:FAULT.INVALIDXML", 1)
    held = reason["example"]

    assert "cannot be cancelled" in lodge("cancel", held, "--reason", "too late").err
    released = lodge("release", "--held-for", reason["code"], "--reason", "schema mended")
    assert released.code == 0, released.err
    assert lodge("submit", "one.xml", *OPTIONS, "--wait").code == 0
    story = lodge("explain", held, "--json").json()
    assert story["lodgment"]["state"] == "accepted"
    assert [(one["action"], one["reason"]) for one in story["actions"]] == [("release", "schema mended")]
    assert len(story["attempts"]) == 2


def test_what_was_never_sent_can_be_cancelled(lodge: Lodge) -> None:
    left = lodge("submit", "-", stdin=job("later", not_before="2031-01-01T00:00:00Z"))
    assert left.code == 0, left.err
    assert "job.not-before" in left.out
    assert lodge("cancel", "later", "--reason", "not wanted").code == 0
    assert lodge("explain", "later").out.startswith("CANCELLED")


def test_waiting_ends_in_time(lodge: Lodge) -> None:
    left = lodge("submit", "-", "--wait", "--timeout", "2", stdin=job("later", not_before="2031-01-01T00:00:00Z"))
    assert left.code == 1
    assert "`lodge run` goes on with it" in left.out
