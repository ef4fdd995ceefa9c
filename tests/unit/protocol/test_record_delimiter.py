"""Record-delimited documents: cut where a delimiter stands and nowhere else, however the stream comes."""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.protocol.record_delimiter import RECORD_LIMIT, Record, RecordError, records
from tests.doubles.stp import child, delimiter, parent, pay_event

TRICKY = (
    '\ufeff<?xml version="1.0" encoding="UTF-8"?>\n<!-- <Record_Delimiter/> -->\n'
    + delimiter("1.1", "PARENT", "PAYEVNT")
    + '<a b="x &gt; y"><!-- <Record_Delimiter c="d"/> --><![CDATA[<Record_Delimiter e="f"/>]]><?p <Record_Delimiter ?>'
    "<Record_Delimiters/></a>"
    + "<Record_Delimiter DocumentID='1.2 ' DocumentType='CHILD'\n DocumentName='PAYEVNTEMP' RelatedDocumentID='1.1' >"
    "</Record_Delimiter>" + '<?xml version="1.0"?><c>Zoë</c>'
).encode()


def pieces(document: bytes, size: int) -> Iterator[bytes]:
    return (document[start : start + size] for start in range(0, len(document), size))


def refusal(document: bytes) -> str:
    with pytest.raises(RecordError) as caught:
        list(records([document]))
    return caught.value.code


@given(size=st.integers(1, 700))
def test_finds_the_same_documents_in_whatever_pieces_they_come(size: int) -> None:
    first, second = records(pieces(TRICKY, size))
    assert (first.document_id, first.document_type, first.related_id) == ("1.1", "PARENT", "")
    assert (second.document_id, second.document_type, second.related_id) == ("1.2", "CHILD", "1.1")
    assert first.raw + second.raw == TRICKY[TRICKY.index(b"<Record_Delimiter DocumentID") :]
    assert first.root().tag == "a"
    assert second.root().text == "Zoë"


def test_keeps_every_byte_of_every_document() -> None:
    document = pay_event(payees=50)
    assert b"".join(record.raw for record in records(pieces(document, 1000))) == document


@pytest.mark.parametrize(
    ("document", "code"),
    [
        (b"", "records.empty"),
        (b"  \n<!-- nothing -->", "records.empty"),
        (b"<a/>" + pay_event(), "records.start"),
        (b"text" + pay_event(), "records.start"),
        (pay_event().decode().encode("utf-16"), "records.encoding"),
        (pay_event() + b"<!DOCTYPE a>", "records.doctype"),
        (pay_event() + b"<!-- never closed", "records.unfinished"),
        (b"<Record_Delimiter DocumentType='PARENT'/>", "records.delimiter"),
        (b"<Record_Delimiter DocumentID='1'><a/></Record_Delimiter>", "records.delimiter"),
        (b"<Record_Delimiter DocumentID=1.1/>", "records.delimiter"),
        (b"<Record_Delimiter DocumentID='1' DocumentID='2'/>", "records.delimiter"),
        (b"<Record_Delimiter DocumentID='&other;'/>", "records.delimiter"),
        (b"<Record_Delimiter DocumentID='\xff'/>", "records.delimiter"),
        (delimiter("1.1", "PARENT", "PAYEVNT").encode() + b"x" * (RECORD_LIMIT + 1), "records.size"),
    ],
)
def test_refuses_with_a_code(document: bytes, code: str) -> None:
    assert refusal(document) == code


def test_names_the_document_that_is_not_well_formed() -> None:
    _, second = records([(parent() + child(1)).replace("</tns:Payee>", "").encode()])
    with pytest.raises(RecordError) as caught:
        second.root()
    assert (caught.value.code, caught.value.where) == ("records.malformed", "1.2")


def test_many_comments_before_the_first_delimiter_cost_no_more_than_their_bytes() -> None:
    assert refusal(b"<!-- a -->" * 200 + b"x" + pay_event()) == "records.start"
    assert len(list(records([b"<!-- a -->" * 200 + pay_event()]))) == 3


@pytest.mark.parametrize(
    "attributes",
    [
        b'DocumentID="1" DocumentID="2"',
        b'DocumentID="&unknown;"',
        b'DocumentID="\xff"',
        b'DocumentID="1" undeclared:name="2"',
        b'DocumentID="&#0;"',
    ],
)
def test_refuses_a_delimiter_that_is_no_xml(attributes: bytes) -> None:
    assert refusal(b"<Record_Delimiter " + attributes + b"/><a/>") == "records.delimiter"


def _read(parts: Iterator[bytes]) -> list[Record] | tuple[str, str, str | None]:
    try:
        return list(records(parts))
    except RecordError as error:
        return error.code, str(error), error.where


_FRAGMENTS = [
    *(
        b"<",
        b"<!",
        b"<!D",
        b"<!--",
        b"-->",
        b"<![CDATA[",
        b"]]>",
        b"<?",
        b"?>",
        b"\xff\xfe",
        b"\xef\xbb\xbf",
        b"</",
        b"/>",
    ),
    *(b"<Record_Delimiter", b"Record_Delimiter", b' DocumentID="1"', b" DocumentID='&amp;'", b"<p:", b"q" * 250 + b":"),
    *(delimiter("1.1", "PARENT", "PAYEVNT").encode(), b"<a/>", b" ", b"</Record_Delimiter>", b"\0<", b"&x;"),
]


@given(
    parts=st.lists(st.one_of(st.sampled_from(_FRAGMENTS), st.binary(max_size=5)), max_size=12),
    size=st.integers(1, 40),
)
def test_any_bytes_are_refused_or_read_and_alike_in_whatever_pieces_they_come(parts: list[bytes], size: int) -> None:
    document = b"".join(parts)
    assert _read(pieces(document, size)) == _read(iter([document]))


@pytest.mark.parametrize("size", [65536, RECORD_LIMIT * 3])
def test_a_document_that_is_too_large_is_refused_also_when_another_follows(size: int) -> None:
    first = delimiter("1.1", "PARENT", "PAYEVNT").encode()
    document = first + b"x" * (RECORD_LIMIT + 1) + delimiter("1.2", "CHILD", "PAYEVNTEMP", "1.1").encode()
    assert _read(pieces(document, size))[0] == "records.size"
