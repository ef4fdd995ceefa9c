"""Claim check: documents that a job passes by reference, read from allowed places only, held to their promise."""

import hashlib
import io
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote, urlsplit

from pipeline.lodgment.job import JobRefusedError, Payload, promise_fault

_PIECE = 256 * 1024
LARGEST = 200 * 1024 * 1024
"""Bytes of any document that is read; each channel has a limit of its own below it."""


class Document:
    """A job's document while it is read, once. Its digest is taken on the way, so that it need not fit in memory."""

    def __init__(self, file: BinaryIO, payload: Payload, limit: int) -> None:
        self._file = file
        self._payload = payload
        self._limit = limit
        self._digest = hashlib.sha256()
        self._size = 0

    def pieces(self) -> Iterator[bytes]:
        """The rest of it.

        Raises:
            JobRefusedError: `payload.size` when it grew beyond the limit while it was read.
        """
        while piece := self._file.read(_PIECE):
            self._digest.update(piece)
            self._size += len(piece)
            if self._size > self._limit:
                raise _too_large(self._size, self._limit)
            yield piece

    def read(self) -> bytes:
        """The rest of it, in one."""
        return b"".join(self.pieces())

    def checked(self) -> str:
        """Its SHA-256 in hex, once it was read to its end and found to be what the job promised.

        Raises:
            JobRefusedError: `payload.promise` when size or SHA-256 differ from what the job says.
        """
        for _ in self.pieces():
            pass
        sha256 = self._digest.hexdigest()
        fault = promise_fault(self._size, sha256, self._payload)
        if fault is not None:
            raise JobRefusedError("payload.promise", (fault,))
        return sha256


class DocumentStore:
    """Opens payloads. `roots` are the folders that `file:` references may point into; none are allowed by default."""

    def __init__(self, roots: Sequence[Path], limit: int) -> None:
        self._roots = tuple(root.resolve() for root in roots)
        self._limit = limit

    @contextmanager
    def open(self, payload: Payload) -> Iterator[Document]:
        """The document of a job, inline or by reference.

        Raises:
            JobRefusedError: `payload.reference` when it is outside the allowed roots or cannot be read, `payload.size`
                when it is too large.
        """
        with self._file(payload) as file:
            yield Document(file, payload, self._limit)

    def _file(self, payload: Payload) -> BinaryIO:
        if payload.reference is None:
            return io.BytesIO(payload.inline_bytes())
        path = self._allowed(payload.reference)
        try:
            # O_NONBLOCK: opening a pipe must not wait for its writer.
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError as error:
            text = f"payload.reference: cannot be read ({error.strerror}); check the path and its permissions"
            raise JobRefusedError("payload.reference", (text,)) from error
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            os.close(descriptor)
            raise JobRefusedError("payload.reference", ("payload.reference: must be a regular file",))
        if status.st_size > self._limit:
            os.close(descriptor)
            raise _too_large(status.st_size, self._limit)
        return os.fdopen(descriptor, "rb")

    def _allowed(self, reference: str) -> Path:
        try:
            parts = urlsplit(reference)
        except ValueError as error:
            raise JobRefusedError("payload.reference", ("payload.reference: not a URL",)) from error
        if parts.scheme != "file" or parts.netloc not in ("", "localhost"):
            raise JobRefusedError("payload.reference", ("payload.reference: must be a file: URL without a host",))
        try:
            path = Path(unquote(parts.path)).resolve()
        except (ValueError, OSError) as error:
            raise JobRefusedError("payload.reference", ("payload.reference: not a usable path",)) from error
        if not any(path.is_relative_to(root) for root in self._roots):
            text = "payload.reference: outside the folders of setting `payload_roots`; put it there or inline"
            raise JobRefusedError("payload.reference", (text,))
        return path


def _too_large(size: int, limit: int) -> JobRefusedError:
    text = f"payload.size: the document has {size} bytes, at most {limit} are taken"
    return JobRefusedError("payload.size", (text,))
