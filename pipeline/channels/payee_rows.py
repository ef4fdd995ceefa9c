"""Lines of a payee table, checked one by one and against those before them: what can be known here is refused here."""

from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from functools import cache

from pipeline.channels.payee_columns import STREAMS, TOTALS, Column, payee_columns, payer_columns, total_columns
from pipeline.channels.payee_forms import CellError
from pipeline.channels.stp_fields import OLDEST
from pipeline.channels.stp_writing import cents

USUAL_BRANCH = "001"
KEY = ("payer_abn", "payer_wpn", "branch", "bms_id")
"""What tells payers apart: each is given on every line."""
_ALWAYS_SUMMED = ("period_withheld", "period_gross")

Fault = tuple[str, str]
"""A column's name, and the rule that is broken with what to do about it."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line, as it goes into documents. `payer` is empty where the line leaves it to the payer's first."""

    payer: Mapping[str, str]
    payee: Mapping[str, str] = field(repr=False)
    totals: Mapping[str, str] = field(repr=False)

    @property
    def key(self) -> tuple[str, ...]:
        """Payer, branch and payroll system."""
        return tuple(self.payer.get(name, "") for name in KEY)


@dataclass(frozen=True, slots=True)
class Terms:
    """What the lines are checked by. An `update` corrects and pays nothing."""

    update: bool
    now: datetime

    @property
    def latest(self) -> date:
        """In Australia it may be tomorrow already."""
        return (self.now + timedelta(hours=14)).date()


def column_of(name: str) -> Column | None:
    """The column of that name, whatever part of the table it belongs to."""
    return _columns().get(name)


@cache
def _columns() -> dict[str, Column]:
    return payer_columns() | payee_columns() | total_columns()


def read_row(cells: Mapping[str, str], terms: Terms) -> tuple[Row, dict[str, str]]:
    """The line in `cells`, by the names of columns, empty cells left out; and the faults that it has of itself."""
    faults: dict[str, str] = {}
    payer, payee, totals = _read(cells, faults)
    payer.setdefault("branch", USUAL_BRANCH)
    for name, rule in (
        *((name, "must be given") for name in _required(update=terms.update) if not cells.get(name)),
        *_of_payer(cells, payer, terms),
        *_of_payee(cells, payee, terms),
    ):
        # A cell that cannot be read has that fault, and not those that follow from it as well.
        faults.setdefault(name, rule)
    return Row(payer, payee, totals), faults


def _read(cells: Mapping[str, str], faults: dict[str, str]) -> tuple[dict[str, str], dict[str, str], dict[str, str]]:
    payer: dict[str, str] = {}
    payee: dict[str, str] = {}
    totals: dict[str, str] = {}
    of_payer, of_total = payer_columns(), total_columns()
    for name, value in cells.items():
        column = column_of(name)
        if column is None or not value:
            continue
        part = payer if name in of_payer else totals if name in of_total else payee
        try:
            part[name] = column.read(value)
        except CellError as error:
            faults[name] = str(error)
    return payer, payee, totals


@cache
def _required(*, update: bool) -> tuple[str, ...]:
    columns = payee_columns() if update else payee_columns() | total_columns()
    return tuple(name for name, column in columns.items() if column.required)


def _of_payer(cells: Mapping[str, str], payer: Mapping[str, str], terms: Terms) -> Iterator[Fault]:
    if bool(cells.get("payer_abn")) == bool(cells.get("payer_wpn")):
        yield "payer_abn", "give exactly one of payer_abn and payer_wpn, on every line"
    if not cells.get("bms_id"):
        yield "bms_id", "must be given on every line"
    for name, what in (("pay_date", "(PAYEVNT.000199)"), ("declared_on", "(PAYEVNT.000193)")):
        if name in payer and date.fromisoformat(payer[name]) > terms.latest:
            yield name, f"must not be after today {what}"
    if "pay_date" in payer and date.fromisoformat(payer["pay_date"]) < terms.now.date() - OLDEST:
        yield "pay_date", f"is more than {OLDEST.days} days ago (PAYEVNT.000215)"
    if "agent_abn" in payer and not cells.get("agent_number"):
        yield "agent_number", "must be given with agent_abn: an agent lodges under its registered agent number"
    if "agent_abn" not in payer and any(name.startswith("agent_") for name in payer):
        yield "agent_abn", "must be given with what else is said of the agent"
    if terms.update and payer.get("replaces_file") == "true":
        yield "replaces_file", "an update event cannot replace a file; lodge a further update instead"


