"""One target for a while, in a process of its own; the engine ends the process, so what was seen goes into files.

Where atheris is installed it guides: inputs that reach new code are kept and changed further. Without it, inputs are
made of the seeds alone.
"""

import contextlib
import importlib.util
import io
import json
import os
import random
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.fuzz.mutation import LONGEST, mutated
from tests.fuzz.target import Crash, Target, judge

ATHERIS = importlib.util.find_spec("atheris") is not None
SEEN = "seen.json"
_OWN_CHANGES = 0.75
"""Of the inputs; the rest are changed by the engine, which has learnt what the code compares with."""
_HANGING = 300
"""Seconds for one input, then the engine ends the process and keeps the input."""
_MEMORY_MB = 2048
_EVERY = 1.0
"""Seconds of processor time between notes of how far it got."""


@dataclass(slots=True)
class Seen:
    """What happened to a target: inputs, seconds of processor time, and the kinds of crashes."""

    runs: int = 0
    seconds: float = 0.0
    kinds: tuple[str, ...] = ()


class Session:
    """Judges inputs for so many seconds of processor time, keeps the first of each kind of crash, notes how far it got.

    On a machine that others use, too, another clock would say little of how much was tried.
    """

    def __init__(self, target: Target, folder: Path, seconds: float) -> None:
        self._target = target
        self._folder = folder
        self._began = time.process_time()
        self._end = self._began + seconds
        self._noted = 0.0
        self.seen = Seen()

    def take(self, data: bytes) -> bool:
        """Judge one input, and say whether there is time for another."""
        crash = judge(self._target, data)
        self.seen.runs += 1
        if crash is not None and crash.kind not in self.seen.kinds:
            self._keep(data, crash)
        now = time.process_time()
        if now > min(self._noted + _EVERY, self._end):
            self._note(now)
        return now < self._end

    def _note(self, now: float) -> None:
        self._noted = now
        self.seen.seconds = now - self._began
        (self._folder / SEEN).write_text(json.dumps(asdict(self.seen)))

    def _keep(self, data: bytes, crash: Crash) -> None:
        self.seen.kinds = (*self.seen.kinds, crash.kind)
        name = f"crash-{zlib.crc32(crash.kind.encode()):08x}"
        (self._folder / name).write_bytes(data)
        (self._folder / f"{name}.txt").write_text(f"{crash.kind}\n\n{crash.told}\n", errors="backslashreplace")


def catalogue() -> Mapping[str, Target]:
    """The targets; their parsers are made to tell the engine which code they reach, where it is installed."""
    if ATHERIS:
        import atheris

        # It tells of each module.
        with contextlib.redirect_stderr(io.StringIO()), atheris.instrument_imports(include=["pipeline", "stdnum"]):
            return _targets()
    return _targets()


def _targets() -> Mapping[str, Target]:
    from tests.fuzz.catalogue import TARGETS

    return TARGETS


def inputs(target: Target, seed: int) -> Iterator[bytes]:
    """Inputs without end: the seeds, then what is made of them; the same for the same seed, but for keys in them."""
    seeds = target.seeds()
    yield from seeds
    chance = random.Random(zlib.crc32(f"{seed} {target.name}".encode()))  # noqa: S311  - nothing secret
    while True:
        yield mutated(chance.choice(seeds), seeds, target.form, chance)


def fuzz(target: Target, folder: Path, seconds: float, seed: int) -> None:
    """Let the target have inputs for so long. To be called in a process of its own, which the engine may end."""
    if ATHERIS:
        _guide(Session(target, folder, seconds), target, seed, folder)
    session = Session(target, folder, seconds)
    for data in inputs(target, seed):
        if not session.take(data):
            return


def _guide(session: Session, target: Target, seed: int, folder: Path) -> None:
    import atheris

    seeds = target.seeds()

    def take(data: bytes) -> None:
        if not session.take(data):
            os._exit(0)

    def changed(data: bytes, longest: int, number: int) -> bytes:
        chance = random.Random(number)  # noqa: S311  - nothing secret
        if chance.random() > _OWN_CHANGES:
            return bytes(atheris.Mutate(data, longest))
        return mutated(data, seeds, target.form, chance)[:longest]

    atheris.Setup(_arguments(seeds, seed, folder), take, custom_mutator=changed)
    atheris.Fuzz()


def _arguments(seeds: Sequence[bytes], seed: int, folder: Path) -> list[str]:
    corpus = folder / "corpus"
    corpus.mkdir(exist_ok=True)
    for number, one in enumerate(seeds):
        (corpus / f"seed-{number}").write_bytes(one)
    options = {
        "seed": seed or 1,  # zero would be chance
        "max_len": LONGEST,
        "timeout": _HANGING,
        "rss_limit_mb": _MEMORY_MB,
        "artifact_prefix": f"{folder}/engine-",
    }
    return ["fuzz", *(f"-{name}={value}" for name, value in options.items()), str(corpus)]
