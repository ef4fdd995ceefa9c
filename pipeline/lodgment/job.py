"""The job contract, version 1: what a producer says about one lodgment. `lodge schema job` prints its JSON Schema."""

import base64
import binascii
import hashlib
import json
import re
from datetime import UTC, date, datetime
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails
from stdnum.au import abn as abn_rules

from pipeline.lodgment.software_id import form_fault

INLINE_LIMIT = 256 * 1024
"""Bytes of payload that a job may carry itself; larger documents are passed by reference (claim check)."""

LABEL_NAME_LIMIT = 63
"""Characters."""
PROBLEMS_TOLD = 20
_PLAIN_NAME = re.compile(r"[\w .,()'\[\]-]{1,64}")
_NAME = r"^[A-Za-z0-9][A-Za-z0-9._:@/+-]*$"
_ONE_LINE = r"^[^\x00-\x1f\x7f\ufffe\uffff]*$"
"""No control characters: neither XML nor the ledger can hold all of them, and they would not be lodged as written."""
_IN_WORDS = {
    _NAME: "must begin with a letter or digit, and go on with these or . _ : @ / + - only",
    _ONE_LINE: "must be one line of text without control characters: remove them",
    r"^file:": "must be a file: URL, for example file:///data/in/1.xml",
    r"^[0-9a-f]{64}$": "must be a SHA-256 in 64 lower-case hex digits",
}


def _abn(value: str) -> str:
    digits = value.replace(" ", "")
    if not abn_rules.is_valid(digits):
        raise ValueError("must be an ABN: 11 digits whose check digits hold (modulus 89)")
    return str(digits)


def _software_id(value: str) -> str:
    fault = form_fault(value)
    if fault is not None:
        raise ValueError(fault)
    return value


def _moment(value: datetime) -> datetime:
    try:
        value.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("must be a time that exists in UTC, between the years 1 and 9999") from error
    return value


Abn = Annotated[str, AfterValidator(_abn)]
Name = Annotated[str, Field(min_length=1, max_length=64, pattern=_NAME)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=False)


class Sender(_Strict):
    """Who the agency knows as the sender of messages (ASIC: given at registration, WIG 3.3.1.4 and 3.3.1.5)."""

    id: str = Field(min_length=1, max_length=50, pattern=_ONE_LINE)
    type: str = Field(
        min_length=1, max_length=50, pattern=_ONE_LINE, description="for example REGA, a registered agent"
    )


class Employer(_Strict):
    """The business that the document is about: by ABN, or by withholding payer number where it has none."""

    abn: Abn | None = None
    wpn: Annotated[str, Field(pattern=r"^\d{9}$")] | None = None
    branch: str | None = Field(default=None, max_length=10)
    name: str | None = Field(default=None, max_length=200)

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if (self.abn is None) == (self.wpn is None):
            raise ValueError("give exactly one of abn and wpn")
        return self


class Agent(_Strict):
    """The registered agent who lodges for the employer."""

    abn: Abn
    number: str | None = Field(default=None, pattern=r"^\d{5,10}$", description="registered agent number (RAN)")


