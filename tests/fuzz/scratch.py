"""A folder for targets that read files, gone when the process ends."""

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path


@cache
def folder() -> Path:
    """This process's own."""
    path = Path(tempfile.mkdtemp(prefix="lodge-fuzz-"))
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return path


def file_of(name: str, content: bytes, mode: int = 0o600) -> Path:
    """A file there with this content, written anew."""
    path = folder() / name
    path.write_bytes(content)
    path.chmod(mode)
    return path
