"""A synthetic pay run: employers, their payees, and a pay event of each, as documents or as lines of a payee table.

The same arguments give the same bytes. No tax file number is in it: every payee's is pending (ATO, 111111111).
"""

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import accumulate, pairwise

from pipeline.channels.payee_columns import TOTALS
from pipeline.channels.stp_writing import Event, cents, documents
from pipeline.lodgment.software_id import SoftwareId, control_digit
from pipeline.lodgment.subscription import Checked, Origin, RegisteredId, Subscription
from pipeline.sandbox.home import synthetic_abn
from pipeline.sandbox.sbr2_scenarios import Sbr2Script

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
    system: str = "SYNTHETIC"
    """Whose payroll it is: what another system lodged for the same employer is in another lane."""

    @property
    def bms_id(self) -> str:
        return f"{self.number:05d}-{self.system}"

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


def registered_ids(count: int, product: str, now: datetime) -> list[RegisteredId]:
    """The software ids of the first `count` employers, for the ledger: no job names its own."""
    numbered = (Employer(number, 1) for number in range(1, count + 1))
    return [
        RegisteredId(
            SoftwareId(one.software_id),
            Subscription(product, one.abn),
            Origin.IMPORTED,
            Checked.CONTROL_DIGIT,
            now,
            "sandbox",
            "SYNTHETIC",
        )
        for one in numbered
    ]


def employers(count: int, payees: int, chance: random.Random, system: str = "SYNTHETIC") -> list[Employer]:
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
    return [Employer(number, size, system) for number, size in enumerate(sizes, start=1)]


def any_size(count: int, payees: int, chance: random.Random) -> Iterator[Employer]:
    """`count` employers of any size with `payees` between them, at least one each; they are not held.

    Raises:
        ValueError: not every employer would have a payee.
    """
    if not 1 <= count <= payees:
        raise ValueError(f"{count} employers have at least {count} payees")
    weights = [chance.paretovariate(1.2) for _ in range(count)]
    whole = sum(weights)
    # Each gets what the rounded sums up to it differ by, so that nothing is lost by rounding.
    ends = (round(upto / whole * (payees - count)) for upto in accumulate(weights, initial=0.0))
    return (Employer(number, 1 + end - start) for number, (start, end) in enumerate(pairwise(ends), start=1))


def pay_event(employer: Employer, submission: str, now: datetime, script: Sbr2Script | None = None) -> str:
    """The employer's pay event of today: a parent, and a child for each payee. `script` is what the sandbox makes of
    it.
    """
    return b"".join(event_documents(PayRun(employer, submission, now, script))).decode()


@dataclass(frozen=True, slots=True)
class PayRun:
    """One employer's pay of one day. `full` gives payees everything that a payroll reports of them."""

    employer: Employer
    submission: str
    now: datetime
    script: Sbr2Script | None = None
    full: bool = False

    @property
    def payer(self) -> dict[str, str]:
        """By the names of `payer_columns`."""
        one = self.employer
        return {
            "bms_id": one.bms_id,
            "payer_abn": one.abn,
            "branch": "001",
            "payer_name": one.name if self.script is None else str(self.script),
            "payer_postcode": "2600",
            "payer_country": "au",
            "pay_date": f"{self.now:%Y-%m-%d}",
            "submission_id": self.submission,
            "replaces_file": "false",
            "declared_by": "SYNTHETIC",
            "declared_on": f"{self.now:%Y-%m-%d}",
            "declaration_accepted": "true",
        }

    def payees(self) -> Iterator[dict[str, str]]:
        """Each payee with amounts for the financial year and for this pay, drawn one by one."""
        chance = random.Random(f"{self.employer.number}/{self.submission}")  # noqa: S311  - repeatable, not secret
        for number in range(1, self.employer.payees + 1):
            yield _payee(number, chance, self.now) | (_FULL if self.full else {})


def table_lines(run: PayRun) -> Iterator[dict[str, str]]:
    """The pay run as lines of a payee table, by the names of columns."""
    payer = run.payer
    return (payer | payee for payee in run.payees())


def event_documents(run: PayRun) -> Iterator[bytes]:
    """The pay run as a pay event. Payees are drawn twice, and never held."""
    totals: Counter[str] = Counter()
    for payee in run.payees():
        totals.update({name: cents(payee[name]) for name in TOTALS if name in payee})
    event = Event(run.payer, run.employer.payees, totals, run.now)
    return documents(event, run.payees())


def _payee(number: int, chance: random.Random, now: datetime) -> dict[str, str]:
    gross = chance.randrange(4_000, 160_000)
    return {
        "tfn": "111111111",
        "payee_id": f"SYN-{number:05d}",
        "family_name": chance.choice(_FAMILY_NAMES),
        "given_name": "Synthetic",
        "birth_date": "1990-01-01",
        "address_1": "1 Synthetic St",
        "postcode": "2600",
        "started_on": "2024-07-01",
        "payment_basis": "F",
        "tax_treatment": "RTXXXX",
        "period_start": f"{now - timedelta(days=13):%Y-%m-%d}",
        "period_end": f"{now:%Y-%m-%d}",
        "final": "false",
        "income_type": "SAW",
        "withheld": f"{gross * 22 // 100}.00",
        "gross": f"{gross}.00",
        "super_l": f"{gross * 12 // 100}.00",
        "period_withheld": f"{gross * 22 // 2600}.00",
        "period_gross": f"{gross // 26}.00",
    }


_FULL = {
    "other_given_name": "Invented",
    "address_2": "Level 1, Imaginary House",
    "suburb": "Nowhere",
    "state": "ACT",
    "country": "au",
    "email": "synthetic@payee.invalid",
    "phone": "0000000000",
    "leave_o": "310.50",
    "leave_u": "12.25",
    "allowance_cd": "1040.00",
    "allowance_ld": "220.00",
    "allowance_od_text": "G1",
    "allowance_od": "35.00",
    "overtime": "480.75",
    "bonuses": "900.00",
    "salary_sacrifice_s": "1500.00",
    "salary_sacrifice_o": "640.00",
    "deduction_f": "82.00",
    "deduction_w": "15.60",
    "super_o": "61000.00",
    "super_r": "1500.00",
    "fringe_benefits_t": "2350.00",
}
