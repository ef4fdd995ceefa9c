"""Files of pay events as payroll products write them: a part, and so a job, for each payer."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

from pipeline.channels.sbr2_profile import SERVICE, SUBMIT
from pipeline.channels.sbr2_stp import NAME
from pipeline.channels.stp_documents import StpError, payer_of, split_by_payer
from pipeline.channels.stp_fields import PARENT, Payer, named
from pipeline.interfaces.cli.payloads import Spool, by_file, require_regular
from pipeline.interfaces.cli.session import now
from pipeline.protocol.record_delimiter import Record, RecordError, is_record_delimited, records

_START = 8192
_PIECE = 256 * 1024


@dataclass(frozen=True, slots=True)
class Part:
    """The documents of one payer, and what they say of their job."""

    origin: str
    payer: Payer
    sha256: str
    payload: dict[str, object] = field(repr=False)

    @property
    def sender(self) -> dict[str, object]:
        """Who lodges, when no option says it: the agent, else the payer."""
        if self.payer.agent_abn is not None:
            return {"id": self.payer.agent_abn, "type": "ABN"}
        return {"id": self.payer.party, "type": "ABN" if self.payer.abn else "WPN"}

    def fields(self, action: str | None) -> dict[str, object]:
        """The fields of its job, besides the sender."""
        payer, action = self.payer, action or SUBMIT
        fields: dict[str, object] = {
            "job_id": self._job_id(action),
            "channel": NAME,
            "service": SERVICE,
            "action": action,
            "employer": {"abn": payer.abn} if payer.abn else {"wpn": payer.wpn},
            "payload": self.payload,
        }
        if payer.pay_date is not None:
            fields["due_date"] = payer.pay_date.isoformat()
        if payer.agent_abn is not None:
            fields["agent"] = {"abn": payer.agent_abn, "number": payer.agent_number}
        return fields

    def _job_id(self, action: str) -> str:
        """Made of the content, not of the file's name: a copy of the file lodged again would be a second lodgment.
        A full file replacement has the submission id of what it replaces, and other content.
        """
        same = json.dumps([action, self.payer.party, self.payer.submission_id, self.sha256])
        return f"stp-{hashlib.sha256(same.encode()).hexdigest()[:32]}"


@dataclass(frozen=True, slots=True)
class BadPart:
    """A part that cannot become a job."""

    origin: str
    problems: tuple[str, ...]


def is_pay_event(path: Path) -> bool:
    """Whether the file is a record-delimited one, by its first element.

    Raises:
        OSError: it cannot be read.
    """
    require_regular(path)
    with path.open("rb") as file:
        return is_record_delimited(file.read(_START))


def parts_of(path: Path, spool: Spool) -> Iterator[Part | BadPart]:
    """The parts of a file, one for each payer, to the byte; a file of one payer is its own part. What follows a
    place where documents can no longer be told apart is one bad part.

    Raises:
        OSError: the file cannot be read, or the spool not written.
    """
    try:
        several = _has_several_payers(path)
    except RecordError:
        several = True  # what stands before the damage may be good
    number = 0
    try:
        for number, records_of_one in enumerate(split_by_payer(_pieces(path)), start=1):
            first = next(records_of_one)
            origin = f"{path}, payer {number} ({named(first.document_id)})" if several else str(path)
            yield _part(origin, first, records_of_one, spool if several else None, path)
    except RecordError as error:
        if number == 0:
            yield BadPart(str(path), (f"payload: {error}",))
            return
        problem = f"from payer {number} on, documents cannot be told apart: {error}"
        yield BadPart(f"{path}, the rest", (f"payload: {problem}",))


def _part(origin: str, first: Record, rest: Iterator[Record], spool: Spool | None, path: Path) -> Part | BadPart:
    """Raises RecordError only for what breaks the stream: a document that is not well formed is this part's alone."""
    try:
        payer = payer_of(first, now())
    except (RecordError, StpError) as error:
        for _ in rest:
            pass
        faults = error.faults if isinstance(error, StpError) else (f"{named(first.document_id)}: {error}",)
        return BadPart(origin, tuple(f"payload: {fault}" for fault in faults))
    if spool is not None:
        sha256, payload = spool.put(chain((first.raw,), (record.raw for record in rest)))
        return Part(origin, payer, sha256, payload)
    for _ in rest:
        pass
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return Part(origin, payer, sha256, by_file(path))


def _has_several_payers(path: Path) -> bool:
    return sum(record.document_type == PARENT for record in records(_pieces(path))) > 1


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            yield piece
