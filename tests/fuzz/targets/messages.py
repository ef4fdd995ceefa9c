"""What comes over the broker, and what people type: jobs, messages, references, conditions, URLs."""

import hashlib
import os
import unicodedata
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from uuid import UUID

import pika

from pipeline.broker.messages import OutcomeEvent, read_step_message, refusal_event, step_message
from pipeline.broker.urls import parts_of
from pipeline.channels.foreign_text import TEXT_LIMIT, plain
from pipeline.gateway.documents import DocumentStore
from pipeline.lodgment.errors import ConfigurationError, RefusedError
from pipeline.lodgment.job import INLINE_LIMIT, JobRefusedError, LodgmentJob, Payload, read_job
from pipeline.lodgment.selection import FIELDS, LABEL, read_conditions
from pipeline.lodgment.software_id import SoftwareId, SoftwareIdError
from pipeline.lodgment.subscription import read_label, read_party
from tests.doubles import jobs
from tests.fuzz.mutation import JSON, Form
from tests.fuzz.scratch import folder
from tests.fuzz.target import Target, must

NOW = datetime(2026, 11, 25, 3, 0, tzinfo=UTC)
_LODGMENT = UUID("0199aabb-ccdd-7eef-8123-456789abcdef")
_DIRECTIONS = frozenset({"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"})
_SECRET = "SYNTHETIC-SECRET"
_OUTSIDE = b"SYNTHETIC: not to be read by reference"


def _job_seeds() -> Sequence[bytes]:
    everything = jobs.job(
        "job-2",
        agent={"abn": jobs.ABN, "number": "12345678"},
        credential="ABRD:51824753556_Payroll",
        software_id="0004785936",
        software_product="Synthetic Pay",
        due_date="2026-11-28",
        not_before="2026-11-26T02:00:00+11:00",
        priority=9,
        order_key="lane/1",
        labels={"run": "synthetic", "b": "2"},
    )
    reference = {"reference": "file:///data/in/1.xml", "size": 3, "sha256": hashlib.sha256(b"abc").hexdigest()}
    return (
        jobs.job("job-1"),
        everything,
        jobs.job("a", payload=reference),
        jobs.job("b", payload={"inline_base64": "YQ=="}),
    )


def _job(data: bytes) -> None:
    try:
        job = read_job(data)
    except JobRefusedError as error:
        event = refusal_event(error.job_id, error.code, error.problems, NOW)
        OutcomeEvent.read(event.body)
        raise
    must(LodgmentJob.model_validate_json(job.model_dump_json()) == job, "a job written is the job that was read")
    must(job.content_digest("0" * 64) == read_job(data).content_digest("0" * 64), "its digest is the same every time")
    if job.payload.reference is None:
        must(0 < len(job.payload.inline_bytes()) <= INLINE_LIMIT, "an inline payload is there and within its limit")
    stored = job.stored_form().encode()
    must(b"inline" not in stored or not job.payload.inline, "the ledger's form of a job has no document in it")


def _step_seeds() -> Sequence[bytes]:
    return step_message(_LODGMENT), step_message(_LODGMENT, UUID(int=7))


def _step(data: bytes) -> None:
    read = read_step_message(data)
    must(read_step_message(step_message(read.lodgment_id, read.attempt_id)) == read, "written again it says the same")


def _event_seeds() -> Sequence[bytes]:
    job = read_job(jobs.job("job-1"))
    return (
        refusal_event("job-1", "job.invalid", ("priority: must be a number", "labels: at most 20"), NOW, job).body,
        refusal_event(None, "job.json", ("not JSON",), NOW).body,
    )


def _event(data: bytes) -> None:
    event = OutcomeEvent.read(data)
    must(OutcomeEvent.read(event.model_dump_json().encode()) == event, "written again it says the same")


def _property_seeds() -> Sequence[bytes]:
    properties = pika.BasicProperties(
        content_type="application/json",
        message_id="job-1",
        delivery_mode=2,
        type="lodgment-job",
        headers={"x-delivery-count": 3, "x-first-death-queue": "jobs", "lodge-code": "a.b", "n": None, "t": NOW},
    )
    return (b"".join(properties.encode()),)


def _properties(data: bytes) -> None:
    """As the subscription reads them, once the client library has taken the frame apart."""
    from pipeline.broker.consuming import _headers

    properties = pika.BasicProperties()
    try:
        properties.decode(data)
    except Exception:  # noqa: BLE001  - the library's, which ends the connection; what it lets pass is ours
        return
    headers = _headers(properties.headers)
    must(all(isinstance(value, str) for value in headers.values()), "headers are texts")


