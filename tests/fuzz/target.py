"""One parser of bytes from outside, and what must hold whatever those bytes are."""

import re
import resource
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.fuzz.mutation import PLAIN, Form

SECONDS = 5.0
"""Of processor time for one input; the largest are some ten thousand bytes."""
GROWTH = 64 * 1024 * 1024
GROWTH_PER_BYTE = 64
"""How far one input may raise the process's peak of memory: so much, and so much for each of its bytes."""
TEXT_LIMIT = 4_000
"""Characters of an error's text: it goes into logs, events and terminals."""
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f\ud800-\udfff]")
_PROJECT = Path(__file__).parents[2]
_PEAK_UNIT = 1 if sys.platform == "darwin" else 1024


@dataclass(frozen=True, slots=True)
class Target:
    """A parser. `enter` takes any bytes and raises nothing but `errors`, or `Broken` where it sees a promise broken."""

    name: str
    holds: str
    """What must hold beyond what must of every parser, for docs/fuzzing.md."""
    seeds: Callable[[], Sequence[bytes]]
    """Inputs that are taken, or nearly: what others are made from."""
    enter: Callable[[bytes], object]
    errors: tuple[type[Exception], ...] = ()
    form: Form = PLAIN
    secrets: tuple[str, ...] = ()
    """What no error may say."""


class Broken(AssertionError):  # noqa: N818  - a promise is broken; the input is not in error
    """A promise that an input broke."""


@dataclass(frozen=True, slots=True)
class Crash:
    """What an input did. `kind` is the same for inputs that do it at the same place."""

    kind: str
    told: str


def judge(target: Target, data: bytes) -> Crash | None:
    """Let the parser have `data`; what it broke, if anything."""
    began, peak = time.process_time(), _peak()
    try:
        target.enter(data)
    except target.errors as error:
        fault = _fault_of_text(str(error), target.secrets)
        if fault is not None:
            return Crash(f"{type(error).__name__} {fault}", f"{fault}: {str(error)[:500]!r}")
    except Exception as error:  # noqa: BLE001  - finding what else can come out is the purpose
        return Crash(_kind(error), "".join(traceback.format_exception(error)))
    spent, grown = time.process_time() - began, _peak() - peak
    if spent > SECONDS:
        return Crash("slow", f"took {spent:.1f} s of processor time for {len(data)} bytes")
    if grown > GROWTH + GROWTH_PER_BYTE * len(data):
        return Crash("large", f"took {grown >> 20} MB for {len(data)} bytes")
    return None


def must(holds: bool, promise: str) -> None:
    """Raises Broken unless `holds`."""
    if not holds:
        raise Broken(promise)


def _fault_of_text(text: str, secrets: Sequence[str]) -> str | None:
    if len(text) > TEXT_LIMIT:
        return f"text of more than {TEXT_LIMIT} characters"
    if _CONTROL.search(text):
        return "text with control characters"
    return "text with a secret" if any(secret in text for secret in secrets) else None


def _kind(error: Exception) -> str:
    """Type, promise and the innermost place in the project that it passed."""
    places = [
        f"{Path(frame.filename).name}:{frame.name}:{frame.lineno}"
        for frame in traceback.extract_tb(error.__traceback__)
        if Path(frame.filename).is_relative_to(_PROJECT / "pipeline") or isinstance(error, Broken)
    ]
    promise = f" {error}" if isinstance(error, Broken) else ""
    return f"{type(error).__name__}{promise} {places[-1] if places else 'in the target'}"


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _PEAK_UNIT
