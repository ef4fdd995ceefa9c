"""Server processes that tests own: on free ports, awaited with a deadline, killed with everything they started."""

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path


class ServiceError(RuntimeError):
    """A server that the tests need cannot be had here; the text says what to do."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


class Service:
    """One process and its group, restartable with the same command."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        log: Path,
        ready: Callable[[], bool],
        env: Mapping[str, str] | None = None,
        user: int | None = None,
    ) -> None:
        self._name = name
        self._command = list(command)
        self._log = log
        self._ready = ready
        self._env = env
        self._user = user
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, timeout: float = 90) -> None:
        """Start and wait until it answers."""
        self.launch()
        self.await_ready(timeout)

    def launch(self) -> None:
        """Start without waiting."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._env,
                user=self._user,
                start_new_session=True,
            )

    def await_ready(self, timeout: float = 90) -> None:
        deadline = time.monotonic() + timeout
        while not self._ready():
            if self.left() is not None or time.monotonic() > deadline:
                self.kill()
                raise ServiceError(f"{self._name} did not come up; its log ends:\n{self._log.read_text()[-3000:]}")
            time.sleep(0.1)

    def tell(self, number: signal.Signals) -> None:
        """Send a signal to the process and its group."""
        assert self._process is not None, f"{self._name} was not started"
        os.killpg(self._process.pid, number)

    def left(self, within: float = 0) -> int | None:
        """The exit code of a process that ends by then, or None."""
        assert self._process is not None, f"{self._name} was not started"
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._process.wait(within)
        return None

    def peak_memory(self) -> int:
        """Bytes that the living process has had in memory at its most (proc(5), VmHWM)."""
        assert self._process is not None, f"{self._name} was not started"
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        [line] = [line for line in status.splitlines() if line.startswith("VmHWM:")]
        return int(line.split()[1]) * 1024

    def forget_peak_memory(self) -> None:
        """Set the peak back to what is in memory now (proc(5), clear_refs)."""
        assert self._process is not None, f"{self._name} was not started"
        Path(f"/proc/{self._process.pid}/clear_refs").write_text("5")

    def kill(self) -> None:
        """SIGKILL to the process and to everything it started: no goodbye to anybody."""
        self._end(signal.SIGKILL, 30)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        self._end(how, 20)
        self.kill()

    def _end(self, how: signal.Signals, timeout: float) -> None:
        if self._process is None:
            return
        # PostgreSQL puts its children in sessions of their own, where a signal to the group does not reach them.
        children = _children(self._process.pid) if how is signal.SIGKILL else []
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, how)
        for child in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, how)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout)
