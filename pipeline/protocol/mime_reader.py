"""multipart/related as it arrives (RFC 2046, 5.1.1): fed in pieces of any size, handed on without being collected.

Lenient where writers differ: preamble and epilogue, folded headers, quoted or bare boundary, padding after a delimiter,
Content-ID with or without brackets, bare line feeds. The first delimiter line shows which line break the message uses;
taking either anywhere would cut a binary part that happens to end in one. Strict where leniency would lose data: a
message is whole only if its closing delimiter came.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, auto

_DELIMITER = rb"(?:\A|\n)--%b(--)?[ \t]{0,160}(\r?\n|\Z)"
_LONGEST_LINE = 256
"""A delimiter with the blanks that may follow it (RFC 2046, transport-padding); a longer line is none."""
_FIELD_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_FOLD = re.compile(rb"\r?\n[ \t]+")
_ONCE = ("content-id", "content-type", "content-transfer-encoding")
_PARAMETER = re.compile(r';\s*([^\s=;"]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^;\s]*))', re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,\-./:=? ]{0,69}[0-9A-Za-z'()+_,\-./:=?]")
"""RFC 2046, 5.1.1."""


class MimeError(ValueError):
    """A multipart message that cannot be taken apart. `code` says which rule it breaks."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


@dataclass(frozen=True, slots=True)
class Bounds:
    """What is still read. A message that goes further is refused while it arrives."""

    parts: int = 100
    part_bytes: int = 50 * 1024 * 1024
    header_bytes: int = 16 * 1024
    """Of one part, and of the preamble."""


DEFAULT_BOUNDS = Bounds()


@dataclass(frozen=True, slots=True)
class PartStart:
    """A part's header. Content-ID without brackets; media type without parameters; encoding in lower case."""

    content_id: str | None
    media_type: str
    transfer_encoding: str


@dataclass(frozen=True, slots=True)
class PartData:
    """A piece of the content of the part that started last, as transferred."""

    data: bytes = field(repr=False)


class _At(Enum):
    PREAMBLE = auto()
    HEADER = auto()
    CONTENT = auto()
    EPILOGUE = auto()


@dataclass(frozen=True, slots=True)
class ContentType:
    """A Content-Type header: media type and names of parameters in lower case, values without quotes."""

    media_type: str
    parameters: Mapping[str, str]


def content_type_of(value: str) -> ContentType:
    """A Content-Type in any style (RFC 2045, 5.1). Of a parameter that stands twice the first counts."""
    media_type, _, rest = value.partition(";")
    parameters: dict[str, str] = {}
    for name, quoted, bare in _PARAMETER.findall(f";{rest}"):
        parameters.setdefault(name.lower(), _ESCAPED.sub(r"\1", quoted) or bare)
    return ContentType(media_type.strip().lower(), parameters)


def bare_id(value: str) -> str:
    """A Content-ID, or the `start` that names one, without its angle brackets."""
    return value.strip().removeprefix("<").removesuffix(">")


def boundary_of(content_type: str) -> str:
    """The boundary in a multipart Content-Type.

    Raises:
        MimeError: `mime.boundary`: there is none, or RFC 2046 does not allow it.
    """
    boundary = content_type_of(content_type).parameters.get("boundary")
    if boundary is None or not _BOUNDARY.fullmatch(boundary):
        raise MimeError("mime.boundary", "a multipart message without a usable boundary (RFC 2046, 5.1.1)")
    return boundary


