"""Folders for what is not finished: they end with their process, and what a killed one left goes with the next."""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def unfinished_folder(parent: Path, prefix: str) -> Iterator[Path]:
    """A folder below `parent` for its owner alone; gone after the block, unless it was renamed meanwhile. What other
    processes left behind under the same prefix is removed, if they do not live any more.

    Raises:
        OSError: it cannot be made.
    """
    with _locked(parent, wait=True):
        # A living process holds a lock on its folder; both are made while nobody can look.
        for left in parent.glob(f"{prefix}*"):
            if left.is_dir() and not left.is_symlink():
                with contextlib.suppress(BlockingIOError, FileNotFoundError), _locked(left, wait=False):
                    shutil.rmtree(left)
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))  # mode 0700
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        yield folder
    finally:
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(folder)
        os.close(lock)


@contextmanager
def _locked(folder: Path, *, wait: bool) -> Iterator[None]:
    """Hold the lock of a folder; without `wait`, BlockingIOError says that somebody else does."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)
