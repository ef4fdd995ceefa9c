"""Whose a software id is: one payroll product, as used by one employer or one agent's practice."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from stdnum.au import abn as abn_rules

from pipeline.lodgment.job import JobRefusedError, LodgmentJob
from pipeline.lodgment.software_id import SoftwareId, SoftwareIdError, software_id_fault

PRODUCT_LIMIT = 100
"""Characters of a product's name, and of a note."""
_ABN_DIGITS, _WPN_DIGITS = 11, 9
_SPREADSHEET_FORMULA = ("=", "+", "-", "@")


class Origin(StrEnum):
    """Where a registered id comes from."""

    GENERATED = "generated"
    IMPORTED = "imported"


class Checked(StrEnum):
    """Why a registered id may be used."""

    CONTROL_DIGIT = "control_digit"
    """Its control digit holds."""
    ALLOWED = "allowed"
    """Its control digit fails; a person registered it all the same, because the ATO knows the client by it."""


@dataclass(frozen=True, slots=True, order=True)
class Subscription:
    """Whose id it is: one payroll product as used by one employer (ABN, or WPN) or one agent's practice (ABN)."""

    product: str
    party: str

    def __str__(self) -> str:
        kind = "ABN" if len(self.party) == _ABN_DIGITS else "WPN"
        return f"{kind} {self.party} with product {self.product!r}"


@dataclass(frozen=True, slots=True)
class RegisteredId:
    """A software id as the ledger keeps it; never deleted, and never given to anybody else once retired."""

    software_id: SoftwareId
    whose: Subscription
    origin: Origin
    checked: Checked
    created_at: datetime
    created_by: str
    note: str | None = None
    retired_at: datetime | None = None
    retired_by: str | None = None
    retired_reason: str | None = None


def read_party(text: str) -> str:
    """An ABN, or a withholding payer number, without the spaces that people write in them.

    Raises:
        SoftwareIdError: neither.
    """
    digits = text.replace(" ", "")
    if digits.isascii() and digits.isdigit():
        if len(digits) == _WPN_DIGITS or (len(digits) == _ABN_DIGITS and abn_rules.is_valid(digits)):
            return digits
        if len(digits) == _ABN_DIGITS:
            raise SoftwareIdError("is no ABN: its check digits do not hold (modulus 89); a digit is mistyped")
    raise SoftwareIdError("must be an ABN (11 digits) or a withholding payer number (9 digits)")


def read_label(text: str) -> str:
    """A product's name, or a note: one line that a spreadsheet shows and does not run.

    Raises:
        SoftwareIdError: empty, over 100 characters, with control characters, or beginning like a formula.
    """
    label = text.strip()
    if not label or len(label) > PRODUCT_LIMIT or not label.isprintable():
        raise SoftwareIdError(f"must be 1 to {PRODUCT_LIMIT} printable characters on one line")
    if label.startswith(_SPREADSHEET_FORMULA):
        raise SoftwareIdError("must not begin with =, +, - or @: a spreadsheet would take it for a formula")
    return label


def subscription_of(job: LodgmentJob, usual_product: str | None) -> Subscription:
    """Whose software id a job is lodged with: the agent's practice where an agent lodges, else the employer.

    The ATO compares the id with what the lodging business told it; an agent's clients have told it nothing.

    Raises:
        JobRefusedError: `software-id.product`, neither the job nor the settings name the payroll product.
    """
    product = job.software_product or usual_product
    if product is None:
        rule = "software_product: name the payroll product, or have the operator set software.product for all jobs"
        raise JobRefusedError("software-id.product", (rule,), job.job_id)
    return Subscription(product, job.party_abn() if job.agent is None else job.agent.abn)


def software_id_for(job: LodgmentJob, whose: Subscription, registered: RegisteredId | None) -> SoftwareId:
    """The id to lodge `job` with, on a channel that carries one: the registered one, whatever the job says.

    It is not quoted in a refusal: a job must not be a way of asking for the ids of others.

    Raises:
        JobRefusedError: `software-id.unregistered` or `software-id.mismatch`; names field, rule and fix.
    """
    if registered is None:
        fault = job.software_id and software_id_fault(job.software_id)
        what = f"{fault}, and none is registered" if fault else "none is registered"
        command = f'lodge software-ids generate {whose.party} --product "{whose.product}"'
        rule = (
            f"software_id: {what} for {whose}; run `{command}` (or import the one that the client has), let the client "
            "notify the ATO of it, then push this job again"
        )
        raise JobRefusedError("software-id.unregistered", (rule,), job.job_id)
    if job.software_id not in {None, registered.software_id.digits}:
        rule = (
            f"software_id: is not the one that is registered for {whose}; leave it out of the job, it is looked up "
            "(with a wrong one the ATO refuses the client's lodgments: SBR.GEN.AUTH.008)"
        )
        raise JobRefusedError("software-id.mismatch", (rule,), job.job_id)
    return registered.software_id


def unused_id(job: LodgmentJob) -> str | None:
    """What a job says where its channel carries no software id: kept as it is, provided that its control digit holds.

    Raises:
        JobRefusedError: `software-id.rule`.
    """
    fault = job.software_id and software_id_fault(job.software_id)
    if fault:
        raise JobRefusedError("software-id.rule", (f"software_id: {fault}",), job.job_id)
    return job.software_id
