"""Trouble of every kind, one scenario after the other; exit code 1 if a promise was broken in any.

make chaos ARGS="--only crash/transport --seed 7 --lodgments 200"
"""

import argparse
import secrets
import sys
import tempfile
import time
import zlib
from collections import Counter
from enum import StrEnum
from pathlib import Path

from tests.chaos.catalogue import SCENARIOS
from tests.chaos.scenario import Field, House, NotHereError, Scenario


class Verdict(StrEnum):
    """How a scenario ended."""

    KEPT = "kept"
    BROKEN = "BROKEN"
    NOT_HERE = "not played"


def main() -> int:
    """Play what was asked for and say how each ended."""
    parser = argparse.ArgumentParser(
        prog="make chaos", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", action="append", metavar="NAME", help="a scenario, or how the names of several begin")
    parser.add_argument("--seed", type=int, help="repeats a run; shown by every run")
    parser.add_argument("--lodgments", type=int, help="how many in each scenario, in place of its own number")
    parser.add_argument("--list", action="store_true", help="name the scenarios and play none")
    arguments = parser.parse_args()
    chosen = [one for one in SCENARIOS if not arguments.only or one.full_name.startswith(tuple(arguments.only))]
    if arguments.list or not chosen:
        for one in chosen or SCENARIOS:
            _say(f"{one.full_name:36} {one.what}")
        return 0 if chosen else 2
    seed = secrets.randbelow(1_000_000) if arguments.seed is None else arguments.seed
    folder = Path(tempfile.mkdtemp(prefix="lodge-chaos-"))
    _say(f"seed {seed}; {len(chosen)} scenarios; settings and logs in {folder}")
    house = House()
    began = time.monotonic()
    try:
        verdicts = {one.full_name: play(house, one, folder, seed, arguments.lodgments) for one in chosen}
    finally:
        house.close()
    told = ", ".join(f"{count} {verdict}" for verdict, count in Counter(verdicts.values()).items())
    _say(f"{len(chosen)} scenarios in {time.monotonic() - began:.0f} s: {told}")
    broken = [name for name, verdict in verdicts.items() if verdict is Verdict.BROKEN]
    for name in broken:
        _say(f"BROKEN {name}: make chaos ARGS='--only {name} --seed {seed}'")
    return 1 if broken else 0


def play(house: House, scenario: Scenario, folder: Path, seed: int, lodgments: int | None) -> Verdict:
    """Play one scenario and say how it ended. Chance depends on the seed and its name, not on what ran before."""
    own = zlib.crc32(f"{seed} {scenario.full_name}".encode())
    field = Field(house, folder / scenario.full_name.replace("/", "-"), own, lodgments or scenario.size)
    began = time.monotonic()
    _say(f"== {scenario.full_name}: {scenario.what}")
    verdict, why = Verdict.KEPT, ""
    try:
        scenario.play(field)
    except NotHereError as error:
        verdict, why = Verdict.NOT_HERE, f": {error}"
    except Exception as error:  # noqa: BLE001  - whatever it is, the next scenario is played, too
        verdict, why = Verdict.BROKEN, f": {type(error).__name__}: {error}"
    for note in field.notes:
        _say(f"   {note}")
    _say(f"   {time.monotonic() - began:6.1f} s  {verdict}{why}")
    return verdict


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201  - a command's output


if __name__ == "__main__":
    sys.exit(main())
