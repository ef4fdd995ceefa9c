"""Record-delimited documents: XML documents one after another, each announced by a `Record_Delimiter` element.

The whole has no root, so it is no XML. It is read as a stream, one document in memory at a time: `<` starts markup
wherever it stands outside comments, CDATA sections and processing instructions (XML 1.0, 2.4), so the delimiters can be
told from text without parsing what is between them. (Form: ATO, PARENT/CHILD documents of bulk messages.)
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from lxml import etree

from pipeline.protocol.xml import XmlError, parse

RECORD_LIMIT = 4 * 1024 * 1024
"""Bytes of one document; a payee's takes about three thousand."""
_DELIMITER_LIMIT = 4096
_MARKUP = re.compile(rb"<!--|<!\[CDATA\[|<\?|<!D|<(?:[A-Za-z_][\w.-]{0,199}:)?Record_Delimiter(?=[\s/>])")
_OPENING = re.compile(rb"<(?:[A-Za-z_][\w.-]{0,199}:)?Record_Delimiter[\s/>]")
_CLOSINGS = {b"<!--": b"-->", b"<![CDATA[": b"]]>", b"<?": b"?>"}
_DELIMITER = re.compile(
    rb"<(?P<name>(?:[A-Za-z_][\w.-]{0,199}:)?Record_Delimiter)"
    rb"(?:\s+[\w:.-]+\s*=\s*(?:\"[^\"<]*\"|'[^'<]*'))*\s*(?:/>|>\s*</(?P=name)\s*>)"
)
_LONGEST_MARK = 256
"""No opening mark is longer, a prefix included: so much of what was read may be the beginning of one."""
_UTF_16 = (b"\xff\xfe", b"\xfe\xff", b"<\0", b"\0<")
_BLANK = re.compile(rb"(?:\xef\xbb\xbf)?(?:\s|(?><\?.*?\?>)|(?><!--.*?-->))*+", re.DOTALL)
"""Nothing in it is tried twice: a hundred comments before the first delimiter must not take for ever."""

_ROOT = re.compile(rb"<[A-Za-z_][^<>]{0,1000}>")
"""The start of an element around all documents, which some products write and no agency takes."""


class RecordError(ValueError):
    """A record-delimited document that breaks a rule. `code` says which; `where` is the id of the document within."""

    def __init__(self, code: str, text: str, where: str | None = None) -> None:
        super().__init__(text)
        self.code = code
        self.where = where


@dataclass(frozen=True, slots=True)
class Record:
    """One document and what its delimiter says of it. `raw` is delimiter and document, to the byte, as they came."""

    document_id: str
    document_type: str
    """`PARENT` or `CHILD`."""
    document_name: str
    related_id: str
    """Of a child its parent's id, else empty."""
    raw: bytes = field(repr=False)
    delimiter_size: int = 0

    @property
    def document(self) -> bytes:
        return self.raw[self.delimiter_size :]

    def root(self) -> etree._Element:
        """The document, parsed.

        Raises:
            RecordError: `records.malformed` and other `xml.*` rules, with the document's id.
        """
        try:
            return parse(self.document.strip(), RECORD_LIMIT)
        except XmlError as error:
            raise RecordError(f"records.{error.code.removeprefix('xml.')}", str(error), self.document_id) from error


def is_record_delimited(start: bytes) -> bool:
    """Whether a document that begins with these bytes begins with a delimiter; some kilobytes are enough.

    One inside a root element counts too, so that `records` says what is wrong with it.
    """
    place = _after_blank(start, 0)
    root = None if _OPENING.match(start, place) else _ROOT.match(start, place)
    return _OPENING.match(start, place if root is None else _after_blank(start, root.end())) is not None


def _after_blank(start: bytes, place: int) -> int:
    blank = _BLANK.match(start, place)
    return place if blank is None else blank.end()


