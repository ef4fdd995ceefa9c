"""seal: batches whose documents are too large to be held at once."""

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from pipeline.ledger import artifacts
from pipeline.lodgment.states import State, Step
from pipeline.stages.seal import Seal
from tests.doubles.asic import PAYLOAD
from tests.doubles.lodgments import a_lodgment
from tests.integration.stages.conftest import deliveries, drive

if TYPE_CHECKING:
    from pipeline.broker.port import Delivery
    from pipeline.lodgment.lodgment import Lodgment
    from tests.integration.stages.conftest import Bench


async def _authorised(bench: "Bench", number: int) -> "list[Lodgment]":
    rows = [replace(a_lodgment(), state=State.AUTHORISED) for _ in range(number)]
    await bench.add(*rows)
    return sorted(rows, key=lambda row: row.payload_id)


async def test_documents_too_large_to_be_held_at_once_are_sealed_in_portions(bench: "Bench") -> None:
    rows = await _authorised(bench, 5)
    done = await bench.moved(rows[2], rows[2].moved(State.SEALED, due_at=bench.now + timedelta(minutes=5)))
    batch: list[Delivery] = deliveries(Step.SEAL, *reversed(rows), rows[0])
    stage = Seal(bench.context(), None, at_once=len(PAYLOAD) + 1)
    settled = [one async for one in stage.handle(batch)]
    assert [len(one.deliveries) for one in settled] == [3, 3]
    assert sorted(id(d) for one in settled for d in one.deliveries) == sorted(map(id, batch))
    told = [message.message_id for one in settled for message in one.publications]
    assert len(told) == len(set(told)) == 5
    for row in rows:
        now = await bench.lodgment(row)
        assert now.state is State.SEALED
        if row.id != done.id:
            assert now.envelope_id is not None
            async with bench.ledger.transaction(read_only=True) as tx:
                stored = await artifacts.read_envelopes(tx, [now.envelope_id])
            assert stored[now.envelope_id].payload == PAYLOAD


async def test_documents_that_fit_are_sealed_together(bench: "Bench") -> None:
    rows = await _authorised(bench, 5)
    settled = [one async for one in Seal(bench.context(), None).handle(deliveries(Step.SEAL, *rows))]
    assert [len(one.publications) for one in settled] == [5]
    assert await drive(Seal(bench.context(), None), deliveries(Step.SEAL, *rows))
