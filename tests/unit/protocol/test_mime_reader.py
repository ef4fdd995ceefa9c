"""Multipart messages as they come: every ugliness that is still readable, and every damage that must not pass."""

import base64
import email.policy
from email.message import EmailMessage
from email.mime.multipart import MIMEMultipart
from email.mime.nonmultipart import MIMENonMultipart

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.protocol.mime import Attachment, Package, read_package, root_part
from pipeline.protocol.mime_reader import Bounds, MimeError, RelatedReader
from tests.doubles.as4 import sealed

TYPE = 'multipart/related; boundary="b1"; type="application/soap+xml"; start="<root>"'
ROOT = b"<Envelope/>"
GZIP = b"\x1f\x8b\r\n--b\r\n\r\n--b1x\n--b1--\n\r"
"""Binary content with much that looks like a delimiter, and the end of one."""
WHOLE = (
    b"--b1\r\nContent-Type: application/soap+xml; charset=UTF-8\r\nContent-ID: <root>\r\n\r\n" + ROOT + b"\r\n"
    b"--b1\r\nContent-Type: application/gzip\r\nContent-Transfer-Encoding: binary\r\nContent-ID: <part>\r\n\r\n"
    + GZIP
    + b"\r\n--b1--"
)
READ = Package(ROOT, (Attachment("part", "application/gzip", GZIP),))


def read(body: bytes, content_type: str = TYPE, bounds: Bounds | None = None, step: int = 10**9) -> Package:
    pieces = [body[start : start + step] for start in range(0, len(body), step)]
    return read_package(content_type, pieces, bounds or Bounds())


def refusal(body: bytes, content_type: str = TYPE, bounds: Bounds | None = None) -> str:
    codes = set()
    for step in (1, 7, 10**9):
        with pytest.raises(MimeError) as caught:
            read(body, content_type, bounds, step)
        codes.add(caught.value.code)
    assert len(codes) == 1, "what is wrong must not depend on how the message was cut"
    return codes.pop()


def line_feeds(body: bytes) -> bytes:
    head, tail = body.split(GZIP)
    return head.replace(b"\r\n", b"\n") + b"\x1f\x8b\r" + tail.replace(b"\r\n", b"\n")


@pytest.mark.parametrize("step", [*range(1, 40), 10**9])
def test_reads_a_message_in_pieces_of_any_size(step: int) -> None:
    assert read(WHOLE, step=step) == READ


def test_refuses_a_message_that_ends_at_any_byte_before_its_closing_delimiter() -> None:
    for end in range(len(WHOLE)):
        assert refusal(WHOLE[:end]) == "mime.truncated", end


def test_refuses_our_own_message_at_every_truncation() -> None:
    assertion = b'<EncryptedAssertion xmlns="urn:oasis:names:tc:SAML:2.0:assertion"/>'
    message = sealed(content=b"\x1f\x8b" * 30, assertion=assertion)
    body = message.body()
    content_type = message.multipart.content_type
    closing = b"--=_n1--"
    assert body.endswith(closing + b"\r\n")
    for end in range(len(body) - 2):
        with pytest.raises(MimeError) as caught:
            read(body[:end], content_type)
        assert caught.value.code == "mime.truncated"
    # The line break after the closing delimiter is not part of the message (RFC 2046, 5.1.1): nothing is missing.
    for end in range(len(body) - 2, len(body) + 1):
        assert read(body[:end], content_type) == Package(message.envelope.soap, message.attachments)


