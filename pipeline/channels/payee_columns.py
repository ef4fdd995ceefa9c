"""The columns of a payee table, and where each lands in a pay event.

Names and order of the elements are those that public code has for PAYEVNT.0004; the agency's schema is not public. A
step such as `Allowance[TypeC=CD]` is an element of its own that begins with this child.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from pipeline.channels.payee_forms import CellError, Form

STREAMS = ("", "stream2_", "stream3_")
"""Prefixes of the columns for further kinds of income of one payee."""
INCOME_TYPES = ("SAW", "CHP", "WHM", "FEI", "IAA", "SWP", "JPD", "VOL", "LAB", "OSP")
TOTALS = {
    "period_withheld": "Rp/Payroll/IncomeTaxAndRemuneration/PayAsYouGoWithholdingTaxWithheldA",
    "period_gross": "Rp/Payroll/IncomeTaxAndRemuneration/TotalGrossPaymentsWithholdingA",
    "period_child_support_garnishee": "Rp/Payroll/IncomeTaxAndRemuneration/ChildSupportGarnisheeA",
    "period_child_support_deduction": "Rp/Payroll/IncomeTaxAndRemuneration/ChildSupportWithholdingA",
}
"""What this pay paid, by payee; the payer's document has the sums."""
_STREAM = "Payee/PayrollPeriod/RemunerationCollection/Remuneration"


@dataclass(frozen=True, slots=True)
class Column:
    """A column. `place` is the path of its element below the document's root."""

    name: str
    place: str
    form: Form = Form.TEXT
    required: bool = False
    choices: tuple[str, ...] = ()

    def read(self, value: str) -> str:
        """The cell as it is written into a document.

        Raises:
            CellError: it breaks the column's rule.
        """
        if self.choices and value.upper() not in self.choices:
            raise CellError(f"must be one of {', '.join(self.choices)}")
        return value.upper() if self.choices else self.form.read(value)


@cache
def payer_columns() -> dict[str, Column]:
    """What is the same on every line of a payer, in the order of its document; totals are not among them."""
    rp, pay, said, agent = "Rp", "Rp/Payroll", "Rp/Declaration", "Int"
    return _by_name(
        Column("bms_id", f"{rp}/SoftwareInformationBusinessManagementSystemId", required=True),
        Column("payer_abn", f"{rp}/AustralianBusinessNumberId", Form.ABN),
        Column("payer_wpn", f"{rp}/WithholdingPayerNumberId", Form.WPN),
        Column("branch", f"{rp}/OrganisationDetailsOrganisationBranchC", Form.BRANCH),
        Column("previous_bms_id", f"{rp}/PreviousSoftwareInformationBusinessManagementSystemId"),
        Column("payer_name", f"{rp}/OrganisationName/DetailsOrganisationalNameT", required=True),
        Column("payer_contact", f"{rp}/OrganisationName/PersonUnstructuredNameFullNameT"),
        Column("payer_email", f"{rp}/ElectronicContact/ElectronicMailAddressT", Form.MAIL),
        Column("payer_phone", f"{rp}/ElectronicContact/TelephoneMinimalN"),
        Column("payer_postcode", f"{rp}/AddressDetailsPostal/PostcodeT"),
        Column("payer_country", f"{rp}/AddressDetailsPostal/CountryC", Form.COUNTRY),
        Column("pay_date", f"{pay}/PaymentRecordTransactionD", Form.DAY, required=True),
        Column("submission_id", f"{pay}/InteractionTransactionId", required=True),
        Column("replaces_file", f"{pay}/AmendmentI", Form.FLAG),
        Column("declared_by", f"{said}/SignatoryIdentifierT", required=True),
        Column("declared_on", f"{said}/SignatureD", Form.DAY, required=True),
        Column("declaration_accepted", f"{said}/StatementAcceptedI", Form.ACCEPTED, required=True),
        Column("agent_abn", f"{agent}/AustralianBusinessNumberId", Form.ABN),
        Column("agent_number", f"{agent}/TaxAgentNumberId", Form.AGENT),
        Column("agent_name", f"{agent}/PersonUnstructuredNameFullNameT"),
        Column("agent_email", f"{agent}/ElectronicContact/ElectronicMailAddressT", Form.MAIL),
        Column("agent_phone", f"{agent}/ElectronicContact/TelephoneMinimalN"),
    )


