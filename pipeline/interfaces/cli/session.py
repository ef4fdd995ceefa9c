"""What most commands begin with: the settings, a quiet log, and the ledger for looking."""

import fcntl
import getpass
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from pipeline.lodgment.errors import ConfigurationError

if TYPE_CHECKING:
    from pipeline.ledger.session import Ledger, Tx
    from pipeline.settings import EnvironmentSettings, Settings


def settings_of(context: typer.Context) -> "Settings":
    """The settings; from here on logs go to stderr, and only errors unless `--debug` asks for all."""
    from pipeline.settings import load_settings
    from pipeline.telemetry import configure_logs

    debug = bool(context.find_root().params.get("debug"))
    configure_logs("debug" if debug else "error", json_lines=False)
    return load_settings()


def now() -> datetime:
    return datetime.now(UTC)


@asynccontextmanager
async def opened_ledger(settings: "Settings") -> "AsyncIterator[Ledger]":
    """The ledger as it is: nothing is created and nothing is migrated by looking.

    Raises:
        ConfigurationError: `ledger.none` when nothing was ever lodged with these settings, or `ledger.schema`.
    """
    from pipeline.bootstrap import open_ledger

    file = embedded_file(settings)
    if file is not None and not file.exists():
        text = f"ledger: there is none at {file} yet; `lodge submit` or `lodge db upgrade` makes it"
        raise ConfigurationError("ledger.none", f"{text}, or set LODGE_HOME to where it is")
    ledger = open_ledger(settings)
    try:
        await ledger.check()
        yield ledger
    finally:
        await ledger.close()


@asynccontextmanager
async def reading(settings: "Settings") -> "AsyncIterator[Tx]":
    """One transaction that only reads."""
    async with opened_ledger(settings) as ledger, ledger.transaction(read_only=True) as tx:
        yield tx


def described(settings: "Settings") -> "EnvironmentSettings | None":
    """The chosen environment, without making anything: None for the sandbox that was never started here.

    Raises:
        ConfigurationError: `settings.environment`, `settings.sts-contract`.
    """
    from pipeline.profiles import SANDBOX, environment_of

    missing = settings.environment == SANDBOX and SANDBOX not in settings.environments
    if missing and not (settings.home / SANDBOX).exists():
        return None
    return environment_of(settings, now())


def embedded_file(settings: "Settings") -> Path | None:
    """The SQLite file in the settings' home, where the ledger is there."""
    return settings.home.resolve() / "ledger.sqlite3" if settings.ledger_url is None else None


def somebody_at_work(settings: "Settings") -> bool | None:
    """Whether a process works in the embedded home; None where workers are processes of their own."""
    if not settings.embedded:
        return None
    try:
        with (settings.home / "embedded.lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def operator() -> str:
    """Who gives the command, for the audit: the user as the machine knows them."""
    return f"{os.environ.get('SUDO_USER') or getpass.getuser()}@{socket.gethostname()}"
