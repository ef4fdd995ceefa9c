from dataclasses import replace
from datetime import timedelta

from pipeline.ledger import attempts
from pipeline.ledger.session import Ledger
from pipeline.lodgment.failures import Blast, Failure, FailureClass, Party
from tests.doubles.lodgments import NOW, a_lodgment, fresh_id
from tests.integration.ledger.samples import an_attempt

REFUSED = Failure(
    kind=FailureClass.UNAVAILABLE,
    code="asic:FAULT.UNAVAILABLE",
    detail="away\0 until tomorrow",
    advice="wait",
    who=Party.AGENCY,
    blast=Blast.CHANNEL,
    available_after=NOW + timedelta(days=1),
)


async def test_are_written_before_the_socket_opens_and_completed_once(ledger: Ledger) -> None:
    begun = an_attempt(a_lodgment())
    replied = replace(
        begun,
        wire_started_at=NOW + timedelta(milliseconds=2),
        finished_at=NOW + timedelta(seconds=3),
        http_status=200,
        reply_id=fresh_id(),
        content_type="text/xml; charset=utf-8",
    )
    async with ledger.transaction() as tx:
        await attempts.add(tx, [begun])
        assert await attempts.load(tx, [begun.id, fresh_id()]) == {begun.id: begun}
    async with ledger.transaction() as tx:
        assert await attempts.finish(tx, [replied, an_attempt(a_lodgment())]) == {begun.id}
    late = replace(replied, http_status=500)
    async with ledger.transaction() as tx:
        assert await attempts.finish(tx, [late]) == set()
        assert await attempts.load(tx, [begun.id]) == {begun.id: replied}


async def test_keep_their_failure(ledger: Ledger) -> None:
    begun = an_attempt(a_lodgment())
    failed = replace(begun, finished_at=NOW, http_status=503, failure=REFUSED)
    async with ledger.transaction() as tx:
        await attempts.add(tx, [begun])
        await attempts.finish(tx, [failed])
        (found,) = (await attempts.load(tx, [begun.id])).values()
    assert found.failure == replace(REFUSED, detail="away\ufffd until tomorrow")


async def test_of_one_lodgment_come_in_order(ledger: Ledger) -> None:
    lodgment = a_lodgment()
    three = [an_attempt(lodgment, number) for number in (1, 2, 3)]
    async with ledger.transaction() as tx:
        await attempts.add(tx, [three[2], three[0], an_attempt(a_lodgment()), three[1]])
        assert await attempts.of(tx, lodgment.id) == three


async def test_written_again_stay_as_they_were(ledger: Ledger) -> None:
    begun = an_attempt(a_lodgment())
    async with ledger.transaction() as tx:
        await attempts.add(tx, [begun])
        await attempts.add(tx, [replace(begun, worker="another")])
        assert await attempts.load(tx, [begun.id]) == {begun.id: begun}


async def test_of_nobody_are_nothing(ledger: Ledger) -> None:
    async with ledger.transaction() as tx:
        await attempts.add(tx, [])
        assert await attempts.finish(tx, []) == set()
        assert await attempts.load(tx, []) == {}
        assert await attempts.of(tx, fresh_id()) == []