class RelatedReader:
    """Takes a multipart body apart as it is fed; `finish` says whether it was whole."""

    def __init__(self, content_type: str, bounds: Bounds = DEFAULT_BOUNDS) -> None:
        boundary = boundary_of(content_type).encode()
        self._bounds = bounds
        self._first = re.compile(_DELIMITER % re.escape(boundary))
        self._mark = b"--" + boundary
        self._line_break = b"\r\n"
        self._at = _At.PREAMBLE
        self._buffer = bytearray()
        self._searched = 0
        """Bytes of the preamble in which there is no delimiter, unless it has only begun."""
        self._skip = 0
        """Bytes at the front of the buffer that are the blank line after a header, and no content."""
        self._size = 0
        self._parts = 0
        self._ids: set[str] = set()

    def feed(self, data: bytes) -> list[PartStart | PartData]:
        """What `data` brings.

        Raises:
            MimeError: `mime.header`, `mime.header-size`, `mime.part-size`, `mime.parts`, `mime.duplicate-id`.
        """
        events: list[PartStart | PartData] = []
        self._buffer += data
        going_on = True
        while going_on:
            match self._at:
                case _At.PREAMBLE:
                    going_on = self._end_preamble(final=False)
                case _At.HEADER:
                    start = self._header()
                    going_on = start is not None
                    events += [] if start is None else [start]
                case _At.CONTENT:
                    content, going_on = self._content(final=False)
                    events += [PartData(content)] if content else []
                case _At.EPILOGUE:
                    self._buffer.clear()
                    going_on = False
        return events

    def finish(self) -> None:
        """The body has ended.

        Raises:
            MimeError: `mime.truncated`: its closing delimiter did not come; `mime.empty`: it has no part.
        """
        if self._at is _At.PREAMBLE:
            self._end_preamble(final=True)
        elif self._at is _At.CONTENT:
            self._content(final=True)
        if self._at is not _At.EPILOGUE:
            raise MimeError("mime.truncated", "the multipart message ends before its closing delimiter")
        if not self._parts:
            raise MimeError("mime.empty", "the multipart message has no part")

    def _end_preamble(self, *, final: bool) -> bool:
        limit = self._bounds.header_bytes
        # A copy: a match on the buffer itself would forbid to shorten it.
        searched = max(self._searched - _LONGEST_LINE, 0)
        self._searched = len(self._buffer)
        for found in self._first.finditer(bytes(self._buffer[: limit + _LONGEST_LINE]), searched):
            closing, line_break = found.groups()
            if line_break or (final and closing):
                self._line_break = line_break or b"\r\n"
                self._at = _At.EPILOGUE if closing else _At.HEADER
                del self._buffer[: found.end()]
                return True
        if len(self._buffer) > limit + _LONGEST_LINE:
            raise MimeError("mime.header-size", f"no delimiter in the first {limit} bytes of the multipart message")
        return False

    def _header(self) -> PartStart | None:
        blank = self._line_break * 2
        end = 0 if self._buffer.startswith(self._line_break) else self._buffer.find(blank)
        if end > self._bounds.header_bytes or (end < 0 and len(self._buffer) > self._bounds.header_bytes):
            raise MimeError("mime.header-size", f"a part's header has more than {self._bounds.header_bytes} bytes")
        if end < 0:
            return None
        self._parts += 1
        if self._parts > self._bounds.parts:
            raise MimeError("mime.parts", f"the multipart message has more than {self._bounds.parts} parts")
        fields = _fields(bytes(self._buffer[:end]))
        # The line break of the blank line stays: it may be the one that belongs to the next delimiter.
        del self._buffer[: end + len(self._line_break) if end else 0]
        self._skip = len(self._line_break)
        self._size = 0
        self._at = _At.CONTENT
        return self._part_start(fields)

    def _part_start(self, fields: dict[str, str]) -> PartStart:
        content_id = bare_id(fields["content-id"]) if "content-id" in fields else None
        if content_id is not None:
            if content_id in self._ids:
                raise MimeError("mime.duplicate-id", "two parts have the same Content-ID")
            self._ids.add(content_id)
        media_type = content_type_of(fields.get("content-type", "text/plain")).media_type
        return PartStart(content_id, media_type, fields.get("content-transfer-encoding", "binary").strip().lower())

    def _content(self, *, final: bool) -> tuple[bytes, bool]:
        """Content that is surely no delimiter, and whether one ended it."""
        wanted = self._line_break + self._mark
        place = self._buffer.find(wanted)
        while place >= 0:
            ending = self._after_mark(place + len(wanted), final=final)
            if ending is None:
                return self._taken(place), False
            closing, end = ending
            if end:
                content = self._taken(place)
                del self._buffer[: end - place]
                self._at = _At.EPILOGUE if closing else _At.HEADER
                return content, True
            place = self._buffer.find(wanted, place + 1)
        return self._taken(max(len(self._buffer) - len(wanted) + 1, 0)), False

    def _after_mark(self, place: int, *, final: bool) -> tuple[bool, int] | None:
        """Whether what is at `place` makes a closing delimiter, and where it ends: 0 if it makes none, None if that is
        not known yet.
        """
        rest = bytes(self._buffer[place : place + _LONGEST_LINE])
        closing = rest.startswith(b"--")
        line = rest[2:] if closing else rest
        blank = len(line) - len(line.lstrip(b" \t"))
        left = line[blank:]
        end = place + (2 if closing else 0) + blank
        if left.startswith(self._line_break):
            return closing, end + len(self._line_break)
        if not self._line_break.startswith(left) and rest != b"-":
            return False, 0
        if final or len(rest) == _LONGEST_LINE:
            return closing, end if final and closing else 0
        return None

    def _taken(self, end: int) -> bytes:
        """The content up to `end`. A delimiter may begin with the blank line of the header: then there is none."""
        if end < self._skip:
            return b""
        content = bytes(self._buffer[self._skip : end])
        del self._buffer[:end]
        self._skip = 0
        self._size += len(content)
        if self._size > self._bounds.part_bytes:
            raise MimeError("mime.part-size", f"a part has more than the {self._bounds.part_bytes} bytes allowed")
        return content


def _fields(header: bytes) -> dict[str, str]:
    """Header fields by lower-case name (RFC 822, 3.1); of those that are read none may stand twice."""
    found: dict[str, str] = {}
    unfolded = _FOLD.sub(b" ", header)
    for line in unfolded.splitlines():
        name, colon, value = line.partition(b":")
        key = name.strip().lower().decode("ascii", "replace")
        if not colon or not _FIELD_NAME.fullmatch(name.rstrip(b" \t")):
            raise MimeError("mime.header", "a part's header holds a line that is no header field")
        if key in found and key in _ONCE:
            raise MimeError("mime.header", f"a part's header has {key} twice")
        found[key] = value.strip().decode("utf-8", "replace")
    return found
