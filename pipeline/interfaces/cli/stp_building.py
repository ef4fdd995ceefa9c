"""From a table of payees to pay events: everything is checked first, then written beside its place, then put there."""

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from pathlib import Path
from typing import BinaryIO, Self

from pipeline.channels.payee_rows import KEY, Payers, Row, Terms, read_row
from pipeline.channels.stp_documents import StpError, read_pay_event, split_by_payer
from pipeline.channels.stp_writing import Event, documents
from pipeline.interfaces.cli.payee_mapping import Names
from pipeline.interfaces.cli.payee_table import Line, Table
from pipeline.interfaces.cli.unfinished import unfinished_folder
from pipeline.lodgment.errors import ConfigurationError, RefusedError
from pipeline.protocol.record_delimiter import RecordError

_PIECE = 256 * 1024


@dataclass(frozen=True, slots=True)
class Order:
    """What to build of which table. `out` is a folder, or with `one_file` a file."""

    path: Path
    names: Names
    out: Path
    one_file: bool
    terms: Terms
    written_at: datetime
    """The events' own time: the same table, built again, gives the same bytes and so the same lodgments."""
    told: int
    """So many problems are told."""


@dataclass(frozen=True, slots=True)
class Built:
    """What was built, or why nothing was."""

    payers: int = 0
    payees: int = 0
    problems: tuple[str, ...] = ()
    more: int = 0
    """Problems that were not told."""


def build(order: Order, on_line: Callable[[], None]) -> Built:
    """Check the whole table; if it is good, write the events and put them in their place in one step.

    Raises:
        ConfigurationError: `stp.out`, the place is taken or cannot be written.
        RefusedError: `stp.changed` when the table was changed meanwhile, `stp.build` when what was built does not pass
            the checks of `lodge submit`. Nothing stays of it then.
        OSError: the table cannot be read.
    """
    if order.out.exists() and (order.one_file or not order.out.is_dir() or any(order.out.iterdir())):
        what = "it is not replaced" if order.one_file else "what is in it would be lodged as well"
        raise ConfigurationError("stp.out", f"{order.out} is there already, and {what}: name another")
    table = Table(order.path, order.names)
    found = _Problems(order)
    payers, payees = _survey(table, order, found, on_line)
    if found.told or not payees:
        none = () if found.told else (f"{order.path}: holds no payee",)
        return Built(problems=(*found.told, *none), more=found.more)
    checked = table.sha256
    with _beside(order.out, one_file=order.one_file) as place:
        for written in _write(table, order, payers, place, on_line):
            _check(written, order.terms)
        if table.sha256 != checked:
            raise RefusedError("stp.changed", f"{order.path} was changed while it was read: build it again")
        place.rename(order.out)
    return Built(len(payers), payees)


class _Problems:
    """What is wrong, by line and column, up to as many as are told."""

    def __init__(self, order: Order) -> None:
        self.told: list[str] = []
        self.more = 0
        self._order = order

    def add(self, line: Line, text: str) -> None:
        if len(self.told) < self._order.told:
            self.told.append(f"{self._order.path}, line {line.number}: {text}")
        else:
            self.more += 1

    def faults(self, line: Line, faults: Mapping[str, str]) -> None:
        for name, rule in faults.items():
            self.add(line, f"column {self._order.names.theirs(name)}: {rule}")


def _survey(table: Table, order: Order, found: _Problems, on_line: Callable[[], None]) -> tuple[Payers, int]:
    payers, payees = Payers(), 0
    for line in table.lines():
        on_line()
        for problem in line.problems:
            found.add(line, problem)
        if line.problems:
            continue
        payees += 1
        row, faults = read_row(line.cells, order.terms)
        if not faults.keys() & set(KEY):
            for name, rule in payers.take(line.number, row):
                faults.setdefault(name, rule)
        found.faults(line, faults)
    return payers, payees


def _write(table: Table, order: Order, payers: Payers, place: Path, on_line: Callable[[], None]) -> Iterator[Path]:
    """Write what was checked; yields each file when it is whole."""
    with _Files(place, one_file=order.one_file) as files:
        for number, (_, rows) in enumerate(groupby(_rows(table, order, on_line), lambda row: row.key)):
            first = next(rows)
            event = _event(first, payers, number, order)
            file = files.of(first)
            for document in documents(event, _payees(first, rows), number + 1 if order.one_file else 1):
                file.write(document)
            if not order.one_file:
                yield files.closed()
        if order.one_file:
            yield files.closed()


def _rows(table: Table, order: Order, on_line: Callable[[], None]) -> Iterator[Row]:
    for line in table.lines():
        on_line()
        row, faults = read_row(line.cells, order.terms)
        if line.problems or faults:
            raise RefusedError("stp.changed", f"{order.path} was changed while it was read: build it again")
        yield row


def _event(first: Row, payers: Payers, number: int, order: Order) -> Event:
    if number >= len(payers):
        raise RefusedError("stp.changed", f"{order.path} was changed while it was read: build it again")
    payees, totals = payers.figures(number, update=order.terms.update)
    return Event(first.payer, payees, totals, order.written_at)


def _payees(first: Row, rest: Iterator[Row]) -> Iterator[Mapping[str, str]]:
    yield first.payee
    for row in rest:
        yield row.payee


class _Files:
    """The files that are written: one, or one for each payer; for their owner alone."""

    def __init__(self, place: Path, *, one_file: bool) -> None:
        self._place = place
        self._one = one_file
        self._open: BinaryIO | None = None
        self._path = place

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._open is not None:
            self._open.close()

    def of(self, row: Row) -> BinaryIO:
        if self._open is None:
            if not self._one:
                self._path = self._place / f"{_file_name(row)}.xml"
            self._open = os.fdopen(os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb")
        return self._open

    def closed(self) -> Path:
        assert self._open is not None  # noqa: S101  - a payer was written
        self._open.close()
        self._open = None
        return self._path


def _file_name(row: Row) -> str:
    abn, wpn, branch, system = row.key
    safe = "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in system)
    # Two systems whose names differ in what a file name cannot hold are told apart by the digits behind.
    return f"{abn or wpn}-{branch}-{safe[:40]}-{hashlib.sha256(system.encode()).hexdigest()[:8]}"


def _check(path: Path, terms: Terms) -> None:
    """Read what was written as the channel will."""
    with path.open("rb") as file:
        try:
            for part in split_by_payer(iter(lambda: file.read(_PIECE), b"")):
                read_pay_event((record.raw for record in part), update=terms.update, now=terms.now)
        except (StpError, RecordError) as error:
            raise RefusedError("stp.build", f"what was built would be refused, nothing stays of it: {error}") from error


@contextmanager
def _beside(out: Path, *, one_file: bool) -> Iterator[Path]:
    """A place beside `out` that is not seen until it is renamed. Whatever is raised, nothing stays of it."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with unfinished_folder(out.parent, f".{out.name}.") as folder:
            yield folder / out.name if one_file else folder
    except OSError as error:
        raise ConfigurationError("stp.out", f"{out} cannot be written: {error.strerror}") from error
