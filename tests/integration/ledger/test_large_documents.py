"""Documents that are written and read in pieces: the same to the byte, and what was changed is not taken for them."""

import hashlib
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial

import pytest
import sqlalchemy as sa

from pipeline.ledger import artifacts
from pipeline.ledger.artifact_rows import NewEnvelope
from pipeline.ledger.document_form import LARGE
from pipeline.ledger.large_documents import LargeDocument
from pipeline.ledger.session import Ledger, Tx
from pipeline.ledger.tables import artifact
from pipeline.lodgment.errors import DependencyDownError, RefusedError
from pipeline.lodgment.lodgment import Lodgment
from tests.doubles.lodgments import NOW, a_lodgment, fresh_id
from tests.integration.ledger.samples import a_payload

DENSE = random.Random(1).randbytes(3 * LARGE + 17)  # noqa: S311  - a document, not a secret
THIN = b"<synthetic/>" * 400_000
HEAD, TAIL = b"<head>", b"</tail>"


async def _stored(ledger: Ledger, content: bytes) -> tuple[Lodgment, LargeDocument]:
    lodgment = a_lodgment()
    async with ledger.transaction() as tx:
        await artifacts.add(tx, [a_payload(a_lodgment(), b"small"), a_payload(lodgment, content)])
    async with ledger.transaction(read_only=True) as tx:
        found = (await artifacts.look_portion(tx, [lodgment.payload_id]))[lodgment.payload_id]
    assert isinstance(found, LargeDocument)
    return lodgment, found


async def _enveloped(ledger: Ledger, lodgment: Lodgment, sha256: str) -> NewEnvelope:
    size = len(HEAD + DENSE + TAIL)
    envelope = NewEnvelope(fresh_id(), lodgment.id, lodgment.payload_id, HEAD, TAIL, sha256, size, NOW)
    async with ledger.transaction() as tx:
        await artifacts.add_envelopes(tx, [envelope])
    return envelope


