"""Payloads of jobs from files, and the folder for those that have no file of their own."""

import base64
import errno
import hashlib
import os
import re
import stat
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path

from pipeline.interfaces.cli.unfinished import unfinished_folder
from pipeline.lodgment.job import INLINE_LIMIT

SPOOL = "spool"
"""Folder in `home`."""
KEPT_FOR = timedelta(days=7)
"""So long a file waits for the intake worker; a job that is older than that is pushed again, with its document."""
OWN = "own-"
"""How the folders begin, within it, that end with their command."""

_HALF = "half-"
_SPOOLED = re.compile(rf"[0-9a-f]{{64}}\.xml|{_HALF}.*")


def by_file(path: Path) -> dict[str, object]:
    """The payload of a job as a file's content: inline, or over the limit as a reference with size and SHA-256."""
    size = require_regular(path).st_size
    if size <= INLINE_LIMIT:
        return {"inline_base64": base64.b64encode(path.read_bytes()).decode()}
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"reference": path.resolve().as_uri(), "size": size, "sha256": digest}


def require_regular(path: Path) -> os.stat_result:
    """Refuse what cannot be read twice, and what would be waited for: pipes, devices, folders.

    Raises:
        OSError: whose `strerror` says what is wrong.
    """
    try:
        status = path.stat()
    except ValueError as error:
        raise OSError(errno.EINVAL, "its name holds a NUL") from error
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "it is not a regular file; jobs from a pipe are given as -")
    return status


class Spool:
    """Files that only their owner can read, each named by the SHA-256 of its content: the same part is one file."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, pieces: Iterable[bytes]) -> tuple[str, dict[str, object]]:
        """The SHA-256 of a document in hex, and the payload of its job; a file stays only if it is over the limit.

        Raises:
            OSError: the folder cannot be written. Whatever is raised, no half of a document stays.
        """
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=_HALF, dir=self._folder)  # mode 0600
        part = Path(name)
        digest = hashlib.sha256()
        try:
            with os.fdopen(descriptor, "wb") as file:
                for piece in pieces:
                    digest.update(piece)
                    file.write(piece)
            sha256 = digest.hexdigest()
            if part.stat().st_size > INLINE_LIMIT:
                # A part that is spooled again is as new as its job.
                part = part.rename(self._folder / f"{sha256}.xml")
                return sha256, by_file(part)
            payload = by_file(part)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        part.unlink()
        return sha256, payload


@contextmanager
def spool_in(home: Path, *, keep: bool) -> Iterator[tuple[Spool, Path]]:
    """The spool below `home` and its folder. With `keep` its files stay, for workers that read them later, until they
    are `KEPT_FOR` old; without, the folder is one of its own and ends with the block.
    """
    place = home.resolve() / SPOOL
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    _remove_old(place, time.time() - KEPT_FOR.total_seconds())
    if keep:
        yield Spool(place), place
        return
    with unfinished_folder(place, OWN) as folder:
        yield Spool(folder), folder


def _remove_old(place: Path, before: float) -> None:
    """Remove what `Spool.put` wrote before that time, whole or half, and nothing else that may lie there."""
    for path in place.iterdir():
        # Another command may remove it at the same time.
        with suppress(FileNotFoundError):
            if _SPOOLED.fullmatch(path.name) and path.is_file() and path.stat().st_mtime < before:
                path.unlink()
