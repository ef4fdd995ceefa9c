"""What targets share: a folder for those that read files, gone when the process ends, and bytes cut into pieces."""

import atexit
import shutil
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

_SMALL = 500


@cache
def folder() -> Path:
    """This process's own."""
    path = Path(tempfile.mkdtemp(prefix="lodge-fuzz-"))
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return path


def cuts(data: bytes) -> Iterator[tuple[bytes, ...]]:
    """The same bytes in pieces of several sizes; byte by byte only where that is quick."""
    for size in (1 if len(data) < _SMALL else 13, 97, len(data) or 1):
        yield tuple(data[start : start + size] for start in range(0, len(data), size))


def file_of(name: str, content: bytes, mode: int = 0o600) -> Path:
    """A file there with this content, written anew."""
    path = folder() / name
    path.write_bytes(content)
    path.chmod(mode)
    return path