def records(pieces: Iterable[bytes]) -> Iterator[Record]:
    """The documents of a stream, in order.

    Raises:
        RecordError: `records.encoding`, `records.start` (something stands before the first delimiter), `records.empty`,
            `records.delimiter`, `records.doctype`, `records.unfinished` or `records.size`.
    """
    count = -1
    for count, raw in enumerate(_cut(pieces)):
        if count:
            yield _record(raw)
        elif not _BLANK.fullmatch(raw):
            raise RecordError("records.start", "a Record_Delimiter must stand first, and no element around it")
    if count < 1:
        raise RecordError("records.empty", "the document holds no Record_Delimiter")


def _cut(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """What stands before the first delimiter, then each delimiter with what follows it."""
    cutter = _Cutter()
    start = b""
    for piece in pieces:
        if len(start) < len(_UTF_16[0]):
            start += piece[: len(_UTF_16[0])]
            if start.startswith(_UTF_16):
                raise RecordError("records.encoding", "the document must be in UTF-8, it is in UTF-16")
        yield from cutter.feed(piece)
    yield cutter.rest()


class _Cutter:
    """Cuts before each delimiter, whatever pieces the stream comes in."""

    def __init__(self) -> None:
        self._held = bytearray()
        self._looked = 0
        self._closing: bytes | None = None
        """What ends the comment, CDATA section or processing instruction that the stream is within."""

    def feed(self, piece: bytes) -> Iterator[bytes]:
        self._held += piece
        while (found := self._next_mark()) is not None:
            mark = found[0]
            if mark == b"<!D":
                raise RecordError("records.doctype", "a document type declaration is not allowed")
            if mark in _CLOSINGS:
                self._looked, self._closing = found.end(), _CLOSINGS[mark]
                continue
            start = found.start()
            _check_size(start)
            yield bytes(self._held[:start])
            del self._held[:start]
            self._looked = len(mark)
        _check_size(len(self._held))

    def rest(self) -> bytes:
        if self._closing is not None:
            text = f"the document ends before the {self._closing.decode()} that closes what it opened"
            raise RecordError("records.unfinished", text)
        return bytes(self._held)

    def _next_mark(self) -> re.Match[bytes] | None:
        """The next opening mark in what is held; None when more must be read to find one."""
        if self._closing is not None:
            end = self._held.find(self._closing, self._looked)
            if end < 0:
                self._looked = max(self._looked, len(self._held) - len(self._closing) + 1)
                return None
            self._looked, self._closing = end + len(self._closing), None
        found = _MARKUP.search(self._held, self._looked)
        if found is None:
            self._looked = max(self._looked, len(self._held) - _LONGEST_MARK)
        return found


def _check_size(size: int) -> None:
    if size > RECORD_LIMIT:
        raise RecordError("records.size", f"one document has more than {RECORD_LIMIT} bytes")


def _record(raw: bytes) -> Record:
    found = _DELIMITER.match(raw, 0, _DELIMITER_LIMIT)
    if found is None:
        raise RecordError(
            "records.delimiter",
            "a Record_Delimiter must be an empty element: DocumentID, DocumentType, DocumentName, RelatedDocumentID",
        )
    # A prefix has no declaration in so small a document; the delimiter's own name says nothing more.
    name = found["name"]
    attributes = found[0][1 + len(name) :].split(b"</", 1)[0].rstrip(b"/> \t\r\n")
    try:
        element = parse(b"<Record_Delimiter" + attributes + b"/>")
    except XmlError as error:
        raise RecordError("records.delimiter", f"a Record_Delimiter is {error}") from error
    values = {key: (element.get(key) or "").strip() for key in _ATTRIBUTES}
    if not values["DocumentID"]:
        raise RecordError("records.delimiter", "a Record_Delimiter must have a DocumentID")
    return Record(
        document_id=values["DocumentID"],
        document_type=values["DocumentType"],
        document_name=values["DocumentName"],
        related_id=values["RelatedDocumentID"],
        raw=raw,
        delimiter_size=found.end(),
    )


_ATTRIBUTES = ("DocumentID", "DocumentType", "DocumentName", "RelatedDocumentID")
