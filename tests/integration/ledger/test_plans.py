"""How PostgreSQL finds the rows of a batch in tables that were never analysed: a plan made then is kept for long."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from pipeline.ledger import artifacts, attempts, lodgments
from pipeline.ledger.lodgment_rows import NewLodgment
from pipeline.lodgment.lodgment import Attempt, Purpose
from pipeline.lodgment.states import State
from tests.doubles.lodgments import NOW, a_lodgment, fresh_id
from tests.doubles.plans import noted, plan
from tests.integration.ledger.samples import a_payload

if TYPE_CHECKING:
    from pipeline.ledger.session import Ledger

_LARGE = ("lodgment", "artifact", "attempt")


def _nodes(found: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield found
    for inner in found.get("Plans", ()):
        yield from _nodes(inner)


async def test_a_batch_is_looked_up_in_the_index_while_its_tables_are_still_small(postgresql_ledger: "Ledger") -> None:
    rows = [a_lodgment() for _ in range(5)]
    row = rows[0]
    attempt = Attempt(
        id=fresh_id(),
        lodgment_id=row.id,
        number=1,
        purpose=Purpose.SUBMIT,
        worker="worker-1",
        url="https://agency.example.test",
        envelope_id=fresh_id(),
        started_at=NOW,
    )
    after = row.moved(State.AUTHORISED, due_at=NOW + timedelta(minutes=5))
    async with postgresql_ledger.transaction() as tx:
        await lodgments.add(tx, [NewLodgment(one, "{}", {}) for one in rows])
        await artifacts.add(tx, [a_payload(one, b"synthetic") for one in rows])
        await attempts.add(tx, [attempt])
        with noted(tx) as statements:
            assert await lodgments.known_jobs(tx, [row.job_id])
            assert await lodgments.load(tx, [row.id])
            assert await artifacts.read(tx, [row.payload_id])
            assert await artifacts.read_portion(tx, [row.payload_id])
            assert await attempts.load(tx, [attempt.id])
            assert await attempts.finish(tx, [replace(attempt, finished_at=NOW)])
            assert await lodgments.move(tx, [(row, after)])
        assert len(statements) == 7
        for statement in statements:
            reads = [
                node
                for node in _nodes(await plan(tx, statement))
                if node.get("Relation Name", "").startswith(_LARGE) and node["Node Type"].endswith("Scan")
            ]
            assert reads, statement[0]
            assert all("Index Cond" in node or "Recheck Cond" in node for node in reads), statement[0]


async def test_documents_of_a_batch_are_stored_by_one_statement(postgresql_ledger: "Ledger") -> None:
    rows = [a_lodgment() for _ in range(30)]
    async with postgresql_ledger.transaction() as tx:
        with noted(tx) as statements:
            await artifacts.add(tx, [a_payload(one, str(one.id).encode()) for one in rows])
        assert len(statements) == 1
        found = await artifacts.read(tx, [one.payload_id for one in rows])
    assert found == {one.payload_id: str(one.id).encode() for one in rows}