def _of_payee(cells: Mapping[str, str], payee: Mapping[str, str], terms: Terms) -> Iterator[Fault]:
    if not cells.get("tfn") and not cells.get("payee_abn"):
        yield "tfn", "give tfn or payee_abn; 111111111 stands for a tax file number that is pending"
    for first, last in (("period_start", "period_end"), ("started_on", "ended_on")):
        if first in payee and last in payee and payee[last] < payee[first]:
            yield last, f"must not be before {first}"
    yield from _of_streams(cells, payee)
    if terms.update:
        for name in TOTALS:
            if cells.get(name):
                yield name, "an update event pays nothing: leave it empty, or build a Submit event"


def _of_streams(cells: Mapping[str, str], payee: Mapping[str, str]) -> Iterator[Fault]:
    for stream in STREAMS:
        if stream and any(name.startswith(stream) for name in payee) and not cells.get(f"{stream}income_type"):
            yield f"{stream}income_type", f"must be given with the other {stream} columns"
        for needs, needed in (("lump_sum_e", "lump_sum_e_year"), ("allowance_od", "allowance_od_text")):
            if f"{stream}{needs}" in payee and not cells.get(f"{stream}{needed}"):
                yield f"{stream}{needed}", f"must be given with {stream}{needs}"


class Payers:
    """What is seen of a table line by line: where a payer begins, how many payees it has, and what they were paid.

    A payer's lines must stand together, so that one payer is in hand at a time: of one before, a hundred bytes remain.
    """

    def __init__(self) -> None:
        self._seen: dict[int, int] = {}
        self._figures = array("q")
        self._key: tuple[str, ...] | None = None
        self._first_line = 0
        self._first: Mapping[str, str] = {}
        self._payees: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._figures) // (1 + len(TOTALS))

    def take(self, line: int, row: Row) -> Iterator[Fault]:
        """What is wrong with the line beside those before it."""
        if row.key != self._key:
            yield from self._begin(line, row)
        else:
            for name, value in row.payer.items():
                if name not in KEY and value != self._first.get(name):
                    yield name, f"differs from line {self._first_line}, the payer's first: give it there, or the same"
        before = self._payees.setdefault(payee := row.payee.get("payee_id", ""), line)
        if payee and before != line:
            yield "payee_id", f"stands on line {before} already: a payee has one line in an event"
        self._figures[-len(TOTALS) - 1] += 1
        for place, name in enumerate(TOTALS, start=-len(TOTALS)):
            self._figures[place] += cents(row.totals.get(name, "0.00"))

    def figures(self, number: int, *, update: bool) -> tuple[int, dict[str, int] | None]:
        """How many payees the payer has that came as `number` (from 0), and the sums of their pay, in cents."""
        width = 1 + len(TOTALS)
        payees, *sums = self._figures[number * width : (number + 1) * width]
        totals = zip(TOTALS, sums, strict=True)
        return payees, None if update else {name: one for name, one in totals if one or name in _ALWAYS_SUMMED}

    def _begin(self, line: int, row: Row) -> Iterator[Fault]:
        began = self._seen.setdefault(hash(row.key), line)
        self._key, self._first_line, self._first, self._payees = row.key, line, row.payer, {}
        self._figures.extend([0] * (1 + len(TOTALS)))
        if began != line:
            rule = f"this payer's lines began on line {began} and others stand between: sort the table by payer_abn"
            yield "payer_abn" if row.key[0] else "payer_wpn", f"{rule} (or payer_wpn), branch and bms_id"
        for name, column in payer_columns().items():
            if column.required and name not in row.payer and name != "bms_id":
                yield name, "must be given on the payer's first line"
