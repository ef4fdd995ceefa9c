"""How the columns of a payroll product's own export are called, and what they must be called here."""

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from pipeline.channels.payee_rows import column_of
from pipeline.lodgment.errors import ConfigurationError, quoted
from pipeline.lodgment.job import problems_of

_SOMEBODYS_NUMBER = re.compile(r"(?:[0-9][ -]?){8}")


def shown(theirs: str) -> str:
    """A column's name as an error may show it. Where the header is missing a payee's cells stand in its place."""
    return "(a number, not shown)" if _SOMEBODYS_NUMBER.search(theirs) else quoted(theirs)


class _File(BaseModel):
    """A mapping file: tables `columns`, `values` and `codes`, and what is not looked at."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    columns: dict[str, str] = {}
    values: dict[str, str] = {}
    codes: dict[str, dict[str, str]] = {}
    ignore: tuple[str, ...] = ()
    ignore_others: bool = False


@dataclass(frozen=True, slots=True)
class Names:
    """From an export's names to ours. Without a mapping file the two are the same."""

    ours: Mapping[str, str] = field(default_factory=dict)
    values: Mapping[str, str] = field(default_factory=dict)
    """For columns that the export does not have."""
    codes: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """By our column: the export's code, and the code to write."""
    ignored: frozenset[str] = frozenset()
    ignores_others: bool = False

    def our(self, theirs: str) -> str | None:
        """Our name of a column of the export; None where it is not looked at.

        Raises:
            LookupError: it is neither ours nor mapped nor ignored.
        """
        name = self.ours.get(theirs, theirs)
        if theirs not in self.ours and theirs in self.ignored:
            return None
        if column_of(name) is not None:
            return name
        if self.ignores_others:
            return None
        raise LookupError(theirs)

    def theirs(self, our: str) -> str:
        """What a person finds in the export: its own name first."""
        named = next((theirs for theirs, name in self.ours.items() if name == our), None)
        return our if named is None else f"{named!r} ({our})"

    def cells(self, read: Mapping[str, str]) -> dict[str, str]:
        """The cells of one line by our names, codes translated and missing values filled in."""
        cells = {name: self.codes.get(name, {}).get(value, value) for name, value in read.items()}
        return {**self.values, **cells} if self.values else cells

    def header_problems(self, header: Sequence[str]) -> list[str]:
        """What is wrong with the names of an export's columns."""
        problems, taken = [], dict[str, str]()
        for theirs in header:
            try:
                name = self.our(theirs)
            except LookupError:
                fix = "`lodge stp columns` lists them; rename it, or name it in the mapping under columns or ignore"
                problems.append(f"column {shown(theirs)}: there is no such column; {fix}")
                continue
            if name is not None and name in taken:
                problems.append(f"column {shown(theirs)}: gives {name}, as {shown(taken[name])} does; keep one of them")
            elif name is not None:
                taken[name] = theirs
        return problems


def read_names(path: Path | None) -> Names:
    """The mapping in a TOML file.

    Raises:
        ConfigurationError: `stp.mapping`.
    """
    if path is None:
        return Names()
    try:
        file = _File.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise ConfigurationError("stp.mapping", f"{path} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError("stp.mapping", f"{path} is no TOML in UTF-8: {error}") from error
    except ValidationError as error:
        raise ConfigurationError("stp.mapping", f"{path}: {'; '.join(problems_of(error))}") from error
    used = [("columns", one) for one in file.columns.values()]
    used += [("values", one) for one in file.values] + [("codes", one) for one in file.codes]
    for table, name in used:
        if column_of(name) is None:
            text = f"{path}: {table}: there is no column {quoted(name)}; `lodge stp columns` lists them"
            raise ConfigurationError("stp.mapping", text)
    return Names(file.columns, file.values, file.codes, frozenset(file.ignore), file.ignore_others)
