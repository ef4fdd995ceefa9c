"""What a person sees: tables, times, files that only they can read. Texts from outside are shown without controls."""

import json
import os
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from pipeline.lodgment.errors import ConfigurationError

_PIPED_WIDTH = 180
"""Columns when nobody looks: wide enough that tables can be searched line by line."""


def stdout() -> Console:
    return Console(width=None if sys.stdout.isatty() else _PIPED_WIDTH, markup=False, highlight=False, emoji=False)


def stderr() -> Console:
    width = None if sys.stderr.isatty() else _PIPED_WIDTH
    return Console(stderr=True, width=width, markup=False, highlight=False, emoji=False)


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> RenderableType:
    """A plain table; where the screen is narrow, cells are folded and never cut."""
    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        made.add_column(column, overflow="fold")
    for row in rows:
        made.add_row(*(shown(cell) for cell in row))
    return Group(Text(title, style="bold"), made)


def progress() -> Progress:
    """A progress bar on stderr: what is done of how much, and the time it has taken."""
    return Progress(
        BarColumn(30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}", markup=False),
        console=stderr(),
        transient=True,
    )


def shown(value: object) -> str:
    """Text without what could forge a line, move the cursor or turn the direction of writing."""
    match value:
        case None:
            return ""
        case datetime():
            return when(value)
        case _:
            return "".join(letter if letter.isprintable() else "\ufffd" for letter in str(value))


def when(moment: datetime) -> str:
    """UTC, as in the logs."""
    return f"{moment:%Y-%m-%d %H:%M:%S}Z"


def span(delta: timedelta) -> str:
    """A duration, roughly: the two largest units are enough for a person."""
    seconds = max(0, int(delta.total_seconds()))
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min"
    if seconds < 48 * 3600:
        return f"{seconds // 3600} h {seconds % 3600 // 60} min"
    return f"{seconds // 86400} d {seconds % 86400 // 3600} h"


def print_json(value: object) -> None:
    """JSON on stdout, for machines."""
    print(json.dumps(value, indent=2, default=_plain))  # noqa: T201  - the command's result


def write_private(path: Path, content: bytes, *, replace: bool = False) -> None:
    """Write a file that only its owner can read; a document in it may be personal data.

    Raises:
        ConfigurationError: `file.exists` or `file.write`.
    """
    mode = os.O_TRUNC if replace else os.O_EXCL
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | mode, 0o600)
    except FileExistsError as error:
        raise ConfigurationError("file.exists", f"{path} exists already and is not replaced: name another") from error
    except OSError as error:
        raise ConfigurationError("file.write", f"{path} cannot be written: {error.strerror}") from error
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(content)


def _plain(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)
