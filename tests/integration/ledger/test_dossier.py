"""All that is kept of one lodgment, read on both databases; and evidence made of it, the same to the byte."""

import hashlib
import io
import tracemalloc
import zipfile
from collections.abc import AsyncIterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import sqlalchemy as sa

from pipeline.evidence.packing import Terms, pack
from pipeline.ledger import artifacts, attempts, lodgments
from pipeline.ledger.artifact_rows import NewArtifact, NewEnvelope
from pipeline.ledger.dossier import Dossier, dossier, open_document, open_envelope
from pipeline.ledger.session import Ledger, Tx
from pipeline.ledger.tables import ArtifactKind, artifact
from pipeline.lodgment.errors import RefusedError
from pipeline.lodgment.lodgment import Lodgment
from tests.doubles.kept_lodgments import KNOWN, LATER, PROOF_KEY, UNHEARD_OF, keep_business_name, keep_pay_event
from tests.doubles.lodgments import NOW, a_lodgment, fresh_id
from tests.integration.ledger.samples import an_attempt, new


async def _dossier(tx: Tx, row: Lodgment) -> Dossier:
    found = await dossier(tx, row.id)
    assert found is not None
    return found


@pytest.fixture
async def tx(ledger: Ledger) -> AsyncIterator[Tx]:
    async with ledger.transaction() as opened:
        yield opened


async def test_everything_that_belongs_to_a_lodgment_is_in_its_dossier(tx: Tx) -> None:
    row = await keep_pay_event(tx)
    await keep_business_name(tx)
    book = await _dossier(tx, row)
    assert book.lodgment == row
    assert [one.number for one in book.attempts] == [1, 2, 3]
    assert [(one.event, one.recorded_at) for one in book.events] == [(KNOWN, LATER), (UNHEARD_OF, LATER)]
    assert [one.action for one in book.actions] == ["release"]
    kinds = sorted(one.kind for one in book.documents.values())
    assert kinds == ["envelope", "envelope", "payload", "reply", "reply"]
    assert await dossier(tx, fresh_id()) is None


async def test_the_token_is_told_by_its_names_and_never_by_its_secrets(tx: Tx) -> None:
    book = await _dossier(tx, await keep_business_name(tx))
    assert book.token is not None
    assert (book.token.environment, book.token.assertion_id) == ("sandbox", "_synthetic")
    assert not {"assertion", "proof_key"} & set(asdict(book.token))
    assert PROOF_KEY not in repr(book).encode()


async def test_documents_come_as_streams_that_are_what_was_stored(tx: Tx) -> None:
    book = await _dossier(tx, await keep_pay_event(tx))
    for key, document in book.documents.items():
        if document.kind == ArtifactKind.ENVELOPE:
            whole = (await artifacts.read_envelopes(tx, [key]))[key]
            stored = whole.head + whole.payload + whole.tail
            read = b"".join((await open_envelope(tx, document)).pieces())
        else:
            stored = (await artifacts.read(tx, [key]))[key]
            read = b"".join(await open_document(tx, document))
        assert read == stored
        assert (hashlib.sha256(read).hexdigest(), len(read)) == (document.sha256, document.size)


async def test_a_document_that_is_not_what_was_stored_is_told_before_its_stream_ends(tx: Tx) -> None:
    book = await _dossier(tx, await keep_pay_event(tx))
    for document in book.documents.values():
        wrong = replace(document, sha256="0" * 64)
        is_envelope = document.kind == ArtifactKind.ENVELOPE
        stream = (await open_envelope(tx, wrong)).pieces() if is_envelope else await open_document(tx, wrong)
        with pytest.raises(RefusedError) as refused:
            list(stream)
        assert refused.value.code == "artifact.damaged"


async def test_a_document_that_the_ledger_has_no_more_is_named(tx: Tx) -> None:
    row = await keep_pay_event(tx)
    book = await _dossier(tx, row)
    reply = next(key for key, one in book.documents.items() if one.kind == ArtifactKind.REPLY)
    await tx.connection.execute(sa.delete(artifact).where(artifact.c.id.in_([reply, row.payload_id])))
    manifest = await pack(tx, await _dossier(tx, row), io.BytesIO(), Terms())
    assert {(one.what, one.id) for one in manifest.absent} >= {("payload", str(row.payload_id)), ("reply", str(reply))}
    with pytest.raises(RefusedError, match="not in the ledger any more"):
        await open_document(tx, book.documents[row.payload_id])


async def test_the_same_ledger_gives_the_same_bytes(tx: Tx) -> None:
    for row in (await keep_pay_event(tx), await keep_business_name(tx)):
        written = []
        for _ in range(2):
            target = io.BytesIO()
            await pack(tx, await _dossier(tx, row), target, Terms())
            written.append(target.getvalue())
        assert written[0] == written[1]


async def test_nothing_secret_of_a_token_gets_into_evidence(tx: Tx) -> None:
    target = io.BytesIO()
    await pack(tx, await _dossier(tx, await keep_business_name(tx)), target, Terms())
    with zipfile.ZipFile(target) as container:
        assert all(PROOF_KEY not in container.read(name) for name in container.namelist())


async def test_a_large_envelope_is_never_in_memory_as_a_whole(sqlite_ledger: Ledger, tmp_path: Path) -> None:
    line = b"<payee><number>%08d</number><amount>%010d</amount></payee>"
    payload = b"".join(line % (number, number * 7919) for number in range(400_000))
    size = len(payload)
    row, one_try = a_lodgment(), an_attempt(a_lodgment())
    one_try = replace(one_try, lodgment_id=row.id)
    digest = hashlib.sha256(b"<e>" + payload + b"</e>").hexdigest()
    envelope = NewEnvelope(one_try.envelope_id, row.id, row.payload_id, b"<e>", b"</e>", digest, size + 7, NOW)
    async with sqlite_ledger.transaction() as tx:
        await lodgments.add(tx, new([row]))
        await attempts.add(tx, [one_try])
        await artifacts.add(tx, [NewArtifact(row.payload_id, row.id, ArtifactKind.PAYLOAD, payload, NOW)])
        await artifacts.add_envelopes(tx, [envelope])
        del payload
        book = await _dossier(tx, row)
        tracemalloc.start()
        try:
            with (tmp_path / "evidence.zip").open("w+b") as target:
                manifest = await pack(tx, book, target, Terms())
            _, most = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert {size, size + 7} <= {one.size for one in manifest.files}
    assert most < size