@cache
def payee_columns() -> dict[str, Column]:
    """What is a payee's own, in the order of the document."""
    who, lives, works, pay = (
        "Payee/Identifiers",
        "Payee/AddressDetails",
        "Payee/EmployerConditions",
        "Payee/PayrollPeriod",
    )
    streams = (column for number, prefix in enumerate(STREAMS, start=1) for column in _stream(prefix, number))
    return _by_name(
        Column("tfn", f"{who}/TaxFileNumberId", Form.TFN),
        Column("payee_abn", f"{who}/AustralianBusinessNumberId", Form.ABN),
        Column("payee_id", f"{who}/EmploymentPayrollNumberId", required=True),
        Column("previous_payee_id", f"{who}/PreviousPayrollIDEmploymentPayrollNumberId"),
        Column("family_name", "Payee/PersonNameDetails/FamilyNameT", required=True),
        Column("given_name", "Payee/PersonNameDetails/GivenNameT"),
        Column("other_given_name", "Payee/PersonNameDetails/OtherGivenNameT"),
        Column("birth_date", "Payee/PersonDemographicDetailsBirth", Form.BIRTH),
        Column("address_1", f"{lives}/Line1T"),
        Column("address_2", f"{lives}/Line2T"),
        Column("suburb", f"{lives}/LocalityNameT"),
        Column(
            "state", f"{lives}/StateOrTerritoryC", choices=("ACT", "NSW", "NT", "QLD", "SA", "TAS", "VIC", "WA", "AAT")
        ),
        Column("postcode", f"{lives}/PostcodeT"),
        Column("country", f"{lives}/CountryC", Form.COUNTRY),
        Column("email", "Payee/ElectronicContact/ElectronicMailAddressT", Form.MAIL),
        Column("phone", "Payee/ElectronicContact/TelephoneMinimalN"),
        Column("started_on", f"{works}/EmploymentStartD", Form.DAY),
        Column("ended_on", f"{works}/EmploymentEndD", Form.DAY),
        Column("payment_basis", f"{works}/PaymentBasisC", choices=tuple("FPCLVDN")),
        Column("cessation_type", f"{works}/CessationTypeC", choices=tuple("VIDRFCT")),
        Column("tax_treatment", f"{works}/TaxTreatmentC"),
        Column("tax_offset", f"{works}/TaxOffsetClaimTotalA", Form.AMOUNT),
        Column("period_start", f"{pay}/StartD", Form.DAY, required=True),
        Column("period_end", f"{pay}/EndD", Form.DAY, required=True),
        Column("final", f"{pay}/RemunerationPayrollEventFinalI", Form.FLAG),
        *streams,
        *_kinds("deduction_", "FWGD", f"{pay}/DeductionCollection/Deduction[RemunerationTypeC={{}}]/RemunerationA"),
        *_kinds(
            "super_",
            "LOR",
            f"{pay}/SuperannuationContributionCollection/SuperannuationContribution[EntitlementTypeC={{}}]"
            "/EmployerContributionsYearToDateA",
        ),
        *_kinds(
            "fringe_benefits_",
            "TX",
            f"{pay}/IncomeFringeBenefitsReportableCollection"
            "/IncomeFringeBenefitsReportable[FringeBenefitsReportableExemptionC={}]/A",
        ),
    )


@cache
def total_columns() -> dict[str, Column]:
    """What this pay paid to the payee; an update event, which pays nothing, has none."""
    return _by_name(
        *(
            Column(name, place, Form.SIGNED, required=name in {"period_withheld", "period_gross"})
            for name, place in TOTALS.items()
        )
    )


