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


def _runs(pid: int) -> bool:
    """Whether there is such a process, and not only its exit code that nobody has asked for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


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

    @property
    def launched(self) -> bool:
        return self._process is not None

    @property
    def pid(self) -> int:
        assert self._process is not None, f"{self._name} was not started"
        return self._process.pid

    def tell(self, number: signal.Signals) -> None:
        """Send a signal to the process and its group."""
        os.killpg(self.pid, number)

    def left(self, within: float = 0) -> int | None:
        """The exit code of a process that ends by then, or None."""
        assert self._process is not None, f"{self._name} was not started"
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._process.wait(within)
        return None

    def peak_memory(self) -> int:
        """Bytes that the living process has had in memory at its most (proc(5), VmHWM)."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        [line] = [line for line in status.splitlines() if line.startswith("VmHWM:")]
        return int(line.split()[1]) * 1024

    def forget_peak_memory(self) -> None:
        """Set the peak back to what is in memory now (proc(5), clear_refs)."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    def kill(self) -> None:
        """SIGKILL to the process and to everything it started: no goodbye to anybody."""
        if not self.launched:
            return
        children: list[int] = []
        with contextlib.suppress(ProcessLookupError):
            # PostgreSQL puts its children in sessions of their own, where a signal to the group does not reach them.
            # Stopped, it starts no other ones meanwhile.
            os.kill(self.pid, signal.SIGSTOP)
            children = _children(self.pid)
            self.tell(signal.SIGKILL)
        for child in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        self.left(within=30)
        # Until the last of them is gone, its shared memory is in use, and the next server refuses to start.
        deadline = time.monotonic() + 30
        while any(_runs(child) for child in children) and time.monotonic() < deadline:
            time.sleep(0.01)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        if self.launched:
            with contextlib.suppress(ProcessLookupError):
                self.tell(how)
            self.left(within=20)
            self.kill()