UGLY = {
    "preamble": b"This is a MIME message.\r\n\r\n--b1 is not it\r\n" + WHOLE,
    "preamble that mentions the boundary": b"see --b1\r\n" + WHOLE,
    "leading line break": b"\r\n" + WHOLE,
    "epilogue": WHOLE + b"\r\n--b1\r\nnot a part\r\n\r\n--b1--\r\n",
    "epilogue of blanks": WHOLE + b" \t\r\n \r\n",
    "final line break": WHOLE + b"\r\n",
    "final carriage return": WHOLE + b"\r",
    "padding after delimiters": WHOLE.replace(b"--b1\r\n", b"--b1 \t \r\n"),
    "folded headers": WHOLE.replace(b": ", b":\r\n\t "),
    "header names in capitals": WHOLE.replace(b"Content-ID", b"CONTENT-ID"),
    "blank before a colon": WHOLE.replace(b"Content-ID:", b"Content-ID :"),
    "no blanks in headers": WHOLE.replace(b": ", b":"),
    "ids without brackets": WHOLE.replace(b"<root>", b"root").replace(b"<part>", b"part"),
    "unknown headers": WHOLE.replace(b"Content-ID", b"X-Trace: \xff\xfe\r\nX-Trace: again\r\nContent-ID"),
    "encoding in capitals": WHOLE.replace(b"binary", b" BINARY "),
    "attachment before the root": b"--b1\r\nContent-ID: <part>\r\nContent-Type: application/gzip\r\n\r\n"
    + GZIP
    + b"\r\n--b1\r\nContent-ID: <root>\r\n\r\n"
    + ROOT
    + b"\r\n--b1--\r\n",
}


@pytest.mark.parametrize("body", UGLY.values(), ids=UGLY.keys())
@pytest.mark.parametrize("step", [1, 3, 11, 10**9])
def test_reads_an_ugly_message(body: bytes, step: int) -> None:
    assert read(body, step=step) == READ


@pytest.mark.parametrize("step", [1, 3, 11, 10**9])
def test_reads_a_message_with_bare_line_feeds_and_keeps_a_carriage_return_at_the_end_of_a_part(step: int) -> None:
    assert read(line_feeds(WHOLE), step=step).attachments[0].content == b"\x1f\x8b\r"


@pytest.mark.parametrize(
    "content_type",
    [
        "multipart/related; boundary=b1; start=root",
        "multipart/related;boundary=b1;start=<root>",
        'Multipart/Related ; BOUNDARY="b1" ; start="<root>"; start-info="application/soap+xml; action=\\"x\\""',
        'multipart/related; charset=UTF-8; boundary="b1"',
        'multipart/related;\r\n\tboundary="b1";\r\n type="text/xml"',
        'multipart/mixed; boundary="b1"',
        'multipart/related; type="a; boundary=b2; \\"c"; boundary=b1; boundary=b2',
        'multipart/related; ; nonsense; boundary="\\b1"',
    ],
)
def test_reads_the_content_type_in_every_style(content_type: str) -> None:
    assert read(WHOLE, content_type) == READ


@pytest.mark.parametrize("boundary", ["----=_Part_1_2.3", "MIMEBoundary'()+_,-./:=?", "a b", "x" * 70, "uuid:1--"])
def test_reads_boundaries_of_every_character_that_is_allowed(boundary: str) -> None:
    body = WHOLE.replace(b"b1", boundary.encode())
    gzip = GZIP.replace(b"b1", boundary.encode())
    read_back = read(body, f'multipart/related; boundary="{boundary}"', step=5)
    assert read_back == Package(ROOT, (Attachment("part", "application/gzip", gzip),))


def test_a_longer_line_that_begins_with_the_delimiter_is_content() -> None:
    body = b"--b1\r\n\r\none\r\n--b1-\r\n--b12\r\n--b1--x\r\n--b1 -\r\ntwo\r\n--b1--\r\n"
    for step in (1, 2, 10**9):
        assert read(body, "multipart/related; boundary=b1", step=step).root == (
            b"one\r\n--b1-\r\n--b12\r\n--b1--x\r\n--b1 -\r\ntwo"
        )


@pytest.mark.parametrize("step", [1, 2, 10**9])
def test_a_part_may_be_empty_with_or_without_a_line_of_its_own(step: int) -> None:
    body = b"--b1\r\nContent-ID: <root>\r\n\r\n--b1\r\nContent-ID: <x>\r\n\r\n\r\n--b1\r\n\r\n\r\n--b1--"
    empty = (Attachment("x", "text/plain", b""), Attachment(None, "text/plain", b""))
    assert read(body, step=step) == Package(b"", empty)


