"""A Single Touch Payroll document, read as it will be judged: PAYEVNT parents, each with its PAYEVNTEMP children.

What the ATO would refuse for reasons that can be known here is refused here, before anything is sent: each fault names
document, field and rule, and never the value, which may be a tax file number. The producer's bytes are not changed.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from itertools import groupby

from lxml import etree
from stdnum.au import abn as abn_rules
from stdnum.au import tfn as tfn_rules

from pipeline.protocol.record_delimiter import Record, RecordError, records

PARENT, CHILD = "PARENT", "CHILD"
PAY_EVENT, PAYEE = "PAYEVNT", "PAYEVNTEMP"
NAMESPACES = {PAY_EVENT: "http://www.sbr.gov.au/ato/payevnt", PAYEE: "http://www.sbr.gov.au/ato/payevntemp"}
_TYPES = {PARENT: PAY_EVENT, CHILD: PAYEE}
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_MOMENT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}")
_COUNT = re.compile(r"[0-9]{1,9}")
OLDEST = timedelta(days=350)
NO_TFN = frozenset({"000000000", "111111111", "333333333", "444444444", "987654321"})
"""What stands for a tax file number that was not quoted, is pending, or need not be given (ATO, TFN declarations)."""
FAULTS_TOLD = 50
"""So many faults are told of one document; a file that is wrong throughout has the same fault in every record."""


@dataclass(frozen=True, slots=True)
class Payer:
    """What a PAYEVNT says that the pipeline acts on."""

    document_id: str
    abn: str | None
    wpn: str | None
    branch: str
    bms_id: str
    submission_id: str
    pay_date: date | None
    replaces: bool
    """A full file replacement: it takes the place of the event with the same submission id."""
    payees: int
    """How many records it announces."""
    agent_abn: str | None
    agent_number: str | None

    @property
    def party(self) -> str:
        return self.abn or self.wpn or ""

    @property
    def lane(self) -> str:
        """Events of one payer, branch and payroll system must be lodged and answered in order."""
        return f"stp/{self.party}/{self.branch}/{self.bms_id}"


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
        place = f"document {error.where}: " if error.where else ""
        raise StpError("stp.records", (*reading.faults.told, f"{place}{error}"), reading.faults.more) from error
    reading.finish()
    if reading.faults.told:
        raise StpError("stp.rules", tuple(reading.faults.told), reading.faults.more)
    return PayEvent(tuple(reading.payers), reading.payees)


class _Faults:
    """Collects what is wrong, up to `FAULTS_TOLD`."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.more = 0

    def add(self, record: Record, place: str, rule: str) -> None:
        if len(self.told) < FAULTS_TOLD:
            self.told.append(f"document {record.document_id}, {place}: {rule}")
        else:
            self.more += 1


class _Reading:
    """The state of one pass: which parent is open, who was met."""

    def __init__(self, update: bool, now: datetime) -> None:
        self.faults = _Faults()
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
        self.payers.append(_Parent(record, root, self.faults, self._now).read(update=self._update))

    def _child(self, record: Record, root: etree._Element) -> None:
        self._children += 1
        read = _Fields(record, root, self.faults)
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


class _Fields:
    """Reads the fields of one document by their path below its root."""

    def __init__(self, record: Record, root: etree._Element, faults: _Faults) -> None:
        self._record = record
        self._root = root
        self._faults = faults
        self._namespace = etree.QName(root).namespace or ""

    def has(self, path: str) -> bool:
        return self._found(path) is not None

    def text(self, path: str) -> str:
        """The field's text, comments left out; empty when it is not there."""
        found = self._found(path)
        return "" if found is None else "".join(str(part) for part in found.itertext()).strip()

    def _found(self, path: str) -> etree._Element | None:
        return self._root.find("/".join(f"{{{self._namespace}}}{name}" for name in path.split("/")))

    def required(self, path: str) -> str:
        value = self.text(path)
        if not value:
            self.fault(path, "must be given")
        return value

    def fault(self, path: str, rule: str) -> None:
        self._faults.add(self._record, path, rule)

    def day(self, path: str) -> date | None:
        value = self.required(path)
        if not value:
            return None
        try:
            # The library reads more forms than XML Schema has (Part 2, 3.2.9).
            if _DAY.fullmatch(value):
                return date.fromisoformat(value)
        except ValueError:
            pass
        self.fault(path, "must be a date, YYYY-MM-DD")
        return None


