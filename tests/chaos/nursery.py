"""The pipeline's processes, forked from one that has loaded the program already: forty of them start in a second.

Each is a process of its own, in a session of its own, and runs the very command `lodge`; it can be armed to crash.
"""

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path

from tests.chaos.crashing import Point, arm, shift_clock
from tests.services.processes import Service

_PRELOAD = ["workers.process", "pipeline.interfaces.cli", "pipeline.sandbox.server", "tests.chaos.crashing", "uvloop"]


@dataclass(frozen=True, slots=True)
class Harness:
    """How a process differs from an ordinary one: dies at the nth pass of a point, goes by a clock in a file."""

    point: Point | None = None
    nth: int = 1
    clock: Path | None = None


PLAIN = Harness()


def _context() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOAD)
    return context


class Nursling(Service):
    """A `lodge` process. `arguments` are the command's."""

    def __init__(
        self,
        name: str,
        arguments: Sequence[str],
        log: Path,
        ready: Callable[[], bool],
        env: Mapping[str, str],
        harness: Harness,
    ) -> None:
        super().__init__(name, arguments, log, ready, env)
        self._harness = harness
        self._child: BaseProcess | None = None

    def launch(self) -> None:
        self._log.touch()
        what = (list(self._command), str(self._log), dict(self._env or {}), self._harness)
        self._child = _context().Process(target=_live, args=what, name=self._name, daemon=True)
        self._child.start()

    def tell(self, number: signal.Signals) -> None:
        assert self._child is not None, f"{self._name} was not started"
        assert self._child.pid is not None
        os.kill(self._child.pid, number)

    def left(self, within: float = 0) -> int | None:
        assert self._child is not None, f"{self._name} was not started"
        self._child.join(within)
        return self._child.exitcode

    def kill(self) -> None:
        if self._child is not None and self._child.is_alive():
            self._child.kill()
            self._child.join(30)


def _live(arguments: Sequence[str], log: str, environment: Mapping[str, str], harness: Harness) -> None:
    """In the child: the command, as a shell would start it."""
    os.setsid()
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    for standard in (1, 2):
        os.dup2(descriptor, standard)
    os.environ.clear()
    os.environ.update(environment)
    # The test runner's own ideas of warnings and of interrupts are not the worker's.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if harness.clock is not None:
        shift_clock(harness.clock)
    if harness.point is not None:
        arm(harness.point, harness.nth)
    from pipeline.interfaces.cli import main

    sys.argv = ["lodge", *arguments]
    main(list(arguments))
