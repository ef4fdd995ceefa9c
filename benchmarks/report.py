"""What a run says: on the screen, and as JSON for later comparison."""

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

from benchmarks.course import Round


class Report:
    """`rounds` in the order in which they were run; the first contestant is ours."""

    def __init__(self, rounds: Sequence[Round]) -> None:
        self._by_name: dict[str, list[Round]] = {}
        for one in rounds:
            self._by_name.setdefault(one.contestant, []).append(one)
        self._ours, *self._others = self._by_name

    @property
    def best_other(self) -> str:
        """The baseline's configuration with the highest median: the one to compare with."""
        return max(self._others, key=self._median)

    @property
    def ratio(self) -> float:
        """Our median over theirs."""
        return self._median(self._ours) / self._median(self.best_other)

    def show(self, console: Console) -> None:
        console.print(self._rates())
        console.print(f"pipeline / {self.best_other}: [bold]{self.ratio:.2f}[/bold]")
        for name in (self._ours, self.best_other):
            console.print(_cpu(name, self._typical(name)))
        console.print(_steps(self._typical(self._ours)))

    def write(self, path: Path) -> None:
        content = {
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": {"cores": os.cpu_count(), "system": platform.platform(), "python": platform.python_version()},
            "medians": {name: round(self._median(name), 1) for name in self._by_name},
            "compared_with": self.best_other,
            "ratio": round(self.ratio, 3),
            "rounds": [{**asdict(one), "rate": round(one.rate, 1)} for each in self._by_name.values() for one in each],
        }
        path.write_text(json.dumps(content, indent=2) + "\n")

    def _median(self, name: str) -> float:
        return median(one.rate for one in self._by_name[name])

    def _typical(self, name: str) -> Round:
        """The round whose rate is nearest to the median."""
        middle = self._median(name)
        return min(self._by_name[name], key=lambda one: abs(one.rate - middle))

    def _rates(self) -> Table:
        table = Table(title="Lodgments per second, from the first publish to the last outcome")
        table.add_column("")
        count = max(len(rounds) for rounds in self._by_name.values())
        for number in range(1, count + 1):
            table.add_column(f"round {number}", justify="right")
        table.add_column("median", justify="right")
        for name, rounds in self._by_name.items():
            rates = [f"{one.rate:.0f}" for one in rounds]
            table.add_row(name, *rates, *[""] * (count - len(rates)), f"{self._median(name):.0f}")
        return table


def _cpu(name: str, one: Round) -> Table:
    table = Table(title=f"CPU of {name}, {one.lodgments} lodgments in {one.seconds:.1f} s")
    for heading in ("process", "seconds", "of the time", "per lodgment"):
        table.add_column(heading, justify="left" if heading == "process" else "right")
    for process, seconds in one.cpu.items():
        _cpu_row(table, process, seconds, one)
    table.add_section()
    _cpu_row(table, "together", sum(one.cpu.values()), one)
    return table


def _cpu_row(table: Table, process: str, seconds: float, one: Round) -> None:
    share, each = seconds / one.seconds, seconds / one.lodgments
    table.add_row(process, f"{seconds:.2f}", f"{share:.0%}", f"{each * 1e6:.0f} µs")


def _steps(one: Round) -> Table:
    table = Table(title="Steps as the workers measure them (time in hand includes waiting for others)")
    for heading in ("step", "batches", "lodgments each", "ms in hand each"):
        table.add_column(heading, justify="left" if heading == "step" else "right")
    busy: Mapping[str, tuple[int, float, float]] = {
        name: (step.batches, step.settled / step.batches, step.seconds / step.batches * 1e3)
        for name, step in one.steps.items()
        if step.batches
    }
    for name, (batches, size, milliseconds) in busy.items():
        table.add_row(name, str(batches), f"{size:.1f}", f"{milliseconds:.1f}")
    return table