def test_takes_transfer_encodings_off() -> None:
    encoded = base64.encodebytes(GZIP * 9).replace(b"\n", b"\r\n")
    body = WHOLE.replace(GZIP, encoded).replace(b"binary", b"Base64")
    body = body.replace(b"<root>", b"<root>\r\nContent-Transfer-Encoding: quoted-printable")
    body = body.replace(ROOT, b"<Envelope=\r\n/>")
    assert read(body) == Package(ROOT, (Attachment("part", "application/gzip", GZIP * 9),))


def test_a_body_that_is_not_multipart_is_the_root() -> None:
    assert read(ROOT, "application/soap+xml; charset=UTF-8", step=3) == Package(ROOT)
    assert read(b"", "") == Package(b"")
    assert refusal(ROOT, "application/soap+xml", Bounds(part_bytes=len(ROOT) - 1)) == "mime.part-size"


@pytest.mark.parametrize(
    ("content_type", "code"),
    [
        ("multipart/related", "mime.boundary"),
        ('multipart/related; boundary=""', "mime.boundary"),
        ('multipart/related; boundary="é"', "mime.boundary"),
        (f'multipart/related; boundary="{"x" * 71}"', "mime.boundary"),
        ('multipart/related; boundary="b2"', "mime.truncated"),
        ('multipart/related; boundary="b1"; start="<other>"', "mime.root"),
    ],
)
def test_refuses_a_content_type_that_does_not_fit(content_type: str, code: str) -> None:
    assert refusal(WHOLE, content_type) == code


DAMAGED = {
    "nothing": (b"", "mime.truncated"),
    "no part": (b"--b1--\r\n", "mime.empty"),
    "no part, no line break": (b"--b1--", "mime.empty"),
    "delimiters that end in line feeds only": (
        WHOLE.replace(GZIP, b"x").replace(b"\r\n--b1", b"\n--b1"),
        "mime.truncated",
    ),
    "two parts with one id": (WHOLE.replace(b"<part>", b"<root>"), "mime.duplicate-id"),
    "two parts with one id, once without brackets": (WHOLE.replace(b"<part>", b"root"), "mime.duplicate-id"),
    "two ids on one part": (WHOLE.replace(b"<part>", b"<part>\r\nContent-Id: <x>"), "mime.header"),
    "two encodings": (
        WHOLE.replace(b"<part>", b"<part>\r\nContent-Transfer-Encoding: base64"),
        "mime.header",
    ),
    "a line that is no header": (WHOLE.replace(b"Content-ID", b"Content ID"), "mime.header"),
    "a line without a colon": (WHOLE.replace(b"Content-ID", b"nonsense\r\nContent-ID"), "mime.header"),
    "an unknown encoding": (WHOLE.replace(b"binary", b"x-gzip64"), "mime.encoding"),
    "damaged base64": (WHOLE.replace(b"binary", b"base64"), "mime.encoding"),
    "a header without end": (b"--b1\r\nX: " + b"x" * 20_000 + b"\r\n\r\n\r\n--b1--", "mime.header-size"),
    "a preamble without end": (b"x" * 20_000 + b"\r\n" + WHOLE, "mime.header-size"),
    "a padding without end": (WHOLE.replace(b"--b1--", b"--b1--" + b" " * 300 + b"x"), "mime.truncated"),
}


@pytest.mark.parametrize(("body", "code"), DAMAGED.values(), ids=DAMAGED.keys())
def test_refuses_a_damaged_message(body: bytes, code: str) -> None:
    assert refusal(body) == code


