"""The job contract: what is taken, and how a refusal reads."""

import hashlib
import json
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.lodgment.job import INLINE_LIMIT, JobRefusedError, job_schema, read_job

DOCUMENT = "<businessDocumentBody xmlns='uri:synthetic'/>"


def job(**changes: Any) -> dict[str, Any]:
    fields = {
        "version": 1,
        "job_id": "pay-run-7/0001",
        "channel": "asic_bn",
        "service": "business-names",
        "action": "bnLodgeApplication",
        "sender": {"id": "SYN-1", "type": "REGA"},
        "employer": {"abn": "51824753556"},
        "payload": {"inline": DOCUMENT},
    }
    return {**fields, **changes}


def problems(**changes: Any) -> str:
    with pytest.raises(JobRefusedError) as refusal:
        read_job(json.dumps(job(**changes)).encode())
    return str(refusal.value)


def test_takes_a_complete_job_and_schema_agrees() -> None:
    fields = job(due_date="2026-12-01", not_before="2026-11-23T10:00:00+10:00", order_key="lane", labels={"run": "7"})
    taken = read_job(json.dumps(fields).encode())
    jsonschema.Draft202012Validator(job_schema()).validate(fields)
    assert taken.party_abn() == "51824753556"
    assert taken.payload.inline_bytes() == DOCUMENT.encode()


@pytest.mark.parametrize(
    ("changes", "field", "rule"),
    [
        ({"job_id": ""}, "job_id", "at least 1"),
        ({"job_id": "a b"}, "job_id", "begin with a letter or digit"),
        ({"employer": {"abn": "51824753557"}}, "employer.abn", "check digits"),
        ({"employer": {}}, "employer", "exactly one of abn and wpn"),
        ({"software_id": "123456789"}, "software_id", "exactly 10 digits"),
        ({"priority": 11}, "priority", "less than or equal to 9"),
        ({"not_before": "2026-11-23T10:00:00"}, "not_before", "timezone"),
        ({"not_before": "9999-12-31T23:59:59-12:00"}, "not_before", "exists in UTC"),
        ({"not_before": "0001-01-01T00:00:00+12:00"}, "not_before", "exists in UTC"),
        ({"sender": {"id": "SYN\u0000", "type": "REGA"}}, "sender.id", "without control characters"),
        ({"sender": {"id": "SYN-1", "type": "REGA\r\n"}}, "sender.type", "without control characters"),
        ({"order_key": "lane\u0001"}, "order_key", "without control characters"),
        ({"colour": "red"}, "colour", "not permitted"),
        ({"payload": {}}, "payload", "exactly one of inline"),
        ({"payload": {"reference": "file:/x"}}, "payload", "needs size and sha256"),
        ({"payload": {"inline": "x", "sha256": "0" * 64}}, "payload", "SHA-256 is another"),
        ({"payload": {"inline": "x" * (INLINE_LIMIT + 1)}}, "payload", "pass it by reference"),
        ({"payload": {"inline_base64": "***"}}, "payload", "not base64"),
    ],
)
def test_a_refusal_names_the_field_and_the_rule(changes: dict[str, Any], field: str, rule: str) -> None:
    text = problems(**changes)
    assert text.startswith(field)
    assert rule in text


def test_a_refusal_never_quotes_the_document() -> None:
    assert "TFN-SYNTHETIC" not in problems(payload={"inline": "TFN-SYNTHETIC", "size": 3})


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"\xff\xfe", b'"x"', b"1" * 5000, b"[" * 5000])
def test_what_is_not_a_json_object_is_refused_as_such(body: bytes) -> None:
    with pytest.raises(JobRefusedError) as refusal:
        read_job(body)
    assert refusal.value.code == "job.json"


def test_an_unknown_version_is_said_before_anything_else() -> None:
    with pytest.raises(JobRefusedError) as refusal:
        read_job(json.dumps({"version": 2, "job_id": "later", "new": True}).encode())
    assert (refusal.value.code, refusal.value.job_id) == ("job.version", "later")


def test_the_same_content_has_the_same_digest_however_it_is_passed() -> None:
    digest = hashlib.sha256(DOCUMENT.encode()).hexdigest()
    inline = read_job(json.dumps(job()).encode())
    reference = {"reference": "file:/in/1.xml", "size": len(DOCUMENT), "sha256": digest}
    referred = read_job(json.dumps(job(payload=reference)).encode())
    assert inline.content_digest(digest) == referred.content_digest(digest)


@pytest.mark.parametrize("changes", [{"action": "other"}, {"due_date": "2026-12-01"}, {"labels": {"a": "b"}}])
def test_other_content_has_another_digest(changes: dict[str, Any]) -> None:
    first, second = read_job(json.dumps(job()).encode()), read_job(json.dumps(job(**changes)).encode())
    assert first.content_digest("0") != second.content_digest("0")


def test_the_stored_form_holds_no_document() -> None:
    assert DOCUMENT not in read_job(json.dumps(job()).encode()).stored_form()


@given(
    st.binary(max_size=300)
    | st.text().map(str.encode)
    | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(lambda v: json.dumps(v).encode())
)
def test_whatever_comes_is_refused_and_never_crashes(body: bytes) -> None:
    with pytest.raises(JobRefusedError):
        read_job(body)
