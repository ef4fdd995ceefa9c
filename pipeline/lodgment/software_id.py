"""Software ids (SSID): nine digits and a control digit, the digit sum modulo 10 (cloud software authorisation page)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

NUMBERS = 10**9
"""How many first nine digits there are; 0 is never generated, the published table begins with 1."""
MESSAGE_PROPERTY = "SoftwareSubscriptionId"
"""The ebMS3 message property that carries the id in SBR2 ("Passing of the software ID for SBR 2")."""


class SoftwareIdError(ValueError):
    """A value that breaks a rule of software ids; the text says which rule, and how to mend it."""


@dataclass(frozen=True, slots=True)
class SoftwareId:
    """Ten digits, as text: leading zeroes count. The control digit may fail, and `control_fault` says so.

    Raises:
        SoftwareIdError: not ten digits.
    """

    digits: str

    def __post_init__(self) -> None:
        fault = form_fault(self.digits)
        if fault is not None:
            raise SoftwareIdError(fault)

    @classmethod
    def of_number(cls, number: int) -> Self:
        """The id whose first nine digits are `number`, padded with zeroes (generation algorithm, steps 1 to 5).

        Raises:
            SoftwareIdError: `number` has more than nine digits, or is negative.
        """
        if not 0 <= number < NUMBERS:
            raise SoftwareIdError("the number before the control digit has nine digits at most")
        first_nine = f"{number:09d}"
        return cls(first_nine + control_digit(first_nine))

    @classmethod
    def checked(cls, text: str) -> Self:
        """`text` as an id whose control digit holds.

        Raises:
            SoftwareIdError: it breaks the rule.
        """
        found = cls(text)
        if found.control_fault is not None:
            raise SoftwareIdError(found.control_fault)
        return found

    @property
    def control_fault(self) -> str | None:
        """What is wrong with the control digit, in plain words; None when it holds."""
        expected = control_digit(self.digits[:9])
        if self.digits[9] == expected:
            return None
        return f"control digit must be {expected} (sum of the first nine digits, modulo 10), not {self.digits[9]}"

    def message_property(self) -> tuple[str, str]:
        """Name and value of the SBR2 message property."""
        return MESSAGE_PROPERTY, self.digits

    def __str__(self) -> str:
        return self.digits


Draw = Callable[[], SoftwareId]
"""A fresh id at random; whether it is free, the ledger says."""


def control_digit(first_nine: str) -> str:
    """The tenth digit for a string of nine digits."""
    return str(sum(int(digit) for digit in first_nine) % 10)


def form_fault(text: str) -> str | None:
    """What keeps `text` from being ten digits, or None."""
    if len(text) == 10 and text.isascii() and text.isdigit():
        return None
    rule = "must be exactly 10 digits, leading zeroes included"
    if text.isascii() and text.isdigit() and len(text) < 10:
        return f"{rule}; this has {len(text)}: a spreadsheet drops leading zeroes unless the column is text"
    return rule


def software_id_fault(software_id: str) -> str | None:
    """The rule that `software_id` breaks, in plain words, or None when it breaks none."""
    return form_fault(software_id) or SoftwareId(software_id).control_fault
