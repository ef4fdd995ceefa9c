"""What `lodge submit` makes of files of pay events: a job for each payer, to the byte."""

import re
import stat
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pipeline.interfaces.cli.inputs import Found, Source, Terms, option_problems, read_inputs
from pipeline.interfaces.cli.pay_events import is_pay_event
from pipeline.interfaces.cli.payloads import Spool
from pipeline.lodgment.job import INLINE_LIMIT, LodgmentJob
from tests.doubles.stp import ABN, child, delimiter, parent

OTHER_ABN = "53004085616"
LARGE = {"Payee/PersonNameDetails/FamilyNameT": "Synthetic" * (INLINE_LIMIT // 9 + 1)}


def terms(action: str | None = None) -> Terms:
    return Terms(
        channel="asic_bn",
        service="business-names",
        action=action,
        sender_id=None,
        sender_type=None,
        abn=None,
        credential=None,
        due_date=None,
        order_key=None,
        labels={"batch": "night"},
    )


def payer(number: int, changes: dict[str, str] | None = None, of_child: dict[str, str] | None = None) -> bytes:
    own = f"{number}.1"
    today = f"{datetime.now(UTC):%Y-%m-%d}"
    usual = {
        "Rp/Payroll/PaymentRecordTransactionD": today,
        "Rp/Declaration/SignatureD": today,
        "Rp/Payroll/MessageTimestampGenerationDt": f"{today}T00:00:00Z",
        "Rp/Payroll/InteractionTransactionId": f"SYN-{number}",
        "Rp/Payroll/InteractionRecordCt": "1",
    }
    return (parent({**usual, **(changes or {})}, own) + child(1, of_child, own)).encode()


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "spool"
    yield folder
    assert not [one for one in folder.glob("*") if one.suffix != ".xml"]


def read(path: Path, spool: Path, on: Terms | None = None) -> list[Found]:
    return list(read_inputs([Source(path, path.name)], on or terms(), Spool(spool)))


def jobs(found: list[Found]) -> list[LodgmentJob]:
    assert [one.problems for one in found if one.problems] == []
    return [one.job for one in found if one.job is not None]


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def test_a_file_of_one_payer_is_one_job_on_the_documents_own_terms(tmp_path: Path, spool: Path) -> None:
    document = b"\xef\xbb\xbf" + payer(1)
    path = written(tmp_path / "event.xml", document)
    assert option_problems([Source(path, "event")], terms()) == ()
    (job,) = jobs(read(path, spool))
    assert (job.channel, job.service, job.action) == ("sbr2_stp", "payevnt", "Submit")
    assert (job.employer.abn, job.sender.id, job.sender.type, job.agent) == (ABN, ABN, "ABN", None)
    assert (str(job.due_date), job.labels) == (f"{datetime.now(UTC):%Y-%m-%d}", {"batch": "night"})
    assert job.payload.inline_bytes() == document


def test_a_file_of_several_payers_is_a_job_for_each_to_the_byte(tmp_path: Path, spool: Path) -> None:
    parts = [
        payer(1),
        payer(2, {"Rp/AustralianBusinessNumberId": "", "Rp/WithholdingPayerNumberId": "123456789"}),
        payer(3, {"Int/AustralianBusinessNumberId": OTHER_ABN, "Int/TaxAgentNumberId": "12345678"}),
    ]
    found = read(written(tmp_path / "events.xml", b"".join(parts)), spool)
    one, two, three = jobs(found)
    assert [job.payload.inline_bytes() for job in (one, two, three)] == parts
    assert (two.employer.wpn, two.sender.type) == ("123456789", "WPN")
    assert three.agent is not None
    assert (three.agent.abn, three.agent.number, three.sender.id) == (OTHER_ABN, "12345678", OTHER_ABN)
    assert found[1].origin == f"{tmp_path / 'events.xml'}, payer 2 (document 2.1)"
    assert len({job.job_id for job in (one, two, three)}) == 3


def test_the_same_part_is_the_same_job_whatever_the_files_name_and_another_action_is_another(
    tmp_path: Path, spool: Path
) -> None:
    one = written(tmp_path / "one.xml", payer(1) + payer(2))
    two = written(tmp_path / "two.xml", payer(1))
    first = jobs(read(one, spool))[0].job_id
    assert jobs(read(two, spool))[0].job_id == first
    update = jobs(read(two, spool, terms(action="Update")))[0]
    assert (update.action, update.job_id != first) == ("Update", True)


def test_a_replacement_with_the_same_submission_id_is_another_job(tmp_path: Path, spool: Path) -> None:
    one = written(tmp_path / "one.xml", payer(1))
    two = written(tmp_path / "two.xml", payer(1, {"Rp/Payroll/AmendmentI": "true"}))
    assert jobs(read(one, spool))[0].job_id != jobs(read(two, spool))[0].job_id


def test_a_large_part_is_a_file_that_only_its_owner_can_read(tmp_path: Path, spool: Path) -> None:
    large = payer(2, of_child=LARGE)
    path = written(tmp_path / "events.xml", payer(1) + large)
    for _ in range(2):  # the input is read twice: to check it and to push it
        _, job = jobs(read(path, spool))
        (file,) = spool.iterdir()
        assert file.read_bytes() == large
        assert (job.payload.reference, job.payload.size) == (file.as_uri(), len(large))
        assert (stat.S_IMODE(spool.stat().st_mode), stat.S_IMODE(file.stat().st_mode)) == (0o700, 0o600)


def test_a_large_file_of_one_payer_is_lodged_from_where_it_is(tmp_path: Path, spool: Path) -> None:
    path = written(tmp_path / "event.xml", payer(1, of_child=LARGE))
    (job,) = jobs(read(path, spool))
    assert job.payload.reference == path.as_uri()
    assert not spool.exists()


@pytest.mark.parametrize(
    ("bad", "problem"),
    [
        (payer(2, {"Rp/AustralianBusinessNumberId": "51824753557"}), "document 2.1, Rp/AustralianBusinessNumberId: "),
        (payer(2).replace(b"</tns:Rp>", b""), "document 2.1: not well formed"),
    ],
)
def test_a_bad_payer_between_good_ones_is_told_and_the_others_are_jobs(
    tmp_path: Path, spool: Path, bad: bytes, problem: str
) -> None:
    first, second, third = read(written(tmp_path / "events.xml", payer(1) + bad + payer(3)), spool)
    assert first.job is not None
    assert third.job is not None
    assert third.job.payload.inline_bytes() == payer(3)
    assert second.origin.endswith("payer 2 (document 2.1)")
    assert problem in second.problems[0]


def test_where_documents_cannot_be_told_apart_the_part_before_is_no_job_either(tmp_path: Path, spool: Path) -> None:
    broken = payer(1) + payer(2) + b"<Record_Delimiter/>" + payer(3)
    first, rest = read(written(tmp_path / "events.xml", broken), spool)
    assert first.job is not None
    assert first.job.payload.inline_bytes() == payer(1)
    assert rest.origin.endswith(", the rest")
    assert "payer 2" in rest.problems[0]
    assert "DocumentID" in rest.problems[0]


def test_a_root_element_around_the_documents_is_told(tmp_path: Path, spool: Path) -> None:
    wrapped = b'<?xml version="1.0" encoding="UTF-8"?>\r\n<ato>\r\n' + payer(1) + b"</ato>\r\n"
    path = written(tmp_path / "events.xml", wrapped)
    assert is_pay_event(path)
    (bad,) = read(path, spool)
    assert (bad.origin, bad.problems) == (
        str(path),
        ("payload: a Record_Delimiter must stand first, and no element around it",),
    )


@pytest.mark.parametrize(
    "content", [b"<ato>x</ato>", b"<a><b><Record_Delimiter/></b></a>", b"", b"<ato", b"a,b\n1,2\n"]
)
def test_a_file_of_something_else_is_no_pay_event(tmp_path: Path, content: bytes) -> None:
    assert not is_pay_event(written(tmp_path / "other.xml", content))


STYLES: Mapping[str, Callable[[bytes], bytes]] = {
    "a byte order mark and CRLF": lambda one: b"\xef\xbb\xbf" + one.replace(b"\n", b"\r\n"),
    "a declaration before each document": lambda one: one.replace(
        b"<tns:PAYEVNT", b'<?xml version="1.0"?>\n<tns:PAYEVNT'
    ),
    "nothing between documents": lambda one: one.replace(b"\n", b""),
    "indented": lambda one: b"\n        " + one.replace(b"\n", b"\n        "),
    "other attributes first": lambda one: re.sub(rb'(DocumentType="\w+") (DocumentName="\w+")', rb"\2 \1", one),
    "ids of its own": lambda one: re.sub(rb'DocumentID="1\.(\d)"', rb'DocumentID="20261125-AbC.\1"', one).replace(
        b'RelatedDocumentID="1.1"', b'RelatedDocumentID="20261125-AbC.1"'
    ),
    "another prefix": lambda one: one.replace(b"tns:", b"ns0:").replace(b"xmlns:tns", b"xmlns:ns0"),
}
"""How payroll products that are known by their source write the same event."""


@pytest.mark.parametrize("style", STYLES)
def test_an_event_is_read_in_the_style_of_any_product(tmp_path: Path, spool: Path, style: str) -> None:
    changed = STYLES[style](payer(1))
    assert changed != payer(1)
    (part,) = read(written(tmp_path / "events.xml", changed), spool)
    assert part.job is not None, part
    assert part.job.payload.inline_bytes() == changed


def test_a_child_without_a_parent_is_told(tmp_path: Path, spool: Path) -> None:
    orphan = delimiter("1.2", "CHILD", "PAYEVNTEMP", "1.1").encode() + b"<a/>"
    bad, good = read(written(tmp_path / "events.xml", orphan + payer(2)), spool)
    assert bad.problems == ("payload: document 1.2, DocumentType: the first document must be a PARENT",)
    assert good.job is not None