@pytest.mark.parametrize("content", [DENSE, DENSE[: LARGE + 1], THIN], ids=["dense", "just-large", "thin"])
async def test_come_back_to_the_byte_in_one_and_in_pieces(ledger: Ledger, content: bytes) -> None:
    lodgment, document = await _stored(ledger, content)
    assert (document.size, document.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    pieces = [piece async for piece in document.pieces(partial(ledger.transaction, read_only=True))]
    assert b"".join(pieces) == content
    assert max(map(len, pieces)) <= LARGE
    async with ledger.transaction(read_only=True) as tx:
        assert await artifacts.read(tx, [lodgment.payload_id]) == {lodgment.payload_id: content}
        assert await artifacts.read_portion(tx, [lodgment.payload_id]) == {lodgment.payload_id: content}


async def test_keep_no_transaction_open_while_somebody_is_busy_with_a_piece(ledger: Ledger) -> None:
    _, document = await _stored(ledger, DENSE)
    opened: list[Tx] = []

    @asynccontextmanager
    async def watched() -> AsyncIterator[Tx]:
        async with ledger.transaction(read_only=True) as tx:
            opened.append(tx)
            yield tx
            opened.remove(tx)

    assert [piece async for piece in document.pieces(watched) if not opened]
    assert [piece async for piece in document.pieces(watched) if opened] == []


async def test_stay_in_the_ledger_when_their_envelope_is_looked_at(ledger: Ledger) -> None:
    lodgment, document = await _stored(ledger, DENSE)
    envelope = await _enveloped(ledger, lodgment, hashlib.sha256(HEAD + DENSE + TAIL).hexdigest())
    async with ledger.transaction(read_only=True) as tx:
        looked = (await artifacts.look_envelopes(tx, [envelope.id]))[envelope.id]
        whole = (await artifacts.read_envelopes(tx, [envelope.id]))[envelope.id]
    assert (looked.head, looked.payload, looked.tail) == (HEAD, document, TAIL)
    assert (whole.head, whole.payload, whole.tail) == (HEAD, DENSE, TAIL)


async def test_are_read_and_checked_when_their_envelope_is_looked_at(ledger: Ledger) -> None:
    lodgment, _ = await _stored(ledger, DENSE)
    envelope = await _enveloped(ledger, lodgment, "0" * 64)
    with pytest.raises(RefusedError) as refusal:
        async with ledger.transaction(read_only=True) as tx:
            await artifacts.look_envelopes(tx, [envelope.id])
    assert refusal.value.code == "artifact.damaged"


@pytest.mark.parametrize(
    "change",
    [
        lambda stored: stored[:-1] + bytes([stored[-1] ^ 1]),
        lambda stored: stored[:LARGE] + bytes([stored[LARGE] ^ 1]) + stored[LARGE + 1 :],
        lambda stored: stored[:-20],
        lambda stored: stored[:LARGE],
        lambda stored: stored + b"\0",
    ],
    ids=["tag", "middle", "end-cut", "cut-between-slices", "longer"],
)
async def test_that_were_changed_are_refused_at_the_end_at_latest(
    ledger: Ledger, change: Callable[[bytes], bytes]
) -> None:
    lodgment, document = await _stored(ledger, DENSE)
    of_it = artifact.c.id == lodgment.payload_id
    async with ledger.transaction() as tx:
        stored = (await tx.connection.execute(sa.select(artifact.c.content).where(of_it))).scalar_one()
        changed = change(bytes(stored))
        await tx.connection.execute(sa.update(artifact).where(of_it).values(content=changed))
    with pytest.raises(RefusedError, match=r"changed|hash"):
        [piece async for piece in replace(document, stored_size=len(changed)).pieces(ledger.transaction)]


async def test_of_another_row_do_not_open(ledger: Ledger) -> None:
    mine, document = await _stored(ledger, DENSE)
    yours, _ = await _stored(ledger, DENSE)
    bytes_of = sa.select(artifact.c.content).where(artifact.c.id == yours.payload_id).scalar_subquery()
    async with ledger.transaction() as tx:
        await tx.connection.execute(
            sa.update(artifact).where(artifact.c.id == mine.payload_id).values(content=bytes_of)
        )
    with pytest.raises(RefusedError):
        async with ledger.transaction(read_only=True) as tx:
            await document.read(tx)


async def test_that_have_another_hash_than_was_stored_are_refused(ledger: Ledger) -> None:
    _, document = await _stored(ledger, DENSE)
    with pytest.raises(RefusedError) as refusal:
        async with ledger.transaction(read_only=True) as tx:
            await replace(document, sha256="0" * 64).read(tx)
    assert refusal.value.code == "artifact.damaged"


async def test_that_are_gone_are_named(ledger: Ledger) -> None:
    lodgment, document = await _stored(ledger, DENSE)
    async with ledger.transaction() as tx:
        await tx.connection.execute(sa.delete(artifact).where(artifact.c.id == lodgment.payload_id))
    with pytest.raises(RefusedError, match="not in the ledger any more"):
        async with ledger.transaction(read_only=True) as tx:
            await document.read(tx)


async def test_are_undone_with_their_transaction(ledger: Ledger) -> None:
    lodgment = a_lodgment()

    async def store_and_fail() -> None:
        async with ledger.transaction() as tx:
            await artifacts.add(tx, [a_payload(lodgment, DENSE)])
            raise LookupError

    with pytest.raises(LookupError):
        await store_and_fail()
    async with ledger.transaction(read_only=True) as tx:
        assert await artifacts.read(tx, [lodgment.payload_id]) == {}


async def test_that_the_ledger_does_not_take_are_a_refusal_and_the_connection_lives(ledger: Ledger) -> None:
    lodgment, _ = await _stored(ledger, DENSE)
    with pytest.raises(RefusedError) as refusal:
        async with ledger.transaction() as tx:
            await artifacts.add(tx, [a_payload(lodgment, DENSE)])
    assert refusal.value.code == "ledger.refused"
    await _stored(ledger, DENSE)


async def test_whose_server_goes_away_while_they_are_written_wait_for_it(postgresql_ledger: Ledger) -> None:
    async def cut_off() -> None:
        async with postgresql_ledger.transaction() as tx:
            own = (await tx.connection.execute(sa.select(sa.func.pg_backend_pid()))).scalar_one()
            async with postgresql_ledger.transaction() as other:
                await other.connection.execute(sa.select(sa.func.pg_terminate_backend(own)))
            await artifacts.add(tx, [a_payload(a_lodgment(), DENSE)])

    with pytest.raises(DependencyDownError):
        await cut_off()
    await _stored(postgresql_ledger, DENSE)


async def test_of_which_nothing_is_stored_are_damaged(ledger: Ledger) -> None:
    _, document = await _stored(ledger, DENSE)
    with pytest.raises(RefusedError) as refusal:
        [piece async for piece in replace(document, stored_size=0).pieces(ledger.transaction)]
    assert refusal.value.code == "artifact.damaged"
