"""The fields of one document of a pay event, PAYEVNT or PAYEVNTEMP, and the rules that each must keep."""

import re
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta

from lxml import etree
from stdnum.au import abn as abn_rules

from pipeline.channels.foreign_text import plain
from pipeline.protocol.record_delimiter import Record

PARENT, CHILD = "PARENT", "CHILD"
PAY_EVENT, PAYEE = "PAYEVNT", "PAYEVNTEMP"
NAMESPACES = {PAY_EVENT: "http://www.sbr.gov.au/ato/payevnt", PAYEE: "http://www.sbr.gov.au/ato/payevntemp"}
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_MOMENT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}")
_COUNT = re.compile(r"[0-9]{1,9}")
OLDEST = timedelta(days=350)
NO_TFN = frozenset({"000000000", "111111111", "333333333", "444444444", "987654321"})
"""What stands for a tax file number that was not quoted, is pending, or need not be given (ATO, TFN declarations)."""
FAULTS_TOLD = 50
"""So many faults are told of one document; a file that is wrong throughout has the same fault in every record."""
_ID_SHOWN = 64
"""Characters of a document's id that a fault repeats: the producer's text, of any length."""


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


def named(document_id: str) -> str:
    """A document, as errors name it."""
    return f"document {plain(document_id, _ID_SHOWN)}"


class Faults:
    """Collects what is wrong, up to `FAULTS_TOLD`."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.more = 0

    def add(self, record: Record, place: str, rule: str) -> None:
        if len(self.told) < FAULTS_TOLD:
            self.told.append(f"{named(record.document_id)}, {place}: {rule}")
        else:
            self.more += 1


class Fields:
    """Reads the fields of one document by their path below its root."""

    def __init__(self, record: Record, root: etree._Element, faults: Faults) -> None:
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


class Parent(Fields):
    """Reads a PAYEVNT."""

    def __init__(self, record: Record, root: etree._Element, faults: Faults, now: datetime) -> None:
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