def _stream(prefix: str, number: int) -> Iterator[Column]:
    """The columns of one kind of income; all amounts are of the year to date."""
    at = f"{_STREAM}[{number}]"
    first = number == 1
    yield Column(f"{prefix}income_type", f"{at}/IncomeStreamTypeC", required=first, choices=INCOME_TYPES)
    yield Column(f"{prefix}income_country", f"{at}/AddressDetailsCountryC", Form.COUNTRY)
    for name, element in (
        ("withheld", "IncomeTaxPayAsYouGoWithholdingTaxWithheldA"),
        ("foreign_withheld", "IncomeTaxForeignWithholdingA"),
        ("exempt_foreign_income", "IndividualNonBusinessExemptForeignEmploymentIncomeA"),
        ("gross", "GrossA"),
    ):
        yield Column(
            f"{prefix}{name}", f"{at}/{element}", Form.AMOUNT, required=first and name in {"withheld", "gross"}
        )
    yield from _kinds(f"{prefix}leave_", "CUPWAO", f"{at}/PaidLeaveCollection/PaidLeave[TypeC={{}}]/PaymentA")
    allowance = f"{at}/AllowanceCollection/Allowance[TypeC={{}}]"
    yield from _kinds(
        f"{prefix}allowance_", ("CD", "AD", "LD", "MD", "TD", "KN", "QN"), f"{allowance}/EmploymentAllowancesA"
    )
    yield Column(f"{prefix}allowance_od_text", f"{allowance.format('OD')}/OtherAllowanceTypeDe")
    yield Column(f"{prefix}allowance_od", f"{allowance.format('OD')}/EmploymentAllowancesA", Form.AMOUNT)
    for name, element in (
        ("overtime", "OvertimePaymentA"),
        ("bonuses", "GrossBonusesAndCommissionsA"),
        ("directors_fees", "GrossDirectorsFeesA"),
        ("cdep", "IndividualNonBusinessCommunityDevelopmentEmploymentProjectA"),
    ):
        yield Column(f"{prefix}{name}", f"{at}/{element}", Form.AMOUNT)
    yield from _kinds(
        f"{prefix}salary_sacrifice_", "SO", f"{at}/SalarySacrificeCollection/SalarySacrifice[TypeC={{}}]/PaymentA"
    )
    lump = f"{at}/LumpSumCollection/LumpSum[TypeC={{}}]"
    yield from _kinds(f"{prefix}lump_sum_", "RTBDW", f"{lump}/PaymentsA")
    yield Column(f"{prefix}lump_sum_e_year", f"{lump.format('E')}/FinancialY", Form.YEAR)
    yield Column(f"{prefix}lump_sum_e", f"{lump.format('E')}/PaymentsA", Form.AMOUNT)
    ended = f"{at}/EmploymentTerminationPaymentCollection/EmploymentTerminationPayment"
    yield Column(f"{prefix}etp_type", f"{ended}/IncomeTaxPayAsYouGoWithholdingTypeC")
    yield Column(f"{prefix}etp_date", f"{ended}/IncomeD", Form.DAY)
    yield Column(f"{prefix}etp_tax_free", f"{ended}/IncomeTaxFreeA", Form.AMOUNT)
    yield Column(f"{prefix}etp_taxable", f"{ended}/IncomeTaxableA", Form.AMOUNT)
    yield Column(f"{prefix}etp_withheld", f"{ended}/IncomePayAsYouGoWithholdingA", Form.AMOUNT)


def _kinds(prefix: str, kinds: str | tuple[str, ...], place: str) -> Iterator[Column]:
    """An amount for each kind, the kind's code at the end of the column's name."""
    for kind in kinds:
        yield Column(f"{prefix}{kind.lower()}", place.format(kind), Form.AMOUNT)


def _by_name(*columns: Column) -> dict[str, Column]:
    return {column.name: column for column in columns}
