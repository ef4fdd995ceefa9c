"""Bad input at the door for jobs: refused by its rule, told once, kept to the byte, and nothing else is written."""

import asyncio
import hashlib
import json
import os
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from pipeline.broker.messages import OutcomeEvent
from pipeline.broker.port import Delivery, Exchange
from pipeline.gateway.documents import DocumentStore
from pipeline.ledger import migrate, quarantine
from pipeline.ledger.session import Ledger
from pipeline.ledger.tables import metadata
from pipeline.ledger.vault import Vault
from pipeline.lodgment.errors import RefusedError
from pipeline.lodgment.states import Step
from pipeline.stages.contract import Stage
from pipeline.stages.receive import Receive
from pipeline.stages.record import Record
from pipeline.stages.seal import Seal
from pipeline.stages.submit import Submit
from tests.doubles.jobs import document, job
from tests.integration.stages.conftest import Bench, DoubtfulLedger, drive
from tests.integration.stages.test_stage_submit import Agency

LIMIT = 60_000_000


@dataclass(frozen=True)
class Case:
    """What comes, and what must be said of it."""

    name: str
    body: bytes
    code: str
    words: tuple[str, ...]


def with_payload(payload: object) -> bytes:
    return job("bad", payload=payload)


def by_reference(reference: str, content: bytes = b"x") -> bytes:
    return with_payload(
        {"reference": reference, "size": max(1, len(content)), "sha256": hashlib.sha256(content).hexdigest()}
    )


def inline(content: str) -> bytes:
    return with_payload({"inline": content})


def edited(**changes: Any) -> bytes:
    return json.dumps({**json.loads(job("bad")), **changes}).encode()


BODY = document()
CASES = (
    Case("empty", b"", "job.json", ("not JSON",)),
    Case("half", job("bad")[:-40], "job.json", ("not JSON",)),
    Case("utf-16", job("bad").decode().encode("utf-16"), "job.invalid", ("job:", "Invalid JSON")),
    Case("latin-1", '{"job_id": "é"}'.encode("latin-1"), "job.json", ("not JSON",)),
    Case("a-list", b"[1]", "job.json", ("one JSON object",)),
    Case("nan", b'{"priority": NaN}', "job.invalid", ("priority:", "finite number")),
    Case("a-name-twice", b'{"job_id": "a", "job_id": "b"}', "job.json", ("stands twice", "keep one")),
    Case("deep", b'{"a":' * 3000 + b"1" + b"}" * 3000, "job.json", ("not JSON",)),
    Case("lone-surrogate", b'{"job_id": "\\ud800"}', "job.invalid", ("Invalid JSON",)),
    Case("nul-in-the-id", edited(job_id="a\0b"), "job.invalid", ("job_id:", "letter or digit")),
    Case("id-too-long", edited(job_id="a" * 129), "job.invalid", ("job_id:", "at most 128")),
    Case("id-a-number", edited(job_id=7), "job.invalid", ("job_id:", "string")),
    Case("version-2", edited(version=2), "job.version", ("version:", "1")),
    Case("version-true", edited(version="1"), "job.version", ("version:",)),
    Case("unknown-field", edited(colour="red"), "job.invalid", ("colour:", "not permitted")),
    Case("unknown-channel", edited(channel="nope"), "job.channel", ("channel:", "asic_bn")),
    Case("unknown-action", edited(action="nope"), "payload.action", ("action:", "bnLodgeApplication")),
    Case("channel-with-a-newline", edited(channel="a\nb"), "job.invalid", ("channel:", "letter or digit")),
    Case("sender-missing", edited(sender=None), "job.invalid", ("sender:",)),
    Case("sender-too-long", edited(sender={"id": "x" * 51, "type": "REGA"}), "job.invalid", ("sender.id:", "50")),
    Case("abn-of-letters", edited(employer={"abn": "ABCDEFGHIJK"}), "job.invalid", ("employer.abn:", "11 digits")),
    Case("abn-of-other-digits", edited(employer={"abn": "٥١٨٢٤٧٥٣٥٥٦"}), "job.invalid", ("employer.abn:", "11 digits")),
    Case("wpn-too-short", edited(employer={"wpn": "123"}), "job.invalid", ("employer.wpn:",)),
    Case("agent-number", edited(agent={"abn": "51824753556", "number": "x"}), "job.invalid", ("agent.number:",)),
    Case("due-date", edited(due_date="31/12/2026"), "job.invalid", ("due_date:", "date")),
    Case("due-date-not-there", edited(due_date="2026-02-30"), "job.invalid", ("due_date:", "date")),
    Case("priority", edited(priority=-1), "job.invalid", ("priority:", "0")),
    Case("priority-a-fraction", edited(priority=1.5), "job.invalid", ("priority:", "integer")),
    Case("too-many-labels", edited(labels={str(n): "x" for n in range(21)}), "job.invalid", ("labels:", "20")),
    Case("label-too-long", edited(labels={"a": "x" * 201}), "job.invalid", ("labels.a:", "200")),
    Case("payload-missing", edited(payload=None), "job.invalid", ("payload:",)),
    Case("payload-twice", with_payload({"inline": "<a/>", "reference": "file:/a"}), "job.invalid", ("exactly one",)),
    Case("payload-empty", inline(""), "job.invalid", ("payload:", "empty")),
    Case("payload-no-base64", with_payload({"inline_base64": "a"}), "job.invalid", ("not base64",)),
    Case("payload-other-size", with_payload({"inline": BODY, "size": 3}), "job.invalid", ("payload.size: says 3",)),
    Case("xml-none", inline("plain text"), "payload.xml.malformed", ("payload:", "well-formed", "line 1")),
    Case("xml-half", inline(BODY[:-5]), "payload.xml.malformed", ("well-formed",)),
    Case("xml-two-roots", inline(BODY + BODY), "payload.xml.malformed", ("well-formed",)),
    Case("xml-recovering", inline(BODY.replace("<holder>", "<holder")), "payload.xml.malformed", ("well-formed",)),
    Case("xml-entity", inline(BODY.replace("Bakery", "&xxe;")), "payload.xml.malformed", ("well-formed",)),
    Case(
        "xml-external-entity",
        inline(f'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>{BODY}'),
        "payload.xml.doctype",
        ("document type", "remove it"),
    ),
    Case("xml-parameter-entity", inline(f'<!DOCTYPE a [<!ENTITY % x "">%x;]>{BODY}'), "payload.xml.doctype", ()),
    Case("xml-control", inline(BODY.replace("Bakery", "\x01")), "payload.xml.malformed", ("well-formed",)),
    Case("xml-deep", inline(f"{'<a>' * 3000}{'</a>' * 3000}"), "payload.xml.malformed", ("well-formed",)),
    Case("xml-another-root", inline("<a/>"), "payload.root", ("root element must be businessDocumentBody",)),
    Case("xml-stylesheet", inline(BODY.replace("<holder>", "<?php x?><holder>")), "payload.instruction", ("remove",)),
    Case("reference-http", by_reference("http://example.test/a"), "job.invalid", ("payload.reference:", "file: URL")),
    Case("reference-host", by_reference("file://other.test/a"), "payload.reference", ("without a host",)),
    Case("reference-bracket", by_reference("file://[x/a"), "payload.reference", ("not a URL",)),
    Case("reference-nul", by_reference("file:///a%00b"), "payload.reference", ("not a usable path",)),
    Case("reference-device", by_reference("file:///dev/zero"), "payload.reference", ("payload_roots",)),
    Case("reference-process", by_reference("file:///proc/self/environ"), "payload.reference", ("payload_roots",)),
    Case("reference-relative", by_reference("file:a.xml"), "payload.reference", ("payload_roots",)),
    Case("reference-no-digest", with_payload({"reference": "file:///a"}), "job.invalid", ("needs size and sha256",)),
    Case("reference-digest-form", with_payload({"reference": "file:///a", "size": 1, "sha256": "A" * 64}),
         "job.invalid", ("payload.sha256:", "lower-case hex")),
)  # fmt: skip


