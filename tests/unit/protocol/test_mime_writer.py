"""Multipart messages around payloads that are never held: the bytes, their length, and the memory they take."""

import email
import email.policy
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.protocol.mime import Attachment, Package, read_package
from pipeline.protocol.mime_reader import MimeError
from pipeline.protocol.mime_writer import AttachmentHead, cid_url, content_id_of, multipart_related

HEAD = AttachmentHead("part@example.test", "application/gzip", 5)
PEAK = """
import hashlib, resource, sys
from pathlib import Path
from pipeline.protocol.ebms3_payloads import payloads
from pipeline.protocol.gzip_stream import Compression, inflate
from pipeline.protocol.mime import read_package
from pipeline.protocol.mime_writer import AttachmentHead, multipart_related
from tests.doubles.as4 import CONTENT_ID, NOW, push, sealed

def peak():
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) * 1024

def payees(number):
    for one in range(number):
        amounts = "".join(f"<GrossA>{one * place % 9_999_991}</GrossA>" for place in range(130))
        yield f'<Record_Delimiter DocumentID="1.{one}"/><PAYEVNTEMP>{amounts}</PAYEVNTEMP>'.encode()

def in_pieces(path):
    with path.open("rb") as file:
        while piece := file.read(65_536):
            yield piece

folder, number = Path(sys.argv[1]), int(sys.argv[2])
sealed().verify()
b"".join(Compression(payees(20)))
before = peak()
compression = Compression(payees(number))
stored = folder / "payload.gz"
with stored.open("wb") as file:
    file.writelines(compression)
stored_peak = peak()
measure = compression.compressed
head = AttachmentHead(CONTENT_ID, "application/gzip", measure.size)
message = multipart_related(sealed().envelope.soap, "root@example.test", [head], "=_n1")
sent = folder / "sent"
with sent.open("wb") as file:
    file.writelines(message.stream(in_pieces(stored)))
written_peak = peak()
package = read_package(message.content_type, in_pieces(sent))
digest = hashlib.sha256()
for piece in payloads(push(), package.attachments)[0].document(10**9):
    digest.update(piece)
read_peak = peak()
assert sent.stat().st_size == message.content_length
assert digest.digest() == compression.raw.sha256
print(compression.raw.size, measure.size, before, stored_peak, written_peak, read_peak)
"""


def written(content: bytes = b"12345", boundary: str = "=_b") -> tuple[str, bytes]:
    message = multipart_related(b"<Envelope/>", "root@example.test", [HEAD], boundary)
    body = b"".join(message.stream((content[:2], content[2:])))
    assert len(body) == message.content_length
    return message.content_type, body


def test_writes_each_byte_as_the_packaging_rules_have_it() -> None:
    content_type, body = written()
    assert content_type == (
        'multipart/related; boundary="=_b"; type="application/soap+xml"; start="<root@example.test>"'
    )
    assert body == (
        b"--=_b\r\n"
        b"Content-Type: application/soap+xml; charset=UTF-8\r\n"
        b"Content-Transfer-Encoding: binary\r\n"
        b"Content-ID: <root@example.test>\r\n\r\n"
        b"<Envelope/>\r\n"
        b"--=_b\r\n"
        b"Content-Type: application/gzip\r\n"
        b"Content-Transfer-Encoding: binary\r\n"
        b"Content-ID: <part@example.test>\r\n\r\n"
        b"12345\r\n"
        b"--=_b--\r\n"
    )


@pytest.mark.parametrize("boundary", ["=_b", "a b", "uuid:1", "'()+_,-./:=?", "x" * 70])
def test_another_library_reads_what_is_written(boundary: str) -> None:
    content_type, body = written(b"\x1f\x8b\0\r\n", boundary)
    header = f"Content-Type: {content_type}\r\n\r\n".encode()
    root, part = email.message_from_bytes(header + body, policy=email.policy.HTTP).iter_parts()
    assert root.get_payload(decode=True) == b"<Envelope/>"
    assert (part["Content-ID"], part.get_content_type()) == ("<part@example.test>", "application/gzip")
    assert part.get_payload(decode=True) == b"\x1f\x8b\0\r\n"


def test_writes_no_attachment_and_several() -> None:
    alone = multipart_related(b"<Envelope/>", "root", [], "b")
    assert read_package(alone.content_type, alone.stream()) == Package(b"<Envelope/>")
    heads = [AttachmentHead(f"part-{number}", "application/gzip", number) for number in range(3)]
    several = multipart_related(b"<Envelope/>", "root", heads, "b")
    contents = [b"x" * number for number in range(3)]
    body = b"".join(several.stream(*([content] for content in contents)))
    attachments = tuple(Attachment(head.content_id, head.media_type, b"x" * head.size) for head in heads)
    assert read_package(several.content_type, [body]) == Package(b"<Envelope/>", attachments)
    assert several.content_length == len(body)


@pytest.mark.parametrize("content", [b"1234", b"123456", b""])
def test_a_payload_of_another_size_than_announced_stops_the_message(content: bytes) -> None:
    with pytest.raises(MimeError) as caught:
        written(content)
    assert caught.value.code == "mime.size"


@pytest.mark.parametrize("boundary", ["", " ", "a ", "x" * 71, 'a"b', "é", "a\r\nb", "a\\b", "a;b"])
def test_refuses_a_boundary_that_is_none(boundary: str) -> None:
    with pytest.raises(MimeError) as caught:
        written(boundary=boundary)
    assert caught.value.code == "mime.boundary"


def test_refuses_a_boundary_that_stands_in_the_envelope() -> None:
    with pytest.raises(MimeError, match="stands in the envelope"):
        multipart_related(b"<Envelope>--b1</Envelope>", "root", [], "b1")


@pytest.mark.parametrize("content_id", ["", "a b", "<a>", "a\r\nX: y", "é", "a%b", "root@example.test"])
def test_refuses_a_content_id_that_cannot_be_written_or_is_taken(content_id: str) -> None:
    head = AttachmentHead(content_id, "application/gzip", 1)
    with pytest.raises(MimeError) as caught:
        multipart_related(b"<Envelope/>", "root@example.test", [head], "b")
    assert caught.value.code == "mime.content-id"


def test_refuses_a_media_type_that_would_add_a_header() -> None:
    head = AttachmentHead("part", "text/plain\r\nX: y", 1)
    with pytest.raises(MimeError) as caught:
        multipart_related(b"<Envelope/>", "root", [head], "b")
    assert caught.value.code == "mime.header"


def test_a_cid_url_leads_to_its_part_however_it_is_written() -> None:
    assert cid_url("part-1@example.test") == "cid:part-1@example.test"
    for url in ("cid:part-1@example.test", "CID:part-1%40example.test", "cid:%3Cpart-1@example.test%3E"):
        assert content_id_of(url) == "part-1@example.test"
    assert content_id_of("#part") is None
    assert content_id_of("https://example.test/cid:part") is None
    assert content_id_of("cid") is None


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
def test_a_document_of_60_megabytes_passes_through_gzip_and_multipart_without_ever_being_held(tmp_path: Path) -> None:
    """Writing takes less than half of the compressed payload; reading holds that payload twice, while it is joined."""
    run = subprocess.run(
        [sys.executable, "-c", PEAK, str(tmp_path), "20000"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(["."])},
        check=True,
        capture_output=True,
        text=True,
    )
    raw, compressed, before, stored, written_, read = map(int, run.stdout.split())
    assert raw > 55_000_000
    assert written_ - before < compressed / 2
    assert stored <= written_
    assert read - before < 2.5 * compressed
