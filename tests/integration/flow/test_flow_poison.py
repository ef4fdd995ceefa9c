"""Messages that no stage can handle, on both brokers, and what the log says meanwhile."""

import asyncio
from typing import TYPE_CHECKING

import sqlalchemy as sa

from pipeline.broker.port import Exchange, Outgoing
from pipeline.ledger import artifacts, attempts, lodgments, quarantine, tokens
from pipeline.ledger.quarantine import Fate, Settling
from pipeline.ledger.tables import artifact
from pipeline.lodgment.states import State, Step
from tests.doubles.jobs import document, job
from workers.process import Worker

if TYPE_CHECKING:
    import pytest

    from pipeline.lodgment.lodgment import Lodgment
    from tests.integration.flow.conftest import Pipeline

NESTED = b"[" * 1000
"""Short enough for a step's message, and deeper than a JSON reader goes."""


async def test_a_message_nested_too_deep_ends_in_quarantine_once(pipeline: "Pipeline") -> None:
    async with pipeline.running():
        await pipeline.push(NESTED)
        await pipeline.parts.broker.publish([Outgoing(Exchange.STEPS, Step.SEAL, NESTED, "nested")])
        await pipeline.until_quarantined("job.json")
        await pipeline.until_quarantined("message.step")
        await pipeline.push(job("good"))
        await pipeline.until("good", State.ACCEPTED)
        async with pipeline.parts.ledger.transaction(read_only=True) as tx:
            assert await quarantine.count(tx) == 2


async def test_a_reply_that_is_damaged_in_the_ledger_is_held_and_after_release_settled(pipeline: "Pipeline") -> None:
    """Everything but the outcome worker runs; then the stored reply is damaged."""
    before = [worker for worker in Worker if worker is not Worker.OUTCOME]
    async with pipeline.running(before):
        await pipeline.push(job("one"), job("two"))
        row = await pipeline.until("one", State.SENDING, holds=lambda one: one.attempt_id is not None)
        await pipeline.until("two", State.SENDING)
        await _damage_reply_of(pipeline, row)
    async with pipeline.running():
        held = await pipeline.until("one", State.HELD)
        assert held.reason is not None
        assert held.reason.code == "vault.damaged"
        await pipeline.until("two", State.ACCEPTED)
        released = held.moved(State.RECEIVED, due_at=pipeline.parts.context.clock())
        async with pipeline.parts.ledger.transaction() as tx:
            assert await lodgments.move(tx, [(held, released)])
            settling = Settling(Fate.RELEASED, "test@desk", "mended", pipeline.parts.context.clock())
            await quarantine.settle_of(tx, [held.id], settling)
        row = await pipeline.until("one", State.ACCEPTED)
        assert (await pipeline.book())[row.reference]["processed"] == 1


async def _damage_reply_of(pipeline: "Pipeline", row: "Lodgment") -> None:
    assert row.attempt_id is not None
    deadline = asyncio.get_running_loop().time() + 30
    while asyncio.get_running_loop().time() < deadline:
        async with pipeline.parts.ledger.transaction() as tx:
            attempt = (await attempts.load(tx, [row.attempt_id]))[row.attempt_id]
            damaged = sa.update(artifact).where(artifact.c.id == attempt.reply_id).values(content=b"damaged")
            if attempt.reply_id is not None and (await tx.connection.execute(damaged)).rowcount:
                return
        await asyncio.sleep(0.02)
    raise AssertionError("no reply was stored")


async def test_no_log_line_holds_a_secret_or_a_document(
    pipeline: "Pipeline", capfd: "pytest.CaptureFixture[str]"
) -> None:
    async with pipeline.running():
        bad = document("reject", name="Confidential Bakery").replace("</businessDocumentBody>", "")
        await pipeline.push(job("good", payload={"inline": document("reject", name="Confidential Bakery")}))
        await pipeline.push(job("bad", payload={"inline": bad}), b'{"payload": "Confidential Bakery"')
        row = await pipeline.until("good", State.REJECTED)
        await pipeline.until_quarantined("payload.xml.malformed")
        assert row.token_key is not None
        assert row.envelope_id is not None
        async with pipeline.parts.ledger.transaction(read_only=True) as tx:
            token = (await tokens.load(tx, [row.token_key]))[row.token_key].token
            envelope = (await artifacts.read_envelopes(tx, [row.envelope_id]))[row.envelope_id]
    assert token is not None
    said = "".join(capfd.readouterr())
    assert str(row.id) in said
    secrets = [b"Confidential Bakery", token.proof_key, token.assertion[200:300], envelope.head[-100:]]
    for secret in secrets:
        assert secret.decode("latin-1") not in said
        assert secret.hex() not in said
        assert repr(secret)[2:-1] not in said
