import hashlib
import os
import zlib
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest
import sqlalchemy as sa

from pipeline.ledger import artifacts
from pipeline.ledger.artifact_rows import NewEnvelope
from pipeline.ledger.session import Ledger
from pipeline.ledger.tables import artifact
from pipeline.ledger.vault import Vault
from pipeline.lodgment.errors import RefusedError
from pipeline.lodgment.lodgment import Lodgment
from tests.doubles.lodgments import NOW, a_lodgment, fresh_id
from tests.integration.ledger.samples import a_payload, on_disk

HEAD, PAYLOAD, TAIL = b"<Envelope>\xc3\xa9", b"<synthetic>tfn-not-a-real-one</synthetic>", b"</Envelope>"


def _envelope(lodgment: Lodgment, sha256: str | None = None) -> NewEnvelope:
    whole = HEAD + PAYLOAD + TAIL
    digest = sha256 or hashlib.sha256(whole).hexdigest()
    return NewEnvelope(fresh_id(), lodgment.id, lodgment.payload_id, HEAD, TAIL, digest, len(whole), NOW)


async def _store(ledger: Ledger, lodgment: Lodgment, content: bytes = PAYLOAD) -> None:
    async with ledger.transaction() as tx:
        await artifacts.add(tx, [a_payload(lodgment, content)])


async def _read(ledger: Ledger, *ids: UUID) -> dict[UUID, bytes]:
    async with ledger.transaction(read_only=True) as tx:
        return await artifacts.read(tx, ids)


@pytest.mark.parametrize("content", [b"", b"\0", PAYLOAD, os.urandom(300_000), b"<a/>" * 50_000])
async def test_gives_back_the_bytes(ledger: Ledger, content: bytes) -> None:
    lodgment = a_lodgment()
    await _store(ledger, lodgment, content)
    assert await _read(ledger, lodgment.payload_id) == {lodgment.payload_id: content}


async def test_reads_many_and_leaves_out_unknown_ones(ledger: Ledger) -> None:
    lodgments = [a_lodgment() for _ in range(60)]
    async with ledger.transaction() as tx:
        await artifacts.add(tx, [a_payload(item, str(item.id).encode()) for item in lodgments])
    found = await _read(ledger, fresh_id(), *(item.payload_id for item in lodgments))
    assert found == {item.payload_id: str(item.id).encode() for item in lodgments}
    assert await _read(ledger) == {}


async def test_puts_an_envelope_together_again_around_its_payload(ledger: Ledger) -> None:
    lodgment = a_lodgment()
    envelope = _envelope(lodgment)
    async with ledger.transaction() as tx:
        await artifacts.add(tx, [a_payload(lodgment, PAYLOAD)])
        await artifacts.add_envelopes(tx, [envelope])
    async with ledger.transaction(read_only=True) as tx:
        (stored,) = (await artifacts.read_envelopes(tx, [envelope.id])).values()
        assert await artifacts.read(tx, [envelope.id]) == {}
        assert await artifacts.read_envelopes(tx, []) == {}
    assert (stored.head, stored.payload, stored.tail, stored.sha256) == (HEAD, PAYLOAD, TAIL, envelope.sha256)


async def test_keeps_a_question_that_has_no_payload_and_reads_heads_alone(ledger: Ledger) -> None:
    lodgment = a_lodgment()
    envelope = _envelope(lodgment)
    question = replace(
        envelope, id=fresh_id(), payload_id=None, tail=b"", sha256=hashlib.sha256(HEAD).hexdigest(), size=len(HEAD)
    )
    async with ledger.transaction() as tx:
        await artifacts.add(tx, [a_payload(lodgment, PAYLOAD)])
        await artifacts.add_envelopes(tx, [envelope, question])
    async with ledger.transaction(read_only=True) as tx:
        stored = (await artifacts.read_envelopes(tx, [question.id]))[question.id]
        ids = [envelope.id, question.id, lodgment.payload_id]
        assert await artifacts.read_heads(tx, ids) == {envelope.id: HEAD, question.id: HEAD}
        assert await artifacts.read_heads(tx, []) == {}
    assert (stored.head, stored.payload, stored.tail) == (HEAD, b"", b"")


async def test_stores_the_payload_once_however_many_envelopes_there_are(ledger: Ledger) -> None:
    lodgment, content = a_lodgment(), os.urandom(50_000)
    await _store(ledger, lodgment, content)
    async with ledger.transaction() as tx:
        await artifacts.add_envelopes(tx, [_envelope(lodgment) for _ in range(5)])
        stored = (await tx.connection.execute(sa.select(sa.func.sum(sa.func.length(artifact.c.content))))).scalar_one()
    assert stored < 52_000


