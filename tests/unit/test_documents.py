"""Documents by reference: read once, in pieces, and held to what the job promised of them."""

import hashlib
from pathlib import Path

import pytest

from pipeline.gateway.documents import DocumentStore
from pipeline.lodgment.job import JobRefusedError, Payload

CONTENT = b"<synthetic/>" * 60_000
LIMIT = 1_000_000


def promised(path: Path, content: bytes = CONTENT) -> Payload:
    return Payload(reference=path.as_uri(), size=len(content), sha256=hashlib.sha256(content).hexdigest())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "document.xml"
    path.write_bytes(CONTENT)
    return path


def test_gives_a_document_in_pieces_and_its_digest_once_it_was_read(path: Path) -> None:
    with DocumentStore([path.parent], LIMIT).open(promised(path)) as document:
        pieces = list(document.pieces())
        assert document.checked() == hashlib.sha256(CONTENT).hexdigest()
    assert len(pieces) > 1
    assert b"".join(pieces) == CONTENT


def test_reads_the_rest_before_it_judges_the_promise(path: Path) -> None:
    with DocumentStore([path.parent], LIMIT).open(promised(path)) as document:
        next(document.pieces())
        assert document.checked() == hashlib.sha256(CONTENT).hexdigest()


@pytest.mark.parametrize("now_there", [CONTENT + b"x", CONTENT[:-1], CONTENT[:-1] + b"?"])
def test_refuses_a_document_that_is_not_what_was_promised(path: Path, now_there: bytes) -> None:
    job_says = promised(path)
    path.write_bytes(now_there)
    with DocumentStore([path.parent], LIMIT).open(job_says) as document:
        document.read()
        with pytest.raises(JobRefusedError) as refusal:
            document.checked()
    assert refusal.value.code == "payload.promise"


def test_refuses_a_document_that_grows_beyond_the_limit_while_it_is_read(path: Path) -> None:
    with DocumentStore([path.parent], LIMIT).open(promised(path)) as document:
        with path.open("ab") as file:
            file.write(b"x" * LIMIT)
        with pytest.raises(JobRefusedError) as refusal:
            document.read()
    assert refusal.value.code == "payload.size"


def test_refuses_a_document_that_is_too_large_unread(path: Path) -> None:
    store = DocumentStore([path.parent], 1000)
    with pytest.raises(JobRefusedError) as refusal, store.open(promised(path)):
        pass
    assert refusal.value.code == "payload.size"
