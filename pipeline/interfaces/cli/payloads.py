"""Payloads of jobs from files, and the folder for those that have no file of their own."""

import base64
import hashlib
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.interfaces.cli.unfinished import unfinished_folder
from pipeline.lodgment.job import INLINE_LIMIT

SPOOL = "spool"
"""Folder in `home`."""
OWN = "own-"
"""How the folders begin, within it, that end with their command."""


def by_file(path: Path) -> dict[str, object]:
    """The payload of a job as a file's content: inline, or over the limit as a reference with size and SHA-256."""
    size = path.stat().st_size
    if size <= INLINE_LIMIT:
        return {"inline_base64": base64.b64encode(path.read_bytes()).decode()}
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"reference": path.resolve().as_uri(), "size": size, "sha256": digest}


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
        descriptor, name = tempfile.mkstemp(dir=self._folder)  # mode 0600
        part = Path(name)
        digest = hashlib.sha256()
        try:
            with os.fdopen(descriptor, "wb") as file:
                for piece in pieces:
                    digest.update(piece)
                    file.write(piece)
            sha256 = digest.hexdigest()
            if part.stat().st_size > INLINE_LIMIT:
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
    """The spool below `home` and its folder. With `keep` its files stay, for workers that read them later; without,
    the folder is one of its own and ends with the block.
    """
    place = home.resolve() / SPOOL
    if keep:
        yield Spool(place), place
        return
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    with unfinished_folder(place, OWN) as folder:
        yield Spool(folder), folder
