"""Every parser of bytes from outside, given bytes that nobody would send; exit code 1 if any broke a promise.

make fuzz ARGS="--seconds 3600 --only xml --seed 7"
"""

import argparse
import json
import multiprocessing
import os
import re
import secrets
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.fuzz.guided import ATHERIS, SEEN, Seen, catalogue, fuzz
from tests.fuzz.target import Target

_STDOUT, _STDERR = 1, 2
"""The engine writes to the descriptors themselves."""
FOLDER = Path("build") / "fuzz"
_EDGES = re.compile(r"^#\d+\s+\w+\s+cov: (\d+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Played:
    """What a target's process left: edges of code that the seeds reached and that were reached in the end."""

    seen: Seen
    first: int
    last: int
    crashes: tuple[Path, ...]


def main() -> int:
    """Share the time among the targets and say what each came to."""
    parser = argparse.ArgumentParser(
        prog="make fuzz", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", action="append", metavar="NAME", help="a target, or how the names of several begin")
    parser.add_argument("--seconds", type=int, default=600, help="processor time of all together (%(default)s)")
    parser.add_argument("--seed", type=int, help="where chance begins; shown by every run")
    parser.add_argument("--list", action="store_true", help="name the targets and run none")
    arguments = parser.parse_args()
    targets = catalogue().values()
    chosen = [one for one in targets if not arguments.only or one.name.startswith(tuple(arguments.only))]
    if arguments.list or not chosen:
        for one in chosen or targets:
            _say(f"{one.name:22} {one.holds}")
        return 0 if chosen else 2
    seed = secrets.randbelow(1_000_000) if arguments.seed is None else arguments.seed
    each = arguments.seconds / len(chosen)
    how = "guided by atheris" if ATHERIS else "without a guide: atheris is not installed"
    _say(f"seed {seed}; {len(chosen)} targets, {each:.0f} s of processor time each, {how}; crashes in {FOLDER}")
    _say(f"{'target':22} {'runs':>9} {'seconds':>8} {'runs/s':>7} {'edges':>6} {'new':>5} {'crashes':>7}")
    played = {one.name: _play(one, seed, each) for one in chosen}
    runs, seconds = sum(one.seen.runs for one in played.values()), sum(one.seen.seconds for one in played.values())
    _say(f"{'all':22} {runs:9} {seconds:8.0f}")
    crashes = [(name, path) for name, one in played.items() for path in one.crashes]
    for name, path in crashes:
        _say(f"CRASH {name}: {path}")
    return 1 if crashes else 0


def _play(target: Target, seed: int, seconds: float) -> Played:
    """In a process of its own: the engine ends it, and so may what it finds."""
    folder = FOLDER / target.name
    folder.mkdir(parents=True, exist_ok=True)
    for path in (*folder.glob("crash-*"), *folder.glob("engine-*"), folder / SEEN):
        path.unlink(missing_ok=True)
    log = folder / "log"
    with tempfile.TemporaryDirectory(prefix="lodge-fuzz-") as place:
        process = multiprocessing.get_context("fork").Process(target=_fuzz, args=(target, log, place, seconds, seed))
        process.start()
        process.join()
    edges = [int(count) for count in _EDGES.findall(log.read_text(errors="replace"))]
    seen = Seen(**json.loads((folder / SEEN).read_text())) if (folder / SEEN).exists() else Seen()
    crashes = _crashes(folder) or ((log,) if process.exitcode else ())
    one = Played(seen, edges[0] if edges else 0, edges[-1] if edges else 0, crashes)
    rate = seen.runs / seen.seconds if seen.seconds else 0
    _say(
        f"{target.name:22} {seen.runs:9} {seen.seconds:8.1f} {rate:7.0f} {one.last:6} {one.last - one.first:5}"
        f" {len(crashes):7}"
    )
    return one


def _fuzz(target: Target, log: Path, place: str, seconds: float, seed: int) -> None:
    # The engine's end is no orderly one: what targets put into temporary folders is removed by who started it.
    tempfile.tempdir = place
    with log.open("wb") as file:
        for stream in (_STDOUT, _STDERR):
            os.dup2(file.fileno(), stream)
    fuzz(target, log.parent, seconds, seed)


def _crashes(folder: Path) -> tuple[Path, ...]:
    """Inputs that broke a promise, and those at which the engine ended the process: too long, too large, gone."""
    found = (*folder.glob("crash-*"), *folder.glob("engine-*"))
    return tuple(sorted(path for path in found if path.suffix != ".txt"))


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201  - a command's output


if __name__ == "__main__":
    sys.exit(main())
