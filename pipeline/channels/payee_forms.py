"""What a cell of a payee table must look like, and how it is written into a pay event.

No rule quotes the value: it may be a tax file number.
"""

import re
from collections.abc import Callable
from datetime import date
from enum import Enum

from stdnum.au import abn as abn_rules
from stdnum.au import tfn as tfn_rules

from pipeline.channels.stp_fields import NO_TFN

_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)
_AMOUNT = re.compile(r"(?P<whole>-?[0-9]{1,11})(?:\.(?P<cents>[0-9]{1,2}))?", re.ASCII)
_MAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f\ud800-\udfff\ufffe\uffff]")
_FLAGS = {"true": "true", "1": "true", "yes": "true", "false": "false", "0": "false", "no": "false"}
_NINE, _BRANCH, _AGENT, _YEAR = (
    re.compile(pattern, re.ASCII) for pattern in ("[0-9]{9}", "[0-9]{1,3}", "[0-9]{5,10}", "[0-9]{4}")
)


class CellError(ValueError):
    """A cell that breaks its column's rule; the text is the rule and the fix."""


def _text(value: str) -> str:
    if _UNPRINTABLE.search(value):
        raise CellError("holds a control character; take it out")
    if len(value) > 200:
        raise CellError("must have at most 200 characters")
    return value


def _abn(value: str) -> str:
    digits = value.replace(" ", "")
    if not abn_rules.is_valid(digits):
        raise CellError("must be an ABN of 11 digits whose check digits hold; copy it from the register again")
    return digits


def _wpn(value: str) -> str:
    return _matched(_NINE, value.replace(" ", ""), "must be a withholding payer number of 9 digits")


def _tfn(value: str) -> str:
    digits = value.replace(" ", "").replace("-", "")
    if not _NINE.fullmatch(digits):
        fix = "if a spreadsheet dropped a leading zero, format the column as text"
        raise CellError(f"must be a tax file number of 9 digits, or a code such as 111111111 (pending); {fix}")
    if digits not in NO_TFN and not tfn_rules.is_valid(digits):
        raise CellError("is no tax file number, its check digit does not hold; ask the payee, or give 111111111")
    return digits


def _day(value: str) -> str:
    try:
        if _DAY.fullmatch(value):
            return date.fromisoformat(value).isoformat()
    except ValueError as error:
        raise CellError("is a day that there is not; write YYYY-MM-DD") from error
    raise CellError("must be a date as YYYY-MM-DD; other orders are not guessed at")


def _amount(value: str) -> str:
    if value.startswith("-"):
        raise CellError("must not be negative: it is a total of the year to date")
    return _signed(value)


def _signed(value: str) -> str:
    found = _AMOUNT.fullmatch(value)
    if found is None:
        raise CellError("must be dollars and cents as 1234.56, without currency sign or thousands separator")
    return f"{found['whole']}.{(found['cents'] or '').ljust(2, '0')}"


def _flag(value: str) -> str:
    try:
        return _FLAGS[value.lower()]
    except KeyError:
        raise CellError("must be true or false") from None


def _accepted(value: str) -> str:
    if _flag(value) != "true":
        raise CellError("must be true: an event whose declaration was not accepted must not be lodged")
    return "true"


def _branch(value: str) -> str:
    return _matched(_BRANCH, value, "must be 1 to 3 digits").zfill(3)


def _agent(value: str) -> str:
    return _matched(_AGENT, value.replace(" ", ""), "must be a registered agent number of 5 to 10 digits")


def _country(value: str) -> str:
    if not (len(value) == 2 and value.isascii() and value.isalpha()):
        raise CellError("must be a country code of two letters (ISO 3166), for example au")
    return value.lower()


def _mail(value: str) -> str:
    return _matched(_MAIL, _text(value), "must be an e-mail address")


def _year(value: str) -> str:
    return _matched(_YEAR, value, "must be a financial year as the four digits in which it ends")


def _matched(pattern: re.Pattern[str], value: str, rule: str) -> str:
    if pattern.fullmatch(value):
        return value
    raise CellError(rule)


class Form(Enum):
    """The forms, as `docs/stp-input.md` calls them."""

    TEXT = "text, at most 200 characters"
    ABN = "ABN"
    WPN = "9 digits"
    TFN = "TFN, or one of the ATO's codes for none"
    DAY = "YYYY-MM-DD"
    BIRTH = "YYYY-MM-DD, written as day, month, year"
    AMOUNT = "1234.56, not negative"
    SIGNED = "1234.56 or -1234.56"
    FLAG = "true or false"
    ACCEPTED = "true"
    BRANCH = "1 to 3 digits"
    AGENT = "5 to 10 digits"
    COUNTRY = "two letters, ISO 3166"
    MAIL = "e-mail address"
    YEAR = "four digits"

    def read(self, value: str) -> str:
        """The cell as it is written into a document.

        Raises:
            CellError: it breaks the rule.
        """
        return _READERS[self](value)


_READERS: dict[Form, Callable[[str], str]] = {
    Form.TEXT: _text,
    Form.ABN: _abn,
    Form.WPN: _wpn,
    Form.TFN: _tfn,
    Form.DAY: _day,
    Form.BIRTH: _day,
    Form.AMOUNT: _amount,
    Form.SIGNED: _signed,
    Form.FLAG: _flag,
    Form.ACCEPTED: _accepted,
    Form.BRANCH: _branch,
    Form.AGENT: _agent,
    Form.COUNTRY: _country,
    Form.MAIL: _mail,
    Form.YEAR: _year,
}