@cache
def _store() -> DocumentStore:
    root = folder() / "allowed"
    (root / "in").mkdir(parents=True)
    (root / "1.xml").write_bytes(b"<a/>")
    (root / "in" / "2.xml").write_bytes(b"<b/>")
    (folder() / "outside.xml").write_bytes(_OUTSIDE)
    (root / "link.xml").symlink_to(folder() / "outside.xml")
    (root / "in" / "up").symlink_to(folder())
    os.mkfifo(root / "pipe")
    return DocumentStore([root], 1000)


def _reference_seeds() -> Sequence[bytes]:
    _store()
    root = folder() / "allowed"
    names = ("1.xml", "in/2.xml", "link.xml", "in/up/outside.xml", "../outside.xml", "pipe", "in")
    return (*(f"file://{root}/{name}".encode() for name in names), f"file://localhost{root}/1.xml".encode())


def _reference(data: bytes) -> None:
    reference = data.decode(errors="surrogateescape")
    payload = Payload.model_construct(reference=reference, size=4, sha256="0" * 64, inline=None, inline_base64=None)
    with _store().open(payload) as document:
        must(document.read() in {b"<a/>", b"<b/>"}, "what is outside the roots cannot be reached")


_WORDS = Form(
    values=(b" and ", b"=", b"!=", b">=", b"<", b"*", b",", b"label.", b"due", b"received", b"state", b"held")
)


def _where_seeds() -> Sequence[bytes]:
    return (
        b"state=held and code=asic:FAULT.* and received>=2026-11-25T02:00+11:00 and received<2026-11-26T00:00Z",
        b"due>=2026-11-28 and label.run!=synthetic,other and job=a* and sender=1",
        b"state=awaiting,partially accepted",
    )


def _where(data: bytes) -> None:
    for condition in read_conditions(data.decode(errors="replace").split("\0")):
        must(condition.field in FIELDS or condition.field.startswith(LABEL), "only known fields are asked for")
        moments = [value for value in condition.values if isinstance(value, datetime)]
        must(all(value.tzinfo is UTC for value in moments), "times are in UTC")


def _url_seeds() -> Sequence[bytes]:
    return (f"amqp://user:{_SECRET}@broker.example.test:5672/lodge".encode(), f"amqps://u:{_SECRET}@[::1]/%2F".encode())


def _url(data: bytes) -> None:
    parts = parts_of(data.decode(errors="replace"))
    must(parts.scheme in {"amqp", "amqps"}, "it is a broker's URL")
    must(parts.port is None or 0 < parts.port < 65536, "the port can be read")


def _typed_seeds() -> Sequence[bytes]:
    return b"0004785936", b"51 824 753 556", b"123456789", b"Synthetic Pay 2.0"


def _typed(data: bytes) -> None:
    text = data.decode(errors="replace")
    for read in (SoftwareId.checked, read_party, read_label):
        try:
            must(str(read(text)) != "", "what is read says something")
        except SoftwareIdError:
            continue


def _foreign(data: bytes) -> None:
    text = data.decode(errors="replace")
    for limit in (1, 40, TEXT_LIMIT):
        said = plain(text, limit)
        must(len(said) <= limit, "cleaned text is within its limit")
        must(
            not any(unicodedata.category(one) in {"Cc", "Zl", "Zp"} for one in said), "it is one line without controls"
        )
        must(not any(unicodedata.bidirectional(one) in _DIRECTIONS for one in said), "it does not turn text around")
    must(plain(plain(text)) == plain(text), "cleaned text stays as it is")


TARGETS = (
    Target(
        "job",
        "a job survives being written and read; a refusal fits an outcome event",
        _job_seeds,
        _job,
        (JobRefusedError,),
        JSON,
    ),
    Target("step-message", "written again it says the same", _step_seeds, _step, (RefusedError,), JSON),
    Target("outcome-event", "written again it says the same", _event_seeds, _event, (RefusedError,), JSON),
    Target("message-properties", "only texts, and the broker's own few", _property_seeds, _properties),
    Target(
        "payload-reference",
        "no file outside the allowed folders is read",
        _reference_seeds,
        _reference,
        (JobRefusedError,),
        Form(values=(b"..", b"/", b"%2e%2e/", b"%00", b"//", b"file:", b"?a", b"#a", b"/proc/self/environ")),
        (_OUTSIDE.decode(),),
    ),
    Target("where", "only known fields, times in UTC", _where_seeds, _where, (ConfigurationError,), _WORDS),
    Target(
        "broker-url",
        "host and port can be read; the URL is not quoted",
        _url_seeds,
        _url,
        (ConfigurationError,),
        Form(values=(b"[", b"]", b"@", b":", b"/", b"?a=b", b"#", b"%")),
        (_SECRET,),
    ),
    Target("typed-values", "ids, parties and labels", _typed_seeds, _typed),
    Target("foreign-text", "printable, within its limit, and stable", _typed_seeds, _foreign),
)
