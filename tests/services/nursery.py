"""Processes of `lodge`, forked from one that has loaded the program already: forty of them start in a second.

Each is a process of its own, in a session of its own, and runs the very command; the interpreter's start and the
imports, a second of processor time each, are what is left out.
"""

import multiprocessing
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path

from tests.services.processes import Service

_PRELOAD = ["workers.process", "pipeline.bootstrap", "pipeline.interfaces.cli", "pipeline.sandbox.server", "uvloop"]
_READ, _WRITE = os.O_RDONLY, os.O_WRONLY | os.O_APPEND | os.O_CREAT


@dataclass(frozen=True, slots=True)
class Standard:
    """Files that a process has as its standard input, output and error."""

    input: str
    output: str
    error: str


@dataclass(frozen=True, slots=True)
class _Start:
    """A command to be run, and in what; `prepare` is called in the process before it."""

    arguments: Sequence[str]
    standard: Standard
    environment: Mapping[str, str]
    folder: str | None = None
    prepare: Callable[[], None] | None = None


@dataclass(frozen=True, slots=True)
class Left:
    """How a command left."""

    code: int
    out: bytes
    err: bytes


def run_command(
    arguments: Sequence[str], folder: Path, environment: Mapping[str, str], stdin: bytes = b"", timeout: float = 120
) -> Left:
    """`lodge` with these arguments, as a shell would run it in `folder`.

    Raises:
        TimeoutError: it had not ended by then, and was killed.
    """
    with tempfile.TemporaryDirectory(prefix="lodge-command-") as name:
        streams = [Path(name) / one for one in ("in", "out", "err")]
        streams[0].write_bytes(stdin)
        child = _fork(_Start(list(arguments), Standard(*map(str, streams)), dict(environment), str(folder)))
        child.join(timeout)
        if child.exitcode is None:
            child.kill()
            child.join()
            raise TimeoutError(f"lodge {' '.join(arguments)} had not ended after {timeout:g} s")
        return Left(child.exitcode, *(one.read_bytes() if one.exists() else b"" for one in streams[1:]))


class Nursling(Service):
    """A `lodge` process. `arguments` are the command's; `prepare` is called in the process before the command."""

    def __init__(
        self,
        name: str,
        arguments: Sequence[str],
        log: Path,
        ready: Callable[[], bool],
        env: Mapping[str, str],
        prepare: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(name, arguments, log, ready, env)
        self._prepare = prepare
        self._child: BaseProcess | None = None

    def launch(self) -> None:
        self._log.touch()
        log = str(self._log)
        standard = Standard(os.devnull, log, log)
        self._child = _fork(_Start(self._command, standard, dict(self._env or {}), prepare=self._prepare))

    @property
    def launched(self) -> bool:
        return self._child is not None

    @property
    def pid(self) -> int:
        assert self._child is not None, f"{self._name} was not started"
        assert self._child.pid is not None
        return self._child.pid

    def tell(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def left(self, within: float = 0) -> int | None:
        assert self._child is not None, f"{self._name} was not started"
        self._child.join(within)
        return self._child.exitcode

    def kill(self) -> None:
        if self._child is not None and self._child.is_alive():
            self._child.kill()
            self._child.join(30)


def _context() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOAD)
    return context


def _fork(start: _Start) -> BaseProcess:
    child = _context().Process(target=_live, args=(start,), daemon=True)
    child.start()
    return child


def _live(start: _Start) -> None:
    """In the child: the command, as a shell would start it."""
    os.setsid()
    files = ((start.standard.input, _READ), (start.standard.output, _WRITE), (start.standard.error, _WRITE))
    for number, (name, how) in enumerate(files):
        descriptor = os.open(name, how, 0o600)
        if descriptor != number:
            os.dup2(descriptor, number)
            os.close(descriptor)
    sys.stdin = os.fdopen(0, closefd=False)
    os.environ.clear()
    os.environ.update(start.environment)
    if start.folder is not None:
        os.chdir(start.folder)
    # The test runner's own idea of interrupts is not the command's.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if start.prepare is not None:
        start.prepare()
    from pipeline.interfaces.cli import main

    sys.argv = ["lodge", *start.arguments]
    main(list(start.arguments))
