"""A Single Touch Payroll document, read as it will be judged: PAYEVNT parents, each with its PAYEVNTEMP children.

What the ATO would refuse for reasons that can be known here is refused here, before anything is sent: each fault names
document, field and rule, and never the value, which may be a tax file number. The producer's bytes are not changed.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby

from lxml import etree
from stdnum.au import abn as abn_rules
from stdnum.au import tfn as tfn_rules

from pipeline.channels.stp_fields import (
    CHILD,
    NAMESPACES,
    NO_TFN,
    PARENT,
    PAY_EVENT,
    PAYEE,
    Faults,
    Fields,
    Parent,
    Payer,
    named,
)
from pipeline.protocol.record_delimiter import Record, RecordError, records

_TYPES = {PARENT: PAY_EVENT, CHILD: PAYEE}


@dataclass(frozen=True, slots=True)
class PayEvent:
    """One document, read to its end. `payees` maps each record's id to the producer's payroll number."""

    payers: tuple[Payer, ...]
    payees: dict[str, str] = field(repr=False)


class StpError(ValueError):
    """A document that would be refused. `faults` name document, field and rule, one line each, `more` were left out."""

    def __init__(self, code: str, faults: tuple[str, ...], more: int = 0) -> None:
        super().__init__("; ".join(faults))
        self.code = code
        self.faults = faults
        self.more = more


def read_pay_event(pieces: Iterable[bytes], *, update: bool, now: datetime) -> PayEvent:
    """Read and check a document as a stream. `update` is for the action that corrects without a payment.

    Raises:
        StpError: `stp.records` when it is no record-delimited document, else `stp.rules` with everything that is wrong.
    """
    reading = _Reading(update, now)
    try:
        for record in records(pieces):
            reading.take(record)
    except RecordError as error:
        place = f"{named(error.where)}: " if error.where else ""
        raise StpError("stp.records", (*reading.faults.told, f"{place}{error}"), reading.faults.more) from error
    reading.finish()
    if reading.faults.told:
        raise StpError("stp.rules", tuple(reading.faults.told), reading.faults.more)
    return PayEvent(tuple(reading.payers), reading.payees)


class _Reading:
    """The state of one pass: which parent is open, who was met."""

    def __init__(self, update: bool, now: datetime) -> None:
        self.faults = Faults()
        self.payers: list[Payer] = []
        self.payees: dict[str, str] = {}
        self._update = update
        self._now = now
        self._ids: set[str] = set()
        self._parent: Record | None = None
        self._children = 0
        self._numbers: set[str] = set()

    def take(self, record: Record) -> None:
        if not self._placed(record):
            return
        root = record.root()
        name = _TYPES[record.document_type]
        if root.tag != f"{{{NAMESPACES[name]}}}{name}":
            self.faults.add(record, name, f"the document must be a {name} in the namespace {NAMESPACES[name]}")
        elif record.document_type == PARENT:
            self._parent_of(record, root)
        else:
            self._child(record, root)

    def finish(self) -> None:
        """The parent that is open is whole."""
        if self._parent is None or not self.payers:
            return
        announced = self.payers[-1].payees
        if self._children == 0:
            self.faults.add(
                self._parent, "InteractionRecordCt", "a pay event needs at least one payee (PAYEVNT.000192)"
            )
        elif announced != self._children:
            self.faults.add(
                self._parent,
                "InteractionRecordCt",
                f"says {announced} payee records, {self._children} follow (PAYEVNT.000191)",
            )

    def _placed(self, record: Record) -> bool:
        """Whether the record stands where its delimiter says (delimiter graph)."""
        add = self.faults.add
        expected = _TYPES.get(record.document_type)
        if record.document_id in self._ids:
            add(record, "DocumentID", "stands twice; each document needs an id of its own")
            return False
        self._ids.add(record.document_id)
        if expected is None:
            add(record, "DocumentType", f"must be {PARENT} or {CHILD}")
        elif record.document_name != expected:
            add(record, "DocumentName", f"of a {record.document_type} must be {expected}")
        elif record.document_type == PARENT and record.related_id:
            add(record, "RelatedDocumentID", "of a PARENT must be empty")
        elif record.document_type == CHILD and (self._parent is None or record.related_id != self._parent.document_id):
            add(record, "RelatedDocumentID", "of a CHILD must be the DocumentID of the PARENT before it")
        else:
            return True
        return False

    def _parent_of(self, record: Record, root: etree._Element) -> None:
        self.finish()
        self._parent, self._children = record, 0
        self._numbers = set()
        self.payers.append(Parent(record, root, self.faults, self._now).read(update=self._update))

    def _child(self, record: Record, root: etree._Element) -> None:
        self._children += 1
        read = Fields(record, root, self.faults)
        number = read.text("Payee/Identifiers/EmploymentPayrollNumberId")
        tfn = read.text("Payee/Identifiers/TaxFileNumberId")
        abn = read.text("Payee/Identifiers/AustralianBusinessNumberId")
        if tfn and tfn not in NO_TFN and not tfn_rules.is_valid(tfn):
            read.fault("Payee/Identifiers/TaxFileNumberId", "is no tax file number: its check digit does not hold")
        if abn and not abn_rules.is_valid(abn):
            read.fault("Payee/Identifiers/AustralianBusinessNumberId", "is no ABN: its check digits do not hold")
        if not tfn and not abn:
            read.fault("Payee/Identifiers", "needs TaxFileNumberId or AustralianBusinessNumberId")
        if number and number in self._numbers:
            read.fault("Payee/Identifiers/EmploymentPayrollNumberId", "another payee of this event has the same one")
        self._numbers.add(number)
        self.payees[record.document_id] = number


def payer_of(record: Record, now: datetime) -> Payer:
    """What a PARENT record says of its payer, for whoever has to make a job of it.

    Raises:
        RecordError: as for `Record.root`.
        StpError: `stp.rules`, with what is wrong in this one document.
    """
    if record.document_type != PARENT:
        rule = f"{named(record.document_id)}, DocumentType: the first document must be a {PARENT}"
        raise StpError("stp.rules", (rule,))
    faults = Faults()
    payer = Parent(record, record.root(), faults, now).read(update=False)
    if faults.told:
        raise StpError("stp.rules", tuple(faults.told))
    return payer


def split_by_payer(pieces: Iterable[bytes]) -> Iterator[Iterator[Record]]:
    """The documents of each payer in a file that may hold several, in order; read each part before the next.

    Raises:
        RecordError: as for `records`.
    """
    parents = 0

    def part(record: Record) -> int:
        nonlocal parents
        parents += record.document_type == PARENT
        return parents

    for _, one in groupby(records(pieces), part):
        yield one