@pytest.fixture(scope="module")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A ledger that is whole and empty: one copy of it for each case."""
    file = tmp_path_factory.mktemp("ledger") / "empty.db"
    migrate.upgrade(f"sqlite:///{file}")
    return file.read_bytes()


@pytest.fixture
async def door(migrated: bytes, tmp_path: Path) -> AsyncIterator[Bench]:
    (tmp_path / "ledger.db").write_bytes(migrated)
    ledger = DoubtfulLedger(f"sqlite:///{tmp_path / 'ledger.db'}", Vault([b"synthetic master key, 32 bytes!!"]))
    yield Bench(ledger)
    await ledger.close()


async def rows_by_table(ledger: Ledger) -> dict[str, int]:
    """How many rows each table has that has any."""
    async with ledger.transaction(read_only=True) as tx:
        counts = {
            table.name: (await tx.connection.execute(sa.select(sa.func.count()).select_from(table))).scalar_one()
            for table in metadata.sorted_tables
        }
    return {name: count for name, count in counts.items() if count}


async def refused(door: Bench, body: bytes, roots: tuple[Path, ...], code: str, words: tuple[str, ...]) -> None:
    """See that this body is refused so, and that quarantine is all that has grown."""
    before = await rows_by_table(door.ledger)
    stage = Receive(door.context(), DocumentStore(roots, LIMIT), "")
    batch = [Delivery(body, "message", {}, redelivered=False, token=object())]
    [told] = await drive(stage, batch)
    event = OutcomeEvent.read(told.body)
    assert told.exchange is Exchange.OUTCOMES
    assert event.reason is not None
    assert (event.event, event.reason.code) == ("refused", code)
    assert not [word for word in words if word not in event.reason.text], event.reason.text
    after = await rows_by_table(door.ledger)
    assert after == {**before, "quarantine": before.get("quarantine", 0) + 1}
    async with door.ledger.transaction(read_only=True) as tx:
        newest = (await quarantine.list_(tx, 1))[0]
        kept = await quarantine.read(tx, newest.id)
    assert kept is not None
    assert (kept.body, kept.code, kept.step) == (body, code, Step.RECEIVE)


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
async def test_a_bad_job_is_refused_by_its_rule_and_kept_to_the_byte(door: Bench, case: Case, tmp_path: Path) -> None:
    await refused(door, case.body, (tmp_path,), case.code, case.words)


def a_link(root: Path, outside: Path) -> Path:
    (root / "link.xml").symlink_to(outside / "secret.xml")
    return root / "link.xml"


def a_folder_that_is_a_link(root: Path, outside: Path) -> Path:
    (root / "folder").symlink_to(outside)
    return root / "folder" / "secret.xml"


def out_of_it(root: Path, outside: Path) -> Path:
    return root / ".." / outside.name / "secret.xml"


def a_neighbour_of_like_name(root: Path, outside: Path) -> Path:
    twin = root.with_name(f"{root.name}-more")
    twin.mkdir()
    (outside / "secret.xml").rename(twin / "secret.xml")
    return twin / "secret.xml"


def a_pipe(root: Path, outside: Path) -> Path:
    assert outside.is_dir()
    os.mkfifo(root / "pipe")
    return root / "pipe"


def a_socket(root: Path, outside: Path) -> Path:
    assert outside.is_dir()
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(root / "s"))
    server.close()
    return root / "s"


def a_folder(root: Path, outside: Path) -> Path:
    assert outside.is_dir()
    return root


def nothing(root: Path, outside: Path) -> Path:
    assert outside.is_dir()
    return root / "nothing.xml"


def another_document(root: Path, outside: Path) -> Path:
    assert outside.is_dir()
    (root / "changed.xml").write_text(document(name="Another"))
    return root / "changed.xml"


@pytest.mark.parametrize(
    ("place", "code", "words"),
    [
        (a_link, "payload.reference", ("outside the folders", "payload_roots")),
        (a_folder_that_is_a_link, "payload.reference", ("outside the folders",)),
        (out_of_it, "payload.reference", ("outside the folders",)),
        (a_neighbour_of_like_name, "payload.reference", ("outside the folders",)),
        (a_pipe, "payload.reference", ("regular file",)),
        (a_socket, "payload.reference", ("payload.reference:",)),
        (a_folder, "payload.reference", ("regular file",)),
        (nothing, "payload.reference", ("No such file", "check the path")),
        (another_document, "payload.promise", ("payload.s",)),
    ],
)
async def test_a_reference_reaches_nothing_but_what_is_allowed_and_promised(
    door: Bench, tmp_path: Path, place: Callable[[Path, Path], Path], code: str, words: tuple[str, ...]
) -> None:
    root, outside = tmp_path / "in", tmp_path / "out"
    root.mkdir()
    outside.mkdir()
    (outside / "secret.xml").write_text(document())
    async with asyncio.timeout(30):
        path = place(root, outside)
        await refused(door, by_reference(f"file://{path}", document().encode()), (root,), code, words)


@pytest.mark.parametrize("name", ["", "a\0b", "x" * 255, "\ud800".encode("utf-8", "surrogatepass").decode("latin-1")])
async def test_what_producers_write_into_properties_changes_nothing(door: Bench, name: str) -> None:
    stage = Receive(door.context(), DocumentStore((), LIMIT), "")
    headers = {"x-lodge-step": "record", "x-lodge-code": "forged", "x\0": "\r\nforged", name: name}
    good = Delivery(job("good"), name, headers, redelivered=True, token=object())
    bad = Delivery(b"{", name, headers, redelivered=True, token=object())
    told = await drive(stage, [good, bad])
    assert sorted(message.exchange for message in told) == [Exchange.OUTCOMES, Exchange.STEPS]
    async with door.ledger.transaction(read_only=True) as tx:
        [kept] = await quarantine.list_(tx, 10)
    assert (kept.step, kept.code) == (Step.RECEIVE, "job.json")


STEP_BODIES = (
    b"",
    b"{}",
    b"\xff",
    b'{"v":2,"lodgment":"0193567a-0000-7000-8000-000000000001"}',
    b'{"v":1,"lodgment":"nonsense"}',
    b'{"v":1,"lodgment":7}',
    b'{"v":1,"lodgment":"0193567a-0000-7000-8000-000000000001","more":1}',
    b'{"v":1,"lodgment":"' + b"0" * 2000 + b'"}',
)


@pytest.mark.parametrize("body", STEP_BODIES)
@pytest.mark.parametrize("step", [Step.SEAL, Step.SUBMIT, Step.RECORD])
async def test_a_step_message_that_is_none_is_refused_before_anything_is_read(
    door: Bench, step: Step, body: bytes
) -> None:
    agency = Agency()
    stages: dict[Step, Stage] = {
        Step.SEAL: Seal(door.context(), None),
        Step.SUBMIT: Submit(door.context(), agency),
        Step.RECORD: Record(door.context()),
    }
    with pytest.raises(RefusedError) as caught:
        await drive(stages[step], [Delivery(body, "m", {}, redelivered=False, token=object())])
    assert caught.value.code == "message.step"
    assert '{"v":1,"lodgment":<uuid>}' in str(caught.value)
    assert await rows_by_table(door.ledger) == {"ledger_identity": 1}
    assert agency.requests == []
