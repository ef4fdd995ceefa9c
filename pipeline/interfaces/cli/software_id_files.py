"""CSV files of clients and their software ids: read whole and checked line by line, written for giving out."""

import csv
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from pipeline.interfaces.cli.manifest import repeated
from pipeline.lodgment.errors import ConfigurationError, quoted
from pipeline.lodgment.software_id import SoftwareId, SoftwareIdError
from pipeline.lodgment.subscription import RegisteredId, Subscription, read_label, read_party

ID_COLUMN = "software_id"
COLUMNS = (ID_COLUMN, "abn", "wpn", "product", "note")
_WPN_LENGTH = 9

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Entry:
    """One good line; `software_id` is None in a file of clients that are to be given one."""

    line: int
    whose: Subscription
    software_id: SoftwareId | None
    note: str | None


@dataclass(slots=True)
class ReadFile:
    """What a file holds; with any problem, nothing of it may be used."""

    entries: list[Entry] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    """Each names line, field, rule and fix."""


def read_clients(path: Path, product: str | None, *, with_ids: bool) -> ReadFile:
    """The clients in a CSV file in UTF-8, the header being line 1; `product` is for lines that name none.

    Raises:
        ConfigurationError: `file.read`.
    """
    read = ReadFile()
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            header = [name.strip().lower() for name in next(reader, [])]
            read.problems += _header_problems(header, product, with_ids=with_ids)
            if not read.problems:
                for cells in reader:
                    if any(cell.strip() for cell in cells):
                        _read_line(read, reader.line_num, header, cells, product)
    except OSError as error:
        raise ConfigurationError("file.read", f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigurationError("file.read", f"{path} is not UTF-8: save it as CSV UTF-8") from error
    except csv.Error as error:
        read.problems.append(f"line {reader.line_num}: not readable as CSV: {error}")
    read.problems += _repeated(read.entries)
    return read


def written(ids: Iterable[RegisteredId]) -> bytes:
    """The ids as CSV, in the columns that `read_clients` takes."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    for one in ids:
        party = one.whose.party
        abn, wpn = ("", party) if len(party) == _WPN_LENGTH else (party, "")
        writer.writerow((one.software_id, abn, wpn, one.whose.product, one.note or ""))
    return text.getvalue().encode()


def _header_problems(header: Sequence[str], product: str | None, *, with_ids: bool) -> list[str]:
    allowed = COLUMNS if with_ids else COLUMNS[1:]
    problems = [
        f"line 1: column {quoted(name)}: unknown; there are {', '.join(allowed)}"
        for name in header
        if name not in allowed
    ]
    problems += [f"line 1: column {quoted(name)}: stands twice" for name in sorted(repeated(header))]
    if with_ids and ID_COLUMN not in header:
        problems.append(f"line 1: column {ID_COLUMN!r}: is missing; it holds the ten digits")
    if not {"abn", "wpn"} & set(header):
        problems.append("line 1: column 'abn' or 'wpn': is missing; it says whose the id is")
    if product is None and "product" not in header:
        problems.append("line 1: column 'product': is missing; add it, or give --product, or set software.product")
    return problems


def _read_line(read: ReadFile, line: int, header: Sequence[str], cells: Sequence[str], product: str | None) -> None:
    if len(cells) > len(header):
        read.problems.append(f"line {line}: has {len(cells)} cells, the header names {len(header)}: quote commas")
        return
    given = {name: cell.strip() for name, cell in zip(header, cells, strict=False) if cell.strip()}
    problems: list[str] = []
    party = _party(given, problems)
    of_product = given.get("product", product)
    if of_product is None:
        problems.append("product: is empty; name the payroll product")
    label = None if of_product is None else _checked("product", read_label, of_product, problems)
    note = None if "note" not in given else _checked("note", read_label, given["note"], problems)
    software_id = None
    if ID_COLUMN in header:
        software_id = _checked(ID_COLUMN, SoftwareId, given.get(ID_COLUMN, ""), problems)
    if party is None or label is None or problems:
        read.problems += [f"line {line}: {problem}" for problem in problems]
        return
    read.entries.append(Entry(line, Subscription(label, party), software_id, note))


def _party(given: Mapping[str, str], problems: list[str]) -> str | None:
    named = [name for name in ("abn", "wpn") if name in given]
    if len(named) != 1:
        problems.append("abn: give exactly one of abn and wpn")
        return None
    party = _checked(named[0], read_party, given[named[0]], problems)
    if party is not None and (named[0] == "wpn") != (len(party) == _WPN_LENGTH):
        problems.append(
            f"{named[0]}: an ABN has 11 digits, a withholding payer number 9; this stands in the other's column"
        )
        return None
    return party


def _checked(name: str, read: Callable[[str], _T], text: str, problems: list[str]) -> _T | None:
    try:
        return read(text)
    except SoftwareIdError as error:
        problems.append(f"{name}: {error}")
        return None


def _repeated(entries: Sequence[Entry]) -> list[str]:
    """Lines that say again whose id it is, or give out an id again."""
    problems, clients, ids = [], dict[Subscription, int](), dict[SoftwareId, int]()
    for one in entries:
        first = clients.setdefault(one.whose, one.line)
        if first != one.line:
            problems.append(f"line {one.line}: abn: {one.whose} stands on line {first} already; one id each")
        if one.software_id is not None and (holder := ids.setdefault(one.software_id, one.line)) != one.line:
            problems.append(f"line {one.line}: software_id: {one.software_id} stands on line {holder} already")
    return problems
