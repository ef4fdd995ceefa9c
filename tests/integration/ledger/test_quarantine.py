from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from pipeline.ledger import quarantine
from pipeline.ledger.quarantine import Fate, Quarantined, Settling
from pipeline.ledger.session import Ledger
from tests.doubles.lodgments import NOW, fresh_id
from tests.integration.ledger.samples import SOON, on_disk

GONE = Settling(Fate.DISCARDED, "ana@desk", "looked at", SOON)


def _bad_message(minutes: int = 0) -> Quarantined:
    now = NOW + timedelta(minutes=minutes)
    return Quarantined(
        id=fresh_id(now),
        step="receive",
        code="job.json",
        reason="the message body must be one JSON object",
        job_id="job-1",
        lodgment_id=fresh_id(),
        message_id="m-1",
        body=b"{ a synthetic payload",
        received_at=now,
    )


async def test_keeps_a_message_with_its_bytes(ledger: Ledger) -> None:
    item = _bad_message()
    bare = replace(_bad_message(1), job_id=None, lodgment_id=None, message_id=None, body=b"")
    async with ledger.transaction() as tx:
        await quarantine.add(tx, [item, bare])
        await quarantine.add(tx, [])
        assert await quarantine.read(tx, item.id) == item
        assert await quarantine.read(tx, bare.id) == bare
        assert await quarantine.read(tx, fresh_id()) is None


async def test_keeps_the_first_of_two_with_one_id(ledger: Ledger) -> None:
    item = _bad_message()
    async with ledger.transaction() as tx:
        await quarantine.add(tx, [item])
        await quarantine.add(tx, [replace(item, reason="another"), _bad_message()])
        assert await quarantine.read(tx, item.id) == item
        assert await quarantine.count(tx) == 2


async def test_takes_text_that_no_database_would_take(ledger: Ledger) -> None:
    item = replace(_bad_message(), reason="nul \0", job_id="\ud800", message_id="\0")
    async with ledger.transaction() as tx:
        await quarantine.add(tx, [item])
        found = await quarantine.read(tx, item.id)
    assert found == replace(item, reason="nul \ufffd", job_id="\ufffd", message_id="\ufffd")


async def test_lists_the_newest_first_without_bodies_until_they_are_put_back(ledger: Ledger) -> None:
    items = [_bad_message(minutes) for minutes in range(3)]
    async with ledger.transaction() as tx:
        await quarantine.add(tx, items)
        assert await quarantine.list_(tx, 2) == [replace(items[2], body=b""), replace(items[1], body=b"")]
        assert await quarantine.settle(tx, items[2].id, GONE)
        assert not await quarantine.settle(tx, items[2].id, GONE)
        assert not await quarantine.settle(tx, fresh_id(), GONE)
        assert [item.id for item in await quarantine.list_(tx, 9)] == [items[1].id, items[0].id]
        released, *_ = await quarantine.list_(tx, 9, released=True)
        assert released == replace(
            items[2], body=b"", released_at=SOON, fate=Fate.DISCARDED, fate_by="ana@desk", fate_reason="looked at"
        )
        assert await quarantine.count(tx) == 2


async def test_leaves_no_body_readable_in_the_database_file_or_a_repr(sqlite_ledger: Ledger, tmp_path: Path) -> None:
    item = _bad_message()
    async with sqlite_ledger.transaction() as tx:
        await quarantine.add(tx, [item])
    await sqlite_ledger.close()
    files = on_disk(tmp_path)
    assert item.reason.encode() in files
    assert b"synthetic payload" not in files
    assert "synthetic payload" not in repr(item)