class Payload(_Strict):
    """The document. Exactly one of `inline`, `inline_base64` and `reference`; `size` and `sha256` are of its bytes."""

    inline: str | None = Field(default=None, description=f"the document as text; at most {INLINE_LIMIT} bytes in UTF-8")
    inline_base64: str | None = Field(default=None, description="the document's bytes in base64")
    reference: str | None = Field(
        default=None, max_length=1000, pattern=r"^file:", description="file: URL under an allowed root"
    )
    media_type: str = Field(default="application/xml", max_length=100)
    size: int | None = Field(default=None, ge=1, description="bytes; required with a reference")
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = Field(
        default=None, description="required with a reference"
    )

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        given = [name for name in ("inline", "inline_base64", "reference") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError("give exactly one of inline, inline_base64 and reference")
        if self.reference is not None and (self.size is None or self.sha256 is None):
            raise ValueError("a payload by reference needs size and sha256, so that what is lodged is what was meant")
        if self.reference is None:
            self._check_inline(self.inline_bytes())
        return self

    def inline_bytes(self) -> bytes:
        """The bytes of an inline payload.

        Raises:
            ValueError: the payload is a reference, or its base64 is damaged.
        """
        if self.inline is not None:
            return self.inline.encode()
        if self.inline_base64 is None:
            raise ValueError("the payload is a reference")
        try:
            return base64.b64decode(self.inline_base64, validate=True)
        except binascii.Error as error:
            raise ValueError(f"inline_base64 is not base64: {error}") from error

    def _check_inline(self, content: bytes) -> None:
        if not content:
            raise ValueError("the payload is empty")
        if len(content) > INLINE_LIMIT:
            raise ValueError(
                f"an inline payload may hold {INLINE_LIMIT} bytes, this one has {len(content)}: pass it by reference"
            )
        fault = promise_fault(len(content), hashlib.sha256(content).hexdigest(), self)
        if fault is not None:
            raise ValueError(fault)


class LodgmentJob(_Strict):
    """One lodgment, as its producer asks for it."""

    version: Literal[1] = 1
    job_id: Annotated[str, Field(min_length=1, max_length=128, pattern=_NAME)] = Field(
        description="the producer's idempotency key: the same id and content again is the same lodgment"
    )
    channel: Name = Field(description="the agency interface, for example asic_bn")
    service: Name = Field(description="the service within the channel, for example business-names")
    action: Name = Field(description="the message type, for example bnLodgeApplication")
    sender: Sender
    employer: Employer
    agent: Agent | None = None
    credential: str | None = Field(
        default=None, max_length=200, description="id of the machine credential; omitted: the environment's default"
    )
    software_id: Annotated[str, AfterValidator(_software_id)] | None = Field(
        default=None, description="best omitted: it is looked up; one that differs from what is registered is refused"
    )
    software_product: Annotated[str, Field(min_length=1, max_length=100, pattern=_ONE_LINE)] | None = Field(
        default=None, description="the payroll product whose software id this goes under; omitted: the setting's"
    )
    payload: Payload
    due_date: date | None = Field(default=None, description="the day by which the agency must have it")
    not_before: Annotated[AwareDatetime, AfterValidator(_moment)] | None = Field(
        default=None, description="with a UTC offset; nothing is sent earlier"
    )
    priority: int = Field(default=5, ge=0, le=9, description="9 is the most urgent")
    order_key: str | None = Field(
        default=None,
        min_length=1,
        max_length=200,
        pattern=_ONE_LINE,
        description="lodgments that share it go out in order",
    )
    labels: dict[Annotated[str, Field(max_length=LABEL_NAME_LIMIT)], Annotated[str, Field(max_length=200)]] = Field(
        default_factory=dict, max_length=20
    )

    def party_abn(self) -> str:
        """The ABN (else the withholding payer number) that outcome events and reports carry."""
        return self.employer.abn or self.employer.wpn or ""

    def stored_form(self) -> str:
        """The job as the ledger keeps it beside the lodgment: everything but the document."""
        return self.model_dump_json(exclude={"payload": {"inline", "inline_base64"}})

    def content_digest(self, payload_sha256: str) -> str:
        """SHA-256, in hex, of what makes two jobs the same: every field, and the payload by its own digest."""
        fields = self.model_dump(mode="json", exclude={"payload"})
        if self.software_product is None:
            # Jobs were digested before there was this field, and must still be known when they are pushed again.
            del fields["software_product"]
        fields["payload"] = {"sha256": payload_sha256, "media_type": self.payload.media_type}
        canonical = json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        return hashlib.sha256(canonical.encode()).hexdigest()


class JobRefusedError(ValueError):
    """A job that cannot be taken. `problems` name field, rule and fix, one line each; the payload is never quoted."""

    def __init__(self, code: str, problems: tuple[str, ...], job_id: str | None = None) -> None:
        super().__init__("; ".join(problems))
        self.code = code
        self.problems = problems
        self.job_id = job_id


def read_job(body: bytes) -> LodgmentJob:
    """The job in a message body.

    Raises:
        JobRefusedError: `job.json` when it is not JSON, `job.version` for an unknown version, `job.invalid` otherwise.
    """
    try:
        fields = json.loads(body, object_pairs_hook=_each_once)
    except JobRefusedError:
        raise
    except (ValueError, RecursionError) as error:
        raise JobRefusedError("job.json", (f"the message body is not JSON: {error}",)) from error
    if not isinstance(fields, dict):
        raise JobRefusedError("job.json", ("the message body must be one JSON object",))
    job_id = _readable_id(fields)
    if fields.get("version", 1) != 1:
        raise JobRefusedError("job.version", ("version: this pipeline reads job version 1",), job_id)
    try:
        return LodgmentJob.model_validate_json(body)
    except ValidationError as error:
        raise JobRefusedError("job.invalid", problems_of(error), job_id) from error


def problems_of(error: ValidationError) -> tuple[str, ...]:
    """Each fault of a pydantic error as `field: rule`, without the offending values: they may be personal data. Many
    are cut: they are one text in events and logs.
    """
    faults = error.errors(include_input=False, include_url=False)
    told = [f"{'.'.join(map(_place, fault['loc'])) or 'job'}: {_rule(fault)}" for fault in faults[:PROBLEMS_TOLD]]
    if len(faults) > PROBLEMS_TOLD:
        told.append(f"and {len(faults) - PROBLEMS_TOLD} more")
    return tuple(told)


def _place(part: int | str) -> str:
    """A field's name may be somebody's own: then it may be long, forge a line of a log, or be a value out of place."""
    text = str(part)
    return text if _PLAIN_NAME.fullmatch(text) else f"(a name of {len(text)} characters)"


def _rule(fault: ErrorDetails) -> str:
    if fault["type"] == "string_pattern_mismatch" and fault["ctx"]["pattern"] in _IN_WORDS:
        return _IN_WORDS[fault["ctx"]["pattern"]]
    return fault["msg"].removeprefix("Value error, ")


def promise_fault(size: int, sha256: str, promised: Payload) -> str | None:
    """The promise about size or digest that a document of `size` bytes with this SHA-256 breaks, or None."""
    if promised.size is not None and size != promised.size:
        return f"payload.size: says {promised.size} bytes, the document has {size}"
    if promised.sha256 is not None and sha256 != promised.sha256:
        return "payload.sha256: the document's SHA-256 is another; it was changed after the job was written"
    return None


def job_schema() -> dict[str, Any]:
    """The contract as JSON Schema (draft 2020-12), for producers in other languages."""
    schema = LodgmentJob.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Lodgment job, version 1", **schema}


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object; of two fields with one name, others may read another one than we do."""
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise JobRefusedError("job.json", ("a name stands twice in one object: keep one of the two",))
    return fields


def _readable_id(fields: dict[str, Any]) -> str | None:
    job_id = fields.get("job_id")
    if not isinstance(job_id, str):
        return None
    # JSON can say half of a surrogate pair, which no message and no ledger can carry on.
    return job_id[:128].encode(errors="replace").decode()
