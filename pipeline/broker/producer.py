"""For payroll applications: push lodgment jobs and know which of them the broker has. Synchronous, over kombu."""

import os
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import Self

from pipeline.broker.port import Exchange
from pipeline.broker.pushing import Dial, Job, Line, Push
from pipeline.broker.topology import Topology


class Producer:
    """Pushes jobs with confirms.

    Safe in threads, which take turns on one connection, and after a fork: the child makes a connection of its own. The
    workers declare the exchange; a producer needs permission to write to it and nothing else.
    """

    def __init__(
        self,
        urls: Sequence[str],
        namespace: str = "lodge",
        *,
        confirm_timeout: float = 30.0,
        connect_timeout: float = 10.0,
        ca_file: str | None = None,
    ) -> None:
        """`urls` are tried in order; `confirm_timeout` is the longest wait, in seconds, for the next confirm."""
        self._dial = Dial(tuple(urls), Topology(namespace).exchange_name(Exchange.JOBS), connect_timeout, ca_file)
        self._confirm_timeout = confirm_timeout
        self._lines: dict[int, Line] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def push(self, job: Job, *, raw: bool = False) -> None:
        """Return once the broker has the job; otherwise as `push_many`."""
        self.push_many([job], raw=raw)

    def push_many(
        self,
        jobs: Iterable[Job],
        *,
        window: int = 200,
        on_confirmed: Callable[[str], None] | None = None,
        raw: bool = False,
    ) -> None:
        """Return once the broker has every job; `on_confirmed` is told each job id as it is confirmed.

        At most `window` jobs are under way; `jobs` is read no further ahead. Each is checked against the job contract
        before it is sent, unless `raw`.

        Raises:
            UnconfirmedError: names the jobs to push again: `broker.unconfirmed` (no confirm in time, or a full queue),
                `broker.down` (no broker could be reached), `broker.unroutable` (no such namespace on the broker).
            JobRefusedError: a job breaks the contract. All jobs before it are confirmed, none after it was sent.
            ConfigurationError: the broker refuses this user, password or virtual host.
        """
        line = self._line()
        with line.lock:
            line.carry(Push(jobs, window, on_confirmed, raw=raw), self._confirm_timeout)

    def close(self) -> None:
        """Close the connection; a later push opens another."""
        line = self._line()
        with line.lock:
            line.close()

    def _line(self) -> Line:
        """This process's connection and lock; those inherited in a fork are the parent's and only let go."""
        pid = os.getpid()
        for other in [each for each in self._lines if each != pid]:
            inherited = self._lines.pop(other, None)
            if inherited is not None:
                inherited.drop()
        return self._lines.setdefault(pid, Line(self._dial))
