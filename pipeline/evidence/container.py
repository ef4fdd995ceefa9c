"""A ZIP that nobody vouches for, read without unpacking it: bounded in every direction before anything is inflated."""

import re
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from pipeline.evidence.manifest import NAME
from pipeline.lodgment.errors import ConfigurationError, RefusedError

PIECE = 64 * 1024
_NAME = re.compile(NAME)
_ENCRYPTED = 0x1
_METHODS = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})
_DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, OSError, ValueError)


@dataclass(frozen=True, slots=True)
class Limits:
    """What is still read. Compressed members may not be larger than the file together: overlapping ones are a bomb."""

    members: int = 20_000
    member_bytes: int = 512 * 1024 * 1024
    total_bytes: int = 4 * 1024 * 1024 * 1024
    small_bytes: int = 16 * 1024 * 1024
    """Of what is read whole: the manifest, its signature, the signer."""


class Container:
    """Members by name; nothing is ever written to disk."""

    def __init__(self, path: Path, limits: Limits = Limits()) -> None:
        """Raises:
        ConfigurationError: `evidence.file`, it cannot be read.
        RefusedError: `evidence.zip`, `.name`, `.duplicate`, `.size`, `.encrypted`; names the member.
        """
        self._limits = limits
        try:
            size = path.stat().st_size
            self._zip = zipfile.ZipFile(path)
        except OSError as error:
            raise ConfigurationError("evidence.file", f"{path} cannot be read: {error.strerror}") from error
        except _DAMAGED as error:
            raise RefusedError("evidence.zip", f"{path} is not a whole ZIP: it was cut or damaged") from error
        try:
            self._members = self._checked(self._zip.infolist(), size)
        except RefusedError:
            self._zip.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._zip.close()

    @property
    def names(self) -> frozenset[str]:
        return frozenset(self._members)

    def size(self, name: str) -> int:
        """What the member says that it inflates to; more is never read."""
        return self._members[name].file_size

    def pieces(self, name: str) -> Iterator[bytes]:
        """A member, inflated as it is read.

        Raises:
            RefusedError: `evidence.damaged`.
        """
        try:
            with self._zip.open(self._members[name]) as member:
                while piece := member.read(PIECE):
                    yield piece
        except _DAMAGED as error:
            raise RefusedError("evidence.damaged", f"{name}: cannot be inflated: it was damaged") from error

    def read(self, name: str) -> bytes:
        """A small member, whole.

        Raises:
            RefusedError: `evidence.size`, `evidence.damaged`.
        """
        if self.size(name) > self._limits.small_bytes:
            raise RefusedError("evidence.size", f"{name}: has more than {self._limits.small_bytes} bytes")
        return b"".join(self.pieces(name))

    def _checked(self, members: list[zipfile.ZipInfo], size: int) -> dict[str, zipfile.ZipInfo]:
        limits = self._limits
        if len(members) > limits.members:
            raise RefusedError("evidence.size", f"the ZIP has {len(members)} members, more than {limits.members}")
        found: dict[str, zipfile.ZipInfo] = {}
        spellings: set[str] = set()
        for one in members:
            name = one.orig_filename
            shown = ascii(name)[1:101]
            if not _NAME.fullmatch(name):
                raise RefusedError("evidence.name", f"{shown}: no evidence file has a member of such a name")
            if name.casefold() in spellings:
                raise RefusedError("evidence.duplicate", f"{shown}: stands twice in the ZIP")
            if one.flag_bits & _ENCRYPTED or one.compress_type not in _METHODS:
                raise RefusedError("evidence.encrypted", f"{shown}: is encrypted, or compressed in an unknown way")
            if one.file_size > limits.member_bytes:
                raise RefusedError("evidence.size", f"{shown}: inflates to more than {limits.member_bytes} bytes")
            spellings.add(name.casefold())
            found[name] = one
        if sum(one.file_size for one in members) > limits.total_bytes:
            raise RefusedError("evidence.size", f"the ZIP inflates to more than {limits.total_bytes} bytes")
        if sum(one.compress_size for one in members) > size:
            raise RefusedError("evidence.size", "members of the ZIP overlap: it is made to inflate without end")
        return found
