"""What the ATO's rules for pay events mean, as data: each code that public help pages and the ATO's own notes name.

The full rule set is licensed and not here. What a code says in a given case is in its text and location; these rows say
it in other words, and who can mend it. An outcome is final: a payer's record that was refused is lodged again as a new
job, a payee's record is corrected by an update event or by the next pay event.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.lodgment.failures import Party


@dataclass(frozen=True, slots=True)
class Rule:
    """One row. `place` names elements of PAYEVNT (the payer's record) or PAYEVNTEMP (a payee's)."""

    meaning: str
    action: str
    place: str
    who: Party = Party.PRODUCER


_BOTH = "PAYEVNT or PAYEVNTEMP, as the location says: "
_PAYER = "PAYEVNT/Rp/"
_AGENT = "PAYEVNT/Int/"
_PAYEE = "PAYEVNTEMP/"
_IN_PAYROLL = "Correct it in the payroll product; the payee goes along in an update event or the next pay event."
_AGAIN = "Correct it in the payroll product, and lodge the event as a new job."
_ADDRESS = "Correct the address in the payroll product, and lodge what was refused again."

RULES: Mapping[str, Rule] = {
    "CMN.ATO.GEN.EM0002": Rule(
        "The lodgment failed at the ATO, for a reason that only its own error number tells.",
        "Ask the ATO with the error number in the text; lodge it again as a new job when the ATO says so.",
        "nowhere: the ATO's own systems",
        Party.AGENCY,
    ),
    "CMN.ATO.GEN.200001": Rule(
        "An unexpected error at the ATO; most often it does not know the provider, or the agent, for this ABN.",
        "See that the software id is notified and the agent appointed in Access Manager; else ask the ATO.",
        "not in the document: ABN, agent number and software id of who lodges",
        Party.EMPLOYER,
    ),
    "CMN.ATO.GEN.200010": Rule(
        "The payer has neither an ABN nor a withholding payer number (WPN).",
        f"Give exactly one of the two. {_AGAIN}",
        f"{_PAYER}AustralianBusinessNumberId, WithholdingPayerNumberId",
    ),
    "CMN.ATO.GEN.200012": Rule(
        "The payer's withholding payer number (WPN) fails its check digit.",
        _AGAIN,
        f"{_PAYER}WithholdingPayerNumberId",
    ),
    "CMN.ATO.GEN.000009": Rule(
        "An Australian address has no postcode.",
        f"{_ADDRESS} The country code of an address in Australia is au.",
        f"{_BOTH}PostcodeT",
    ),
    "CMN.ATO.GEN.000480": Rule(
        "An address has a postcode, and a country that is not Australia.",
        f"{_ADDRESS} A foreign address has no Australian postcode.",
        f"{_BOTH}PostcodeT, CountryC",
    ),
    "CMN.ATO.GEN.300006": Rule(
        "An Australian address has no state or territory.",
        _ADDRESS,
        f"{_BOTH}StateOrTerritoryC",
    ),
    "CMN.ATO.GEN.500011": Rule(
        "A foreign address has a state or postcode of Australia.",
        f"{_ADDRESS} A foreign address has neither.",
        f"{_BOTH}StateOrTerritoryC, PostcodeT",
    ),
    "CMN.ATO.GEN.402043": Rule(
        "A payee's tax file number fails its check digit.",
        f"The employer asks the payee for the number again, or uses the one that stands for none quoted. {_IN_PAYROLL}",
        f"{_PAYEE}Payee/Identifiers/TaxFileNumberId",
    ),
    "CMN.ATO.GEN.434223": Rule(
        "An ABN, of the payer or of a contractor, fails its check digits.",
        "Correct it in the payroll product, and lodge what was refused again.",
        f"{_BOTH}AustralianBusinessNumberId",
    ),
    "CMN.ATO.GEN.500029": Rule(
        "An e-mail address is not of the form of one.",
        "Correct it in the payroll product or leave it out, and lodge what was refused again.",
        f"{_BOTH}ElectronicMailAddressT",
    ),
    "CMN.ATO.PAYEVNT.000015": Rule(
        "The payer's ABN fails its check digits.", _AGAIN, f"{_PAYER}AustralianBusinessNumberId"
    ),
    "CMN.ATO.PAYEVNT.000110": Rule(
        "The payer's contact e-mail address is not of the form of one.",
        _AGAIN,
        f"{_PAYER}ElectronicContact/ElectronicMailAddressT",
    ),
    "CMN.ATO.PAYEVNT.000172": Rule(
        "The agent's ABN fails its check digits.", _AGAIN, f"{_AGENT}AustralianBusinessNumberId"
    ),
    "CMN.ATO.PAYEVNT.000173": Rule(
        "The agent's contact e-mail address is not of the form of one.",
        _AGAIN,
        f"{_AGENT}ElectronicContact/ElectronicMailAddressT",
    ),
    "CMN.ATO.PAYEVNT.000177": Rule(
        "The payer must have an ABN or a withholding payer number (WPN), and not both.",
        f"Give exactly one of the two. {_AGAIN}",
        f"{_PAYER}AustralianBusinessNumberId, WithholdingPayerNumberId",
    ),
    "CMN.ATO.PAYEVNT.000178": Rule(
        "The payer's Australian address has no state or territory.",
        _AGAIN,
        f"{_PAYER}AddressDetailsPostal/StateOrTerritoryC",
    ),
    "CMN.ATO.PAYEVNT.000179": Rule(
        "The payer's Australian address has no valid postcode.", _AGAIN, f"{_PAYER}AddressDetailsPostal/PostcodeT"
    ),
    "CMN.ATO.PAYEVNT.000183": Rule(
        "The payer's withholding payer number (WPN) fails its check digit.",
        _AGAIN,
        f"{_PAYER}WithholdingPayerNumberId",
    ),
    "CMN.ATO.PAYEVNT.000191": Rule(
        "The number of payees that the payer's record announces is not the number of records that follow.",
        "Report it to the payroll product's maker. The file may have been cut or edited: make it again.",
        f"{_PAYER}Payroll/InteractionRecordCt",
    ),
    "CMN.ATO.PAYEVNT.000192": Rule(
        "No payee's record follows the payer's.",
        "A pay event needs one payee at least: make the file again with those who were paid.",
        "the record delimiters: a PARENT without a CHILD",
    ),
    "CMN.ATO.PAYEVNT.000193": Rule(
        "The declaration is dated in the future.",
        f"Check the clock of the machine that signs off the event. {_AGAIN}",
        f"{_PAYER}Declaration/SignatureD, or {_AGENT}Declaration/SignatureD",
    ),
    "CMN.ATO.PAYEVNT.000194": Rule(
        "The event says that it was made later than it arrived; most often local time was written as UTC.",
        f"The time must be in UTC. {_AGAIN}",
        f"{_PAYER}Payroll/MessageTimestampGenerationDt",
    ),
    "CMN.ATO.PAYEVNT.000199": Rule(
        "The pay day, or the day of the update, is after today.",
        f"Lodge on the pay day or before the file is dated. {_AGAIN}",
        f"{_PAYER}Payroll/PaymentRecordTransactionD",
    ),
    "CMN.ATO.PAYEVNT.000215": Rule(
        "The pay day is more than 350 days ago.",
        "What is so old is corrected by an update event of its own year, or with the ATO.",
        f"{_PAYER}Payroll/PaymentRecordTransactionD",
    ),
    "CMN.ATO.PAYEVNT.EM92168": Rule(
        "A year is finalised in which no pay event was lodged for this payer, branch and payroll system (BMS id).",
        "Lodge a pay event of that year first, or finalise under the ABN, branch and BMS id that it was paid under.",
        f"{_PAYER}SoftwareInformationBusinessManagementSystemId, OrganisationDetailsOrganisationBranchC",
    ),
    "CMN.ATO.PAYEVNT.EM92172": Rule(
        "The ATO has an event with this submission id already.",
        "If this is that event, nothing: it was lodged. Else the payroll product must give each event its own id.",
        f"{_PAYER}Payroll/InteractionTransactionId",
    ),
    "CMN.ATO.PAYEVNT.EM14160": Rule(
        "The full file replacement is refused; an event can be replaced only once.",
        "Correct the figures by an update event.",
        f"{_PAYER}Payroll/AmendmentI, InteractionTransactionId",
    ),
    "CMN.ATO.PAYEVNTEMP.000180": Rule(
        "An employment termination payment is dated in another financial year than the pay day.",
        f"Report it in the year in which it was paid. {_IN_PAYROLL}",
        f"{_PAYEE}EmploymentTerminationPayment, with {_PAYER}Payroll/PaymentRecordTransactionD",
    ),
    "CMN.ATO.PAYEVNTEMP.000358": Rule(
        "A payee's income is of a kind that needs a country code, as that of a working holiday maker, and has none.",
        f"Give the country by its two letters. {_IN_PAYROLL}",
        f"{_PAYEE}Remuneration/AddressDetailsCountryC",
    ),
    "CMN.ATO.PAYEVNTEMP.000377": Rule(
        "A payee's employment has an end and no reason for it.",
        f"Give the reason for the cessation. {_IN_PAYROLL}",
        f"{_PAYEE}EmployerConditions/CessationTypeC, EmploymentEndD",
    ),
}
"""By code. `CMN.ATO.GEN.XML03` and `EM0001`, which also come before a document is taken, are among the faults."""
