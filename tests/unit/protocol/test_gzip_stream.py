"""gzip written the same to the byte every time, and read with a bound while it is inflated."""

import gzip
import hashlib
import itertools
import tracemalloc
import zlib
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.protocol.gzip_stream import MEMBER_LIMIT, PIECE, Compression, GzipError, Measure, inflate

LIMIT = 10 * PIECE


def compressed(*pieces: bytes) -> bytes:
    return b"".join(Compression(pieces))


def inflated(content: bytes, limit: int = LIMIT, step: int = 1000) -> bytes:
    return b"".join(inflate(chunked(content, step), limit))


def chunked(content: bytes, step: int) -> Iterable[bytes]:
    return (content[start : start + step] for start in range(0, len(content), step))


def refusal(content: bytes, limit: int = LIMIT, step: int = 1000) -> str:
    with pytest.raises(GzipError) as caught:
        inflated(content, limit, step)
    return caught.value.code


def numbered(size: int) -> bytes:
    """Text that compresses, but not to nothing."""
    return b"".join(f"<payee>{number * number}</payee>".encode() for number in range(size // 20))[:size]


@settings(deadline=None)
@given(st.lists(st.binary(max_size=PIECE // 8), max_size=20), st.integers(1, 3 * PIECE))
def test_the_chunks_in_which_a_document_comes_leave_no_trace(pieces: list[bytes], step: int) -> None:
    document = b"".join(pieces)
    assert compressed(*pieces) == compressed(document) == compressed(*chunked(document, step))


def test_long_documents_leave_no_trace_of_their_chunks_either() -> None:
    document = numbered(5 * PIECE + 17)
    assert len({compressed(*chunked(document, step)) for step in (1_000, PIECE - 1, PIECE, PIECE + 1, 10**6)}) == 1


def test_the_header_names_no_time_no_file_and_no_system() -> None:
    assert compressed(b"")[:10].hex(" ") == "1f 8b 08 00 00 00 00 00 00 ff"


@pytest.mark.parametrize("document", [b"", b"x", numbered(PIECE), numbered(3 * PIECE + 1)])
def test_other_readers_read_what_is_written_and_both_measures_are_of_those_bytes(document: bytes) -> None:
    compression = Compression(chunked(document, 999))
    content = b"".join(compression)
    assert gzip.decompress(content) == document
    assert compression.raw == Measure(len(document), hashlib.sha256(document).digest())
    assert compression.compressed == Measure(len(content), hashlib.sha256(content).digest())


def test_nothing_is_measured_before_the_document_has_passed() -> None:
    compression = Compression((b"one", b"two"))
    next(iter(compression))
    with pytest.raises(RuntimeError, match="once it has passed"):
        _ = compression.compressed


@settings(deadline=None)
@given(st.binary(max_size=3_000), st.integers(1, 500))
def test_reads_what_was_written_in_chunks_of_any_size(document: bytes, step: int) -> None:
    assert inflated(compressed(document), step=step) == document
    assert inflated(gzip.compress(document), step=step) == document


@pytest.mark.parametrize("step", [1, 7, 10**9])
def test_several_members_are_one_document(step: int) -> None:
    assert inflated(
        compressed(b"one,") + gzip.compress(b"two,") + compressed(b"") + compressed(b"three"), step=step
    ) == (b"one,two,three")


def test_a_document_of_exactly_the_limit_is_read_and_one_byte_more_is_not() -> None:
    document = numbered(3 * PIECE)
    assert inflated(compressed(document), len(document)) == document
    assert refusal(compressed(document), len(document) - 1) == "gzip.size"


@pytest.mark.parametrize("step", [13, 10**9])
def test_a_bomb_is_refused_while_it_inflates(step: int) -> None:
    bomb = gzip.compress(bytes(50 * 1024 * 1024), 9)
    tracemalloc.start()
    try:
        assert refusal(bomb, 1024 * 1024, step) == "gzip.size"
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 3 * 1024 * 1024 + len(bomb)


def test_a_bomb_in_many_members_is_refused_too() -> None:
    assert refusal(gzip.compress(bytes(PIECE)) * 20, LIMIT) == "gzip.size"


def test_members_without_content_are_counted() -> None:
    assert refusal(compressed(b"") * (MEMBER_LIMIT + 1)) == "gzip.members"


def test_every_truncation_is_noticed() -> None:
    content = compressed(numbered(2_000))
    for end in range(len(content)):
        assert refusal(content[:end]) == "gzip.truncated"


@pytest.mark.parametrize("step", [1, 10**9])
@pytest.mark.parametrize("rest", [b"\0\0", b"\r\n", b"trailing", b"\x1f\x00"])
def test_bytes_after_the_last_member_are_refused(rest: bytes, step: int) -> None:
    assert refusal(compressed(b"document") + rest, step=step) == "gzip.trailing"


def test_a_changed_byte_anywhere_is_noticed() -> None:
    content = compressed(numbered(300))
    # Bytes 4 to 9 say when, how hard and on which system: no reader checks them.
    for place in itertools.chain(range(4), range(10, len(content))):
        changed = bytearray(content)
        changed[place] ^= 0x40
        assert refusal(bytes(changed)) in {"gzip.damaged", "gzip.truncated", "gzip.trailing"}, place


def test_what_is_no_gzip_at_all_is_damaged() -> None:
    assert refusal(b"<?xml version='1.0'?>") == "gzip.damaged"
    assert refusal(zlib.compress(b"zlib, not gzip")) == "gzip.damaged"
    assert refusal(b"") == "gzip.truncated"
