"""A large document stands in a worker's memory about once, whatever is done to it."""

import hashlib
import random
import tracemalloc
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from uuid import UUID

import pytest

from pipeline.ledger.document_form import Unpacking, packed_pieces
from pipeline.ledger.vault import Vault
from pipeline.lodgment.job import read_job
from pipeline.protocol.gzip_stream import Compression, inflate
from pipeline.sandbox.pay_run import Employer, PayRun, event_documents
from tests.doubles.pay_jobs import pay_job
from tests.doubles.sbr2 import make_channel

SIZE = 10_000_000
NOW = datetime(2026, 11, 25, 3, 0, tzinfo=UTC)
ROW = UUID(int=1)


def peak_of(work: Callable[[], object]) -> int:
    """Bytes that it had in hand at its most, beyond what was there before."""
    tracemalloc.start()
    try:
        kept = work()
        assert kept
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.fixture(scope="module")
def compressed() -> bytes:
    """Nothing makes it smaller, like the attachment of a pay event."""
    return random.Random(1).randbytes(SIZE)  # noqa: S311  - a document, not a secret


def test_it_is_packed_and_unpacked_in_a_fraction_of_its_size(compressed: bytes) -> None:
    vault, size = Vault([bytes(32)]), 0

    def through() -> int:
        nonlocal size
        unpacking = Unpacking(vault, ROW, hashlib.sha256(compressed).hexdigest())
        for stored in packed_pieces(vault, ROW, compressed):
            size += sum(map(len, unpacking.feed(stored)))
        unpacking.finish()
        return size

    assert peak_of(through) < 0.2 * SIZE
    assert size == SIZE


def test_gzip_that_comes_in_one_is_inflated_without_a_copy_of_what_is_left(compressed: bytes) -> None:
    content = b"".join(Compression((compressed,)))
    assert peak_of(lambda: sum(map(len, inflate((content,), SIZE)))) < 0.1 * SIZE


class _Streamed:
    """A pay event of this size that is written while it is read."""

    def __init__(self, payees: int) -> None:
        self.run = PayRun(Employer(7, payees), "SYN-7", NOW, full=True)
        self.size = 0

    def pieces(self) -> Iterator[bytes]:
        for piece in event_documents(self.run):
            self.size += len(piece)
            yield piece

    def read(self) -> bytes:
        raise AssertionError("a large document is not read whole")


def test_a_pay_event_is_checked_and_compressed_in_a_fraction_of_its_size() -> None:
    document = _Streamed(2_450)
    job = read_job(pay_job("one", employer={"abn": document.run.employer.abn}))
    channel = make_channel()
    peak = peak_of(lambda: channel.prepare(job, document, NOW).content)
    assert document.size > SIZE
    assert peak < 0.35 * document.size
