"""A synthetic pay run: employers, their payees, and a pay event of each, shaped like what is known of PAYEVNT.0004.

The same arguments give the same documents. No tax file number is in it: every payee's is pending (ATO, 111111111).
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from pipeline.lodgment.software_id import control_digit
from pipeline.protocol.xml import escape_text
from pipeline.sandbox.home import synthetic_abn
from pipeline.sandbox.sbr2_scenarios import Sbr2Script

_PARENT_NAMESPACE = "http://www.sbr.gov.au/ato/payevnt"
_CHILD_NAMESPACE = "http://www.sbr.gov.au/ato/payevntemp"
_FIRST_EMPLOYER = 20_000
"""Of the numbers that synthetic ABNs are made of; others are the business name batch's and the credentials'."""
_LARGEST = 130
"""Payees of one employer: with more, a document would not fit into a job."""
_TRADES = ("Bakery", "Joinery", "Surf School", "Fruit & Veg", "Bookkeeping", "Plumbing")
_FAMILY_NAMES = ("Wattle", "Banksia", "O'Possum", "Quoll-Ibis", "Müller", "Nguyễn", "Emu & Sons")


@dataclass(frozen=True, slots=True)
class Employer:
    """One payer of the run."""

    number: int
    payees: int

    @property
    def abn(self) -> str:
        return synthetic_abn(_FIRST_EMPLOYER + self.number)

    @property
    def name(self) -> str:
        return f"SYNTHETIC {_TRADES[self.number % len(_TRADES)]} {self.number}"

    @property
    def software_id(self) -> str:
        """The SSID under which this employer is a client of the provider."""
        nine = f"{_FIRST_EMPLOYER + self.number:09d}"
        return nine + control_digit(nine)


def employers(count: int, payees: int, chance: random.Random) -> list[Employer]:
    """`count` employers with `payees` between them, at least one each: a few large ones, many small.

    Raises:
        ValueError: so many payees do not fit into so many documents, or not every employer would have one.
    """
    if not count <= payees <= count * _LARGEST // 2:
        raise ValueError(f"payees: {count} employers have from {count} to {count * _LARGEST // 2} payees")
    sizes = [1] * count
    weights = [chance.paretovariate(1.2) for _ in range(count)]
    for place in chance.choices(range(count), weights, k=payees - count):
        # What is too many for a large employer goes to the next that has room.
        free = next(one % count for one in range(place, place + count) if sizes[one % count] < _LARGEST)
        sizes[free] += 1
    return [Employer(number, size) for number, size in enumerate(sizes, start=1)]


def pay_event(employer: Employer, submission: str, now: datetime, script: Sbr2Script | None = None) -> str:
    """The employer's pay event of today: a parent, and a child for each payee. `script` is what the sandbox makes of
    it.
    """
    chance = random.Random(f"{employer.number}/{submission}")  # noqa: S311  - repeatable examples, not secrets
    payees = [_Payee.drawn(number, chance) for number in range(1, employer.payees + 1)]
    records = [_delimiter("1.1", "PARENT", "PAYEVNT", ""), _parent(employer, submission, payees, now, script)]
    for number, payee in enumerate(payees, start=2):
        records += (_delimiter(f"1.{number}", "CHILD", "PAYEVNTEMP", "1.1"), payee.document(now.date()))
    return "\n".join(records) + "\n"


@dataclass(frozen=True, slots=True)
class _Payee:
    """One person, with amounts for the financial year to date."""

    number: int
    family_name: str
    gross: int
    tax: int
    super_guarantee: int

    @classmethod
    def drawn(cls, number: int, chance: random.Random) -> "_Payee":
        gross = chance.randrange(4_000, 160_000)
        return cls(number, chance.choice(_FAMILY_NAMES), gross, gross * 22 // 100, gross * 12 // 100)

    def document(self, today: date) -> str:
        return "".join((f'<tns:PAYEVNTEMP xmlns:tns="{_CHILD_NAMESPACE}">', *self._fields(today), "</tns:PAYEVNTEMP>"))

    def _fields(self, today: date) -> Iterator[str]:
        yield _group(
            "Payee",
            _group(
                "Identifiers",
                _field("TaxFileNumberId", "111111111") + _field("EmploymentPayrollNumberId", f"SYN-{self.number:05d}"),
            )
            + _group("PersonNameDetails", _field("FamilyNameT", self.family_name) + _field("GivenNameT", "Synthetic"))
            + _group("PersonDemographicDetailsBirth", _field("Dm", "1") + _field("M", "1") + _field("Y", "1990"))
            + _group("AddressDetailsPostal", _field("Line1T", "1 Synthetic St") + _field("PostcodeT", "2600")),
        )
        yield _group(
            "EmployerConditions",
            _field("EmploymentStartD", "2024-07-01") + _field("PaymentBasisC", "F") + _field("TaxTreatmentC", "RTXXXX"),
        )
        pay = _field("IncomeStreamTypeC", "SAW") + _amount("TaxWithheldA", self.tax) + _amount("GrossA", self.gross)
        yield _group(
            "PayrollPeriod",
            _field("StartD", f"{today - timedelta(days=13)}")
            + _field("EndD", f"{today}")
            + _field("RemunerationPayrollEventFinalI", "false")
            + _group("Remuneration", pay),
        )
        yield _group(
            "SuperannuationContributionCollection",
            _field("EntitlementTypeC", "L") + _amount("YearToDateA", self.super_guarantee),
        )


def _parent(employer: Employer, submission: str, payees: list[_Payee], now: datetime, script: Sbr2Script | None) -> str:
    name = employer.name if script is None else str(script)
    totals = _amount("PayAsYouGoWithholdingTaxWithheldA", sum(one.tax for one in payees))
    totals += _amount("TotalGrossPaymentsWithholdingA", sum(one.gross for one in payees))
    content = (
        _field("SoftwareInformationBusinessManagementSystemId", f"SYNTHETIC-BMS-{employer.number:05d}")
        + _field("AustralianBusinessNumberId", employer.abn)
        + _field("OrganisationDetailsOrganisationBranchC", "001")
        + _group("OrganisationName", _field("DetailsOrganisationalNameT", name))
        + _group("AddressDetailsPostal", _field("PostcodeT", "2600") + _field("CountryC", "au"))
        + _group(
            "Payroll",
            _field("PaymentRecordTransactionD", f"{now:%Y-%m-%d}")
            + _field("InteractionRecordCt", str(len(payees)))
            + _field("MessageTimestampGenerationDt", f"{now:%Y-%m-%dT%H:%M:%SZ}")
            + _field("InteractionTransactionId", submission)
            + _field("AmendmentI", "false")
            + _group("IncomeTaxAndRemuneration", totals),
        )
        + _group(
            "Declaration",
            _field("SignatoryIdentifierT", "SYNTHETIC")
            + _field("SignatureD", f"{now:%Y-%m-%d}")
            + _field("StatementAcceptedI", "true"),
        )
    )
    return f'<tns:PAYEVNT xmlns:tns="{_PARENT_NAMESPACE}">{_group("Rp", content)}</tns:PAYEVNT>'


def _delimiter(document_id: str, document_type: str, name: str, related: str) -> str:
    return (
        f'<Record_Delimiter DocumentID="{document_id}" DocumentType="{document_type}" DocumentName="{name}"'
        f' RelatedDocumentID="{related}"/>'
    )


def _group(name: str, content: str) -> str:
    return f"<tns:{name}>{content}</tns:{name}>"


def _field(name: str, value: str) -> str:
    return _group(name, escape_text(value))


def _amount(name: str, dollars: int) -> str:
    return _field(name, f"{dollars}.00")
