"""One walk of the doctor: how far it may go, how long it may take, and what one part found out for the next."""

import asyncio
from collections.abc import Awaitable, Iterable
from dataclasses import dataclass, field
from typing import TypeVar

from pipeline.interfaces.cli.conversation import Sender
from pipeline.interfaces.cli.doctor.catalogue import Check
from pipeline.interfaces.cli.doctor.line import Line, Role, failed, skipped
from pipeline.interfaces.cli.doctor.network import Reached
from pipeline.profiles import SANDBOX
from pipeline.protocol.credential import Credential
from pipeline.settings import EnvironmentSettings, Settings

T = TypeVar("T")

TOTAL = 150.0
"""Seconds for the whole walk; what is not reached by then is told as silent."""

OFFLINE = "--offline: no connection was opened"


@dataclass(frozen=True, slots=True)
class Scope:
    """How far to go: `offline` opens no connection; without a sender no ping is sent."""

    offline: bool
    sender: Sender | None


@dataclass(slots=True)
class Visit:
    """What is known so far. Made inside a running event loop, whose clock bounds the walk."""

    settings: Settings
    scope: Scope
    environment: EnvironmentSettings | None = None
    credential: Credential | None = None
    master_keys: tuple[bytes, ...] = ()
    reached: Reached = field(default_factory=lambda: Reached({}))
    ends: float = field(default_factory=lambda: asyncio.get_running_loop().time() + TOTAL)

    @property
    def sandbox(self) -> bool:
        """Whether the environment is the sandbox that describes itself."""
        return self.settings.environment == SANDBOX and SANDBOX not in self.settings.environments

    async def within(self, seconds: float, work: Awaitable[T]) -> T | None:
        """What `work` gives, or None when its time or the walk's is up."""
        left = max(0.0, self.ends - asyncio.get_running_loop().time())
        try:
            async with asyncio.timeout(min(seconds, left)):
                return await work
        except TimeoutError:
            return None


def silent(check: Check, who: Role, rest: Iterable[Check], subject: str = "") -> list[Line]:
    """Nothing came in time; what hangs on it is skipped."""
    fix = "See whether it is overloaded, or whether a firewall on the way holds back answers."
    first = failed(check, "no answer in time", fix, who, subject=subject)
    return [first, *skipped_all(rest, f"needs {check}", subject)]


def skipped_all(checks: Iterable[Check], why: str, subject: str = "") -> list[Line]:
    return [skipped(check, why, subject) for check in checks]