class _Parent(_Fields):
    """Reads a PAYEVNT."""

    def __init__(self, record: Record, root: etree._Element, faults: _Faults, now: datetime) -> None:
        super().__init__(record, root, faults)
        self._now = now

    def read(self, *, update: bool) -> Payer:
        payer = Payer(
            document_id=self._record.document_id,
            abn=self.text("Rp/AustralianBusinessNumberId") or None,
            wpn=self.text("Rp/WithholdingPayerNumberId") or None,
            branch=self.text("Rp/OrganisationDetailsOrganisationBranchC") or "1",
            bms_id=self.required("Rp/SoftwareInformationBusinessManagementSystemId"),
            submission_id=self.required("Rp/Payroll/InteractionTransactionId"),
            pay_date=self.day("Rp/Payroll/PaymentRecordTransactionD"),
            replaces=self.text("Rp/Payroll/AmendmentI") in {"true", "1"},
            payees=self._count(),
            agent_abn=self.text("Int/AustralianBusinessNumberId") or None,
            agent_number=self.text("Int/TaxAgentNumberId") or None,
        )
        self._check_numbers(payer)
        self._check_days(payer)
        if update and self.has("Rp/Payroll/IncomeTaxAndRemuneration"):
            rule = "an update event is no payment and has no totals of the payer: leave it out, or use action Submit"
            self.fault("Rp/Payroll/IncomeTaxAndRemuneration", rule)
        if update and payer.replaces:
            self.fault("Rp/Payroll/AmendmentI", "an update event cannot replace a file; lodge a further update instead")
        return replace(payer, branch=payer.branch.lstrip("0") or "1")

    def _count(self) -> int:
        value = self.required("Rp/Payroll/InteractionRecordCt")
        if _COUNT.fullmatch(value):
            return int(value)
        if value:
            self.fault("Rp/Payroll/InteractionRecordCt", "must be a whole number")
        return 0

    def _check_numbers(self, payer: Payer) -> None:
        if (payer.abn is None) == (payer.wpn is None):
            rule = "give exactly one of AustralianBusinessNumberId and WithholdingPayerNumberId (PAYEVNT.000177)"
            self.fault("Rp", rule)
        for path, value in (
            ("Rp/AustralianBusinessNumberId", payer.abn),
            ("Int/AustralianBusinessNumberId", payer.agent_abn),
        ):
            if value is not None and not abn_rules.is_valid(value):
                self.fault(path, "is no ABN: its check digits do not hold")
        if payer.wpn is not None and not (payer.wpn.isdecimal() and payer.wpn.isascii() and len(payer.wpn) == 9):
            self.fault("Rp/WithholdingPayerNumberId", "must have 9 digits")

    def _check_days(self, payer: Payer) -> None:
        today = self._now.date()
        # West of Greenwich it is never tomorrow, in Australia it may be: fourteen hours are granted.
        latest = (self._now + timedelta(hours=14)).date()
        if payer.pay_date is not None and payer.pay_date > latest:
            self.fault("Rp/Payroll/PaymentRecordTransactionD", "must not be after today (PAYEVNT.000199)")
        if payer.pay_date is not None and payer.pay_date < today - OLDEST:
            self.fault("Rp/Payroll/PaymentRecordTransactionD", "is more than 350 days ago (PAYEVNT.000215)")
        for path in ("Rp/Declaration/SignatureD", "Int/Declaration/SignatureD"):
            if self.text(path):
                signed = self.day(path)
                if signed is not None and signed > latest:
                    self.fault(path, "must not be after today (PAYEVNT.000193)")
        self._check_timestamp("Rp/Payroll/MessageTimestampGenerationDt")

    def _check_timestamp(self, path: str) -> None:
        value = self.required(path)
        if not value:
            return
        try:
            moment = datetime.fromisoformat(value) if _MOMENT.match(value) else None
        except ValueError:
            moment = None
        if moment is None:
            self.fault(path, "must be a date and time in UTC, for example 2026-11-25T03:04:05Z")
            return
        if moment.utcoffset() != timedelta(0):
            self.fault(path, "must be in UTC and say so with a final Z")
        elif moment > self._now + timedelta(minutes=5):
            rule = "is in the future: local time written as if it were UTC is the usual cause (PAYEVNT.000194)"
            self.fault(path, rule)


def payer_of(record: Record, now: datetime) -> Payer:
    """What a PARENT record says of its payer, for whoever has to make a job of it.

    Raises:
        RecordError: as for `Record.root`.
        StpError: `stp.rules`, with what is wrong in this one document.
    """
    if record.document_type != PARENT:
        rule = f"document {record.document_id}, DocumentType: the first document must be a {PARENT}"
        raise StpError("stp.rules", (rule,))
    faults = _Faults()
    payer = _Parent(record, record.root(), faults, now).read(update=False)
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
