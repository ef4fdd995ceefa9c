"""Tables of payees, CSV or NDJSON, read line by line: never whole."""

import csv
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from pipeline.interfaces.cli.payee_mapping import Names, shown

NDJSON = frozenset({".ndjson", ".jsonl"})
_LONGEST = 64 * 1024
"""Bytes of one line."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line as cells by our names, empty ones left out; `number` is where it begins in the file."""

    number: int
    cells: Mapping[str, str] = field(default_factory=dict, repr=False)
    problems: tuple[str, ...] = ()
    ends: bool = False
    """Nothing after it can be read."""


class Table:
    """A file that is read more than once. `sha256` says of the last reading what was read."""

    def __init__(self, path: Path, names: Names) -> None:
        self._path = path
        self._names = names
        self._digest = hashlib.sha256()

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()

    def lines(self) -> Iterator[Line]:
        """Every line. What cannot be read is a line with problems.

        Raises:
            OSError: the file cannot be read.
        """
        self._digest = hashlib.sha256()
        with self._path.open("rb") as file:
            if self._path.suffix.lower() in NDJSON:
                yield from _objects(self._counted(file), self._names)
            else:
                yield from _rows(self._counted(file), self._names)

    def _counted(self, file: IO[bytes]) -> Iterator[bytes]:
        while line := file.readline(_LONGEST):
            self._digest.update(line)
            yield line


class _LineError(ValueError):
    """A line after which nothing can be read."""

    def __init__(self, number: int, text: str) -> None:
        super().__init__(text)
        self.number = number


def _text(lines: Iterator[bytes]) -> Iterator[str]:
    for number, line in enumerate(lines, start=1):
        if len(line) == _LONGEST and not line.endswith(b"\n"):
            raise _LineError(number, f"has more than {_LONGEST} bytes: one payee stands on a line")
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise _LineError(number, "is not UTF-8: export or save the table as UTF-8") from error


def _rows(lines: Iterator[bytes], names: Names) -> Iterator[Line]:
    reader = csv.reader(_text(lines), strict=True)
    start = 1
    try:
        header = [name.strip() for name in next(reader, [])]
        if problems := _header_problems(header, names):
            yield Line(1, problems=tuple(problems), ends=True)
            return
        ours = [names.our(name) for name in header]
        while True:
            start = reader.line_num + 1
            cells = next(reader, None)
            if cells is None:
                return
            if any(cell.strip() for cell in cells):
                yield _row(start, ours, cells, names)
    except csv.Error as error:
        yield Line(start, problems=(f"is not readable as CSV: {error}",), ends=True)
    except _LineError as error:
        yield Line(error.number, problems=(str(error),), ends=True)


def _header_problems(header: Sequence[str], names: Names) -> list[str]:
    if not any(header):
        return ["the table is empty: its first line must name the columns"]
    return names.header_problems(header)


def _row(number: int, ours: Sequence[str | None], cells: Sequence[str], names: Names) -> Line:
    if len(cells) != len(ours):
        return Line(
            number, problems=(f"has {len(cells)} cells, the header names {len(ours)} columns: quote texts with commas",)
        )
    read = {name: value for name, cell in zip(ours, cells, strict=True) if name is not None and (value := cell.strip())}
    return Line(number, names.cells(read))


def _objects(lines: Iterator[bytes], names: Names) -> Iterator[Line]:
    try:
        for number, text in enumerate(_text(lines), start=1):
            if text.strip():
                yield _object(number, text, names)
    except _LineError as error:
        yield Line(error.number, problems=(str(error),), ends=True)


def _object(number: int, text: str, names: Names) -> Line:
    try:
        # Amounts stay as they were written: a float has no cents.
        pairs = json.loads(text, object_pairs_hook=list, parse_float=str, parse_int=str)
    except (ValueError, RecursionError):
        return Line(number, problems=("is no JSON: one object stands on a line",))
    if not isinstance(pairs, list) or not all(isinstance(one, tuple) for one in pairs):
        return Line(number, problems=("must be one JSON object",))
    problems = names.header_problems([theirs for theirs, _ in pairs])
    read = {}
    for theirs, value in pairs:
        match value:
            case None:
                continue
            case bool():
                cell = "true" if value else "false"
            case str():
                cell = value.strip()
            case _:
                problems.append(f"column {shown(theirs)}: must be a text, a number, true or false")
                continue
        if cell and not problems and (name := names.our(theirs)) is not None:
            read[name] = cell
    return Line(number, names.cells(read), tuple(problems))
