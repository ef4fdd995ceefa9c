"""What `lodge submit` makes of documents, folders, NDJSON and CSV manifests."""

import json
import tempfile
from pathlib import Path

import pytest

from pipeline.interfaces.cli.inputs import Found, Source, Terms, option_problems, read_inputs
from pipeline.interfaces.cli.manifest import columns
from pipeline.interfaces.cli.payloads import Spool
from pipeline.lodgment.job import INLINE_LIMIT
from tests.doubles.jobs import ABN, document, job

HEADER = "job_id,channel,service,action,sender.id,sender.type,employer.abn,payload.file,labels.batch,priority"
ROW = f"m-1,asic_bn,business-names,bnLodgeApplication,SYNTHETIC-1,REGA,{ABN},one.xml,night run,7"


def terms(
    sender_id: str | None = "SYNTHETIC-1",
    abn: str | None = ABN,
    labels: dict[str, str] | None = None,
    due_date: str | None = None,
) -> Terms:
    return Terms(
        channel="asic_bn",
        service="business-names",
        action="bnLodgeApplication",
        sender_id=sender_id,
        sender_type="REGA",
        abn=abn,
        credential=None,
        due_date=due_date,
        order_key=None,
        labels=labels or {},
    )


def read(*paths: Path, on: Terms | None = None) -> list[Found]:
    with tempfile.TemporaryDirectory() as folder:
        return list(read_inputs([Source(path, path.name) for path in paths], on or terms(), Spool(Path(folder))))


def written(path: Path, content: str) -> Path:
    path.write_text(content)
    return path


def test_a_document_becomes_a_job_on_the_options_terms(tmp_path: Path) -> None:
    (found,) = read(written(tmp_path / "one.xml", document()), on=terms(labels={"batch": "a"}, due_date="2026-12-01"))
    assert found.job is not None
    assert found.job.payload.inline_bytes() == document().encode()
    assert (found.job.employer.abn, found.job.sender.type, found.job.labels) == (ABN, "REGA", {"batch": "a"})
    assert str(found.job.due_date) == "2026-12-01"


def test_the_same_document_is_the_same_job_whatever_its_name_and_labels(tmp_path: Path) -> None:
    one, two = (written(tmp_path / name, document()) for name in ("one.xml", "two.xml"))
    jobs = [*read(one), *read(two, on=terms(labels={"batch": "b"}))]
    assert len({found.job.job_id for found in jobs if found.job is not None}) == 1


def test_another_document_or_sender_is_another_job(tmp_path: Path) -> None:
    one = written(tmp_path / "one.xml", document())
    two = written(tmp_path / "two.xml", document(name="Another"))
    jobs = [*read(one, two), *read(one, on=terms(sender_id="SYNTHETIC-2"))]
    assert len({found.job.job_id for found in jobs if found.job is not None}) == 3


def test_a_document_over_the_inline_limit_goes_by_reference(tmp_path: Path) -> None:
    (found,) = read(written(tmp_path / "large one.xml", document(name="x" * INLINE_LIMIT)))
    assert found.job is not None
    assert found.job.payload.reference == (tmp_path / "large one.xml").as_uri()
    assert found.job.payload.size == (tmp_path / "large one.xml").stat().st_size


def test_a_folder_gives_its_documents_in_order_and_nothing_else(tmp_path: Path) -> None:
    for name in ("b.xml", "a.XML", "notes.txt"):
        written(tmp_path / name, document(name=name))
    (tmp_path / "deeper").mkdir()
    assert [Path(found.origin).name for found in read(tmp_path)] == ["a.XML", "b.xml"]


def test_a_folder_without_documents_is_told(tmp_path: Path) -> None:
    (found,) = read(tmp_path)
    assert found.problems == ("no .xml file in this folder; name manifests and NDJSON themselves",)


def test_missing_options_are_told_once_and_by_their_names(tmp_path: Path) -> None:
    source = Source(tmp_path, "folder")
    assert option_problems([source], terms(sender_id=None, abn=None)) == (
        "--sender-id, --abn must be given: a document does not say it",
    )
    (problem,) = option_problems([source], terms(abn="51824753557"))
    assert problem.startswith("--abn: must be an ABN")
    assert option_problems([Source(tmp_path / "jobs.ndjson", "jobs")], terms(sender_id=None)) == ()


def test_ndjson_names_the_line_of_what_is_no_job(tmp_path: Path) -> None:
    lines = [job("a").decode(), "", "nonsense", json.dumps({"job_id": "b"})]
    good, nonsense, incomplete = read(written(tmp_path / "jobs.ndjson", "\n".join(lines)))
    assert good.job is not None
    assert (nonsense.origin, incomplete.origin) == ("jobs.ndjson, line 3", "jobs.ndjson, line 4")
    assert "not JSON" in nonsense.problems[0]
    assert "channel: Field required" in incomplete.problems


def test_a_manifest_gives_a_job_for_each_row(tmp_path: Path) -> None:
    written(tmp_path / "one.xml", document())
    (found,) = read(written(tmp_path / "jobs.csv", f"{HEADER}\n{ROW}\n\n"))
    assert found.job is not None
    assert (found.job.job_id, found.job.priority, found.job.labels) == ("m-1", 7, {"batch": "night run"})
    assert found.job.payload.inline_bytes() == document().encode()


@pytest.mark.parametrize(
    ("before", "after", "problem"),
    [
        (ABN, "51824753557", "column employer.abn: must be an ABN: 11 digits whose check digits hold (modulus 89)"),
        ("one.xml", "two.xml", "column payload.file: two.xml cannot be read: No such file or directory"),
        ("night run", "night, run", "has 11 cells, the header names 10 columns: quote commas"),
        ("m-1", "", "column job_id: Field required"),
    ],
)
def test_a_manifest_names_row_and_column_of_what_is_wrong(
    tmp_path: Path, before: str, after: str, problem: str
) -> None:
    written(tmp_path / "one.xml", document())
    (found,) = read(written(tmp_path / "jobs.csv", f"{HEADER}\n{ROW.replace(before, after)}\n"))
    assert found.origin == "jobs.csv, row 2"
    assert found.problems == (problem,)


def test_a_manifest_with_an_unknown_or_a_repeated_column_is_refused_whole(tmp_path: Path) -> None:
    (found,) = read(written(tmp_path / "jobs.csv", f"{HEADER},abn,priority\n{ROW},x,1\n{ROW},x,1\n"))
    assert found.origin == "jobs.csv, row 1"
    assert found.problems[0].startswith("column 'abn': no such job field; there are job_id, ")
    assert found.problems[1] == "column 'priority': stands twice"


def test_a_manifest_that_is_not_utf_8_is_told(tmp_path: Path) -> None:
    (tmp_path / "jobs.csv").write_bytes(f"{HEADER}\n{ROW}".encode().replace(b"night", b"n\xe9ght"))
    assert read(tmp_path / "jobs.csv")[-1].problems == ("cannot be read: it is not UTF-8",)


def test_manifest_columns_are_the_fields_of_a_job() -> None:
    assert {"job_id", "sender.id", "employer.abn", "agent.number", "payload.file", "not_before"} <= set(columns())