def test_refuses_too_many_parts_and_parts_too_large_while_they_arrive() -> None:
    assert read(WHOLE, bounds=Bounds(parts=2, part_bytes=len(GZIP))) == READ
    assert refusal(WHOLE, bounds=Bounds(parts=1)) == "mime.parts"
    assert refusal(WHOLE, bounds=Bounds(part_bytes=len(GZIP) - 1)) == "mime.part-size"
    reader = RelatedReader(TYPE, Bounds(part_bytes=1_000))
    reader.feed(b"--b1\r\n\r\n")
    for _ in range(10):
        reader.feed(b"x" * 100)
    with pytest.raises(MimeError, match="1000 bytes"):
        reader.feed(b"x" * 100)


def test_what_is_streamed_is_not_kept() -> None:
    reader = RelatedReader(TYPE)
    reader.feed(b"--b1\r\n\r\n")
    for _ in range(100):
        reader.feed(b"\r\n--b" * 1_000)
        assert len(reader._buffer) < 100


@settings(deadline=None)
@given(st.lists(st.binary(max_size=60), min_size=1, max_size=4), st.integers(1, 30), st.booleans())
def test_any_content_survives_in_pieces_of_any_size(contents: list[bytes], step: int, bare: bool) -> None:
    line_break = b"\n" if bare else b"\r\n"
    body = b"".join(
        b"--b1" + line_break + b"Content-ID: <%d>" % number + line_break * 2 + content + line_break
        for number, content in enumerate(contents)
    )
    if any(b"\n--b1" in b"\n" + content for content in contents):
        return
    package = read(body + b"--b1--", "multipart/related; boundary=b1", step=step)
    assert [package.root, *(part.content for part in package.attachments)] == contents


def test_reads_what_another_library_writes() -> None:
    """The standard library's writer, with its own ideas of folding and quoting."""
    outer = MIMEMultipart("related", boundary="===============1234567890==", start="<root@example.test>")
    root = MIMENonMultipart("application", "soap+xml", charset="utf-8")
    root["Content-ID"] = "<root@example.test>"
    root.set_payload("<Envelope/>")
    part = EmailMessage()
    part.set_content(GZIP * 50, "application", "gzip", cid="<part@example.test>")
    outer.attach(root)
    outer.attach(part)
    header, _, body = outer.as_bytes(policy=email.policy.SMTP).partition(b"\r\n\r\n")
    content_type = header.decode().partition("Content-Type: ")[2].partition("\r\nMIME-Version")[0]
    assert read(body, content_type, step=17) == Package(
        b"<Envelope/>", (Attachment("part@example.test", "application/gzip", GZIP * 50),)
    )


def test_the_root_part_alone_is_found_in_a_large_body() -> None:
    large = WHOLE.replace(GZIP, bytes(300_000))
    assert root_part(TYPE, large) == ROOT


HEADER_PIECES = st.sampled_from(
    (
        "boundary=",
        "b1",
        '"',
        "boundary*=",
        "utf-8''b1",
        "boundary*0=",
        "*1*=",
        "\\",
        "\r\n",
        ";",
        "start=",
        "<",
        "é",
        "\0",
        " ",
    )
)


@settings(deadline=None)
@given(st.lists(HEADER_PIECES, max_size=9), st.lists(HEADER_PIECES, max_size=9))
def test_no_header_breaks_the_reader(content_type: list[str], header: list[str]) -> None:
    part = b"--b1\r\nContent-Type: " + "".join(header).encode() + b"\r\n\r\nx\r\n--b1--"
    for named, body in ((f"multipart/related;{''.join(content_type)}", WHOLE), ("multipart/related;boundary=b1", part)):
        try:
            read(body, named)
        except MimeError:
            continue


@settings(deadline=None)
@given(st.binary(max_size=200), st.integers(1, 20))
def test_noise_is_read_or_refused_but_never_breaks_the_reader(noise: bytes, step: int) -> None:
    for body in (noise, WHOLE[:60] + noise, WHOLE[:60] + noise + WHOLE[60:]):
        try:
            read(body, step=step)
        except MimeError:
            continue
