"""Sandbox homes of a test's own, with the keys and credentials that were made once: they cost a second each."""

import atexit
import shutil
import tempfile
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from pipeline.sandbox.home import Home, open_home


def new_home(path: Path) -> Home:
    """A home at `path`, which must not exist."""
    shutil.copytree(_made_once(), path)
    return open_home(path, datetime.now(UTC))


@cache
def _made_once() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="lodge-sandbox-home-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return open_home(folder / "home", datetime.now(UTC)).path
