"""A pay event as the sandbox's agency reads it: its digest, its records, its script, and what it finds wrong in it.

What is wrong in a document is told in the response that is pulled; a receipt only says that the message arrived.
"""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from lxml import etree

from pipeline.protocol.record_delimiter import Record, RecordError, records
from pipeline.sandbox.sbr2_events import Item
from pipeline.sandbox.sbr2_scenarios import Sbr2Script, read_script

PAY_EVENT = "{http://www.sbr.gov.au/ato/payevnt}"
PAYEE = "{http://www.sbr.gov.au/ato/payevntemp}"
_ROOTS = {"PARENT": ("PAYEVNT", f"{PAY_EVENT}PAYEVNT"), "CHILD": ("PAYEVNTEMP", f"{PAYEE}PAYEVNTEMP")}
_KEPT_RECORDS = 2
"""Events are about the parent, or one of the first payees."""


@dataclass(frozen=True, slots=True)
class PayEvent:
    """One document. `faults` is not empty where the agency cannot take it."""

    sha256: str
    script: Sbr2Script
    payers: frozenset[str]
    """ABN or WPN of each parent."""
    parent: str | None
    payees: tuple[str, ...]
    """The ids of the first parent's first records."""
    faults: tuple[Item, ...]


def read_pay_event(document: Iterable[bytes]) -> PayEvent:
    """Read a document as a stream.

    Raises:
        GzipError: whatever inflates it found.
    """
    digest = hashlib.sha256()

    def counted() -> Iterator[bytes]:
        for piece in document:
            digest.update(piece)
            yield piece

    reading = _Reading()
    pieces = counted()
    try:
        for record in records(pieces):
            reading.take(record)
        reading.end_parent()
    except RecordError as error:
        reading.faults.append(_malformed(f"{error}", error.where))
    for _ in pieces:
        """To the end, for the digest."""
    return PayEvent(
        digest.hexdigest(),
        reading.script,
        frozenset(reading.payers),
        reading.parents[0] if reading.parents else None,
        tuple(reading.payees),
        tuple(reading.faults),
    )


class _Reading:
    """One pass over the records."""

    def __init__(self) -> None:
        self.faults: list[Item] = []
        self.script = Sbr2Script()
        self.payers: set[str] = set()
        self.parents: list[str] = []
        self.payees: list[str] = []
        self._announced = ""
        self._children = 0

    def take(self, record: Record) -> None:
        name, root_tag = _ROOTS.get(record.document_type, ("", ""))
        root = record.root()
        if record.document_name != name or root.tag != root_tag:
            self.faults.append(_malformed("delimiter and document do not fit each other", record.document_id))
        elif record.document_type == "PARENT":
            self.end_parent()
            self._parent(record.document_id, root)
        elif not self.parents or record.related_id != self.parents[-1]:
            self.faults.append(_malformed("a child must follow its parent", record.document_id))
        else:
            self._children += 1
            if len(self.parents) == 1 and len(self.payees) < _KEPT_RECORDS:
                self.payees.append(record.document_id)

    def end_parent(self) -> None:
        """No more children follow for the parent that is open."""
        if not self.parents or (self._children and self._announced == str(self._children)):
            return
        code = "CMN.ATO.PAYEVNT.000191" if self._children else "CMN.ATO.PAYEVNT.000192"
        text = "SYNTHETIC: {count} payee records follow, another number is announced, or none."
        path = "/tns:PAYEVNT/tns:Rp/tns:Payroll/tns:InteractionRecordCt"
        count = (("count", str(self._children)),)
        self.faults.append(Item(code, text, parameters=count, record=self.parents[-1], path=path))

    def _parent(self, document_id: str, root: etree._Element) -> None:
        self.parents.append(document_id)
        self._children = 0
        self._announced = _text(root, "Rp/Payroll/InteractionRecordCt")
        numbers = [_text(root, f"Rp/{name}") for name in ("AustralianBusinessNumberId", "WithholdingPayerNumberId")]
        given = [number for number in numbers if number]
        if len(given) != 1:
            text = "SYNTHETIC: give one of ABN and WPN."
            self.faults.append(Item("CMN.ATO.PAYEVNT.000177", text, record=document_id, path="/tns:PAYEVNT/tns:Rp"))
        self.payers.update(given)
        if len(self.parents) == 1:
            try:
                self.script = read_script(_text(root, "Rp/OrganisationName/DetailsOrganisationalNameT"))
            except ValueError as error:
                self.faults.append(_malformed(f"the script in OrganisationName: {error}", document_id))


def _malformed(text: str, record: str | None) -> Item:
    return Item(
        "CMN.ATO.GEN.XML03",
        "SYNTHETIC: the document cannot be read: {fault}",
        parameters=(("fault", text),),
        record=record,
        path=None if record is None else "/",
    )


def _text(root: etree._Element, path: str) -> str:
    found = root.find("/".join(f"{PAY_EVENT}{name}" for name in path.split("/")))
    return "" if found is None else (found.text or "").strip()
