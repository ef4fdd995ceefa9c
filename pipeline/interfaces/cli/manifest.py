"""CSV manifests: one job per row, one field per column, dotted names for fields within fields."""

import csv
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import UnionType
from typing import Union, get_args, get_origin

from pydantic import BaseModel

from pipeline.lodgment.errors import quoted
from pipeline.lodgment.job import LodgmentJob

FILE_COLUMN = "payload.file"
"""The document's file, relative to the manifest."""
LABEL_COLUMN = "labels."


@dataclass(frozen=True, slots=True)
class Row:
    """A row as nested fields; `number` counts as a spreadsheet does, the header being row 1."""

    number: int
    fields: dict[str, object] = field(default_factory=dict)
    file: str | None = None
    problems: tuple[str, ...] = ()


def read_manifest(path: Path) -> Iterator[Row]:
    """The rows of a manifest in UTF-8. A header that cannot be used is told once, as row 1, and ends it."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, strict=True)
        try:
            header = [name.strip() for name in next(reader, [])]
            problems = _header_problems(header)
            if problems:
                yield Row(1, problems=problems)
                return
            for number, cells in enumerate(reader, start=2):
                if any(cell.strip() for cell in cells):
                    yield _row(number, header, cells)
        except csv.Error as error:
            yield Row(reader.line_num, problems=(f"not readable as CSV: {error}",))


def columns() -> list[str]:
    """Every column that a manifest may have, besides `labels.<name>`."""
    return [*(name for name in _columns(LodgmentJob, "") if name not in {"version", "labels"}), FILE_COLUMN]


def repeated(names: Sequence[str]) -> set[str]:
    """Those that stand more than once; a line of a file may hold tens of thousands."""
    return {name for name, times in Counter(names).items() if times > 1}


def _row(number: int, header: Sequence[str], cells: Sequence[str]) -> Row:
    if len(cells) > len(header):
        return Row(number, problems=(f"has {len(cells)} cells, the header names {len(header)} columns: quote commas",))
    fields: dict[str, object] = {}
    file = None
    for name, cell in zip(header, cells, strict=False):
        value = cell.strip()
        if not value:
            continue
        if name == FILE_COLUMN:
            file = value
            continue
        *parents, last = name.split(".", 1) if name.startswith(LABEL_COLUMN) else name.split(".")
        place = fields
        for parent in parents:
            inner = place.setdefault(parent, {})
            assert isinstance(inner, dict)  # noqa: S101  - the header's check keeps leaves and branches apart
            place = inner
        place[last] = value
    return Row(number, fields, file)


def _header_problems(header: Sequence[str]) -> tuple[str, ...]:
    if not header:
        return ("the manifest is empty: its first row must name the columns",)
    known = columns()
    problems = [
        f"column {quoted(name)}: no such job field; there are {', '.join(known)} and {LABEL_COLUMN}<name>"
        for name in header
        if name not in known and not (name.startswith(LABEL_COLUMN) and len(name) > len(LABEL_COLUMN))
    ]
    problems += [f"column {quoted(name)}: stands twice" for name in sorted(repeated(header))]
    return tuple(problems)


def _columns(model: type[BaseModel], prefix: str) -> Iterator[str]:
    for name, info in model.model_fields.items():
        inner = _model_in(info.annotation)
        if inner is None:
            yield prefix + name
        else:
            yield from _columns(inner, f"{prefix}{name}.")


def _model_in(annotation: object) -> type[BaseModel] | None:
    """The model that a field holds, optional or not."""
    choices = get_args(annotation) if get_origin(annotation) in {Union, UnionType} else (annotation,)
    return next((one for one in choices if isinstance(one, type) and issubclass(one, BaseModel)), None)