async def test_refuses_an_envelope_whose_bytes_are_not_those_that_were_hashed(ledger: Ledger) -> None:
    lodgment = a_lodgment()
    envelope = _envelope(lodgment, sha256="0" * 64)
    async with ledger.transaction() as tx:
        await artifacts.add(tx, [a_payload(lodgment, PAYLOAD)])
        await artifacts.add_envelopes(tx, [envelope])
    with pytest.raises(RefusedError) as refusal:
        async with ledger.transaction(read_only=True) as tx:
            await artifacts.read_envelopes(tx, [envelope.id])
    assert refusal.value.code == "artifact.damaged"


async def test_refuses_an_artifact_whose_stored_bytes_were_changed(ledger: Ledger) -> None:
    lodgment = a_lodgment()
    await _store(ledger, lodgment)
    async with ledger.transaction() as tx:
        sealed = (await tx.connection.execute(sa.select(artifact.c.content))).scalar_one()
        await tx.connection.execute(sa.update(artifact).values(content=sealed[:-1] + bytes([sealed[-1] ^ 1])))
    with pytest.raises(RefusedError) as refusal:
        await _read(ledger, lodgment.payload_id)
    assert refusal.value.code == "vault.damaged"


async def test_refuses_two_artifacts_whose_bytes_were_swapped(ledger: Ledger) -> None:
    mine, yours = a_lodgment(), a_lodgment()
    await _store(ledger, mine, b"mine")
    await _store(ledger, yours, b"yours")
    async with ledger.transaction() as tx:
        rows = await tx.connection.execute(sa.select(artifact.c.id, artifact.c.content, artifact.c.sha256))
        (one, one_bytes, one_hash), (other, other_bytes, other_hash) = rows.all()
        for row_id, content, sha256 in ((one, other_bytes, other_hash), (other, one_bytes, one_hash)):
            swapped = sa.update(artifact).where(artifact.c.id == row_id).values(content=content, sha256=sha256)
            await tx.connection.execute(swapped)
    with pytest.raises(RefusedError) as refusal:
        await _read(ledger, mine.payload_id)
    assert refusal.value.code == "vault.damaged"


async def test_refuses_what_was_sealed_for_it_but_has_another_hash(ledger: Ledger, vault: Vault) -> None:
    lodgment = a_lodgment()
    await _store(ledger, lodgment)
    forged = vault.seal(zlib.compress(b"another document"), b"artifact " + lodgment.payload_id.bytes)
    async with ledger.transaction() as tx:
        await tx.connection.execute(sa.update(artifact).values(content=forged))
    with pytest.raises(RefusedError) as refusal:
        await _read(ledger, lodgment.payload_id)
    assert refusal.value.code == "artifact.damaged"


async def test_leaves_no_document_readable_in_the_database_file(sqlite_ledger: Ledger, tmp_path: Path) -> None:
    lodgment = a_lodgment()
    async with sqlite_ledger.transaction() as tx:
        await artifacts.add(tx, [a_payload(lodgment, PAYLOAD)])
        await artifacts.add_envelopes(tx, [_envelope(lodgment)])
    await sqlite_ledger.close()
    files = on_disk(tmp_path)
    assert lodgment.payload_id.bytes.hex()[:8].encode() in files
    for secret in (b"tfn-not-a-real-one", b"<Envelope>", zlib.compress(PAYLOAD, 1)):
        assert secret not in files


async def test_reads_the_oldest_that_fit_and_one_beyond(ledger: Ledger) -> None:
    lodgments = sorted((a_lodgment() for _ in range(4)), key=lambda item: item.payload_id)
    async with ledger.transaction() as tx:
        await artifacts.add(tx, [a_payload(item, b"x" * 10) for item in lodgments])
    ids = [item.payload_id for item in lodgments]
    for at_once, number in ((1, 1), (10, 1), (11, 2), (30, 3), (31, 4), (1000, 4)):
        async with ledger.transaction(read_only=True) as tx:
            found = await artifacts.read_portion(tx, [*ids, fresh_id()], at_once)
        assert found == dict.fromkeys(ids[:number], b"x" * 10)
    async with ledger.transaction(read_only=True) as tx:
        assert await artifacts.read_portion(tx, []) == {}
