"""Claim check: documents that a job passes by reference, read from allowed places only, held to their promise."""

import asyncio
import hashlib
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from pipeline.lodgment.job import JobRefusedError, Payload, payload_fault


@dataclass(frozen=True, slots=True)
class Document:
    """The producer's bytes, with their SHA-256 in hex."""

    content: bytes
    sha256: str


class DocumentStore:
    """Reads payloads. `roots` are the folders that `file:` references may point into; none are allowed by default."""

    def __init__(self, roots: Sequence[Path], limit: int) -> None:
        self._roots = tuple(root.resolve() for root in roots)
        self._limit = limit

    async def fetch(self, payload: Payload) -> Document:
        """The document of a job, inline or by reference.

        Raises:
            JobRefusedError: `payload.reference` when it is outside the allowed roots or cannot be read, `payload.size`
                when it is too large, `payload.promise` when size or SHA-256 differ from what the job says.
        """
        if payload.reference is None:
            content = payload.inline_bytes()
        else:
            content = await asyncio.to_thread(self._read, payload.reference)
            fault = payload_fault(content, payload.size, payload.sha256)
            if fault is not None:
                raise JobRefusedError("payload.promise", (fault,))
        return Document(content, hashlib.sha256(content).hexdigest())

    def _read(self, reference: str) -> bytes:
        path = self._allowed(reference)
        try:
            # O_NONBLOCK: opening a pipe must not wait for its writer.
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError as error:
            text = f"payload.reference: cannot be read ({error.strerror}); check the path and its permissions"
            raise JobRefusedError("payload.reference", (text,)) from error
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise JobRefusedError("payload.reference", ("payload.reference: must be a regular file",))
            if status.st_size > self._limit:
                text = f"payload.size: the document has {status.st_size} bytes, at most {self._limit} are taken"
                raise JobRefusedError("payload.size", (text,))
            return file.read(self._limit + 1)

    def _allowed(self, reference: str) -> Path:
        parts = urlsplit(reference)
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
