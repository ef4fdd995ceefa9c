"""Whom each record of a document is about: kept sealed, found again."""

from pathlib import Path

from pipeline.ledger import lodgments, payees
from pipeline.ledger.session import Ledger
from tests.doubles.lodgments import a_lodgment
from tests.integration.ledger.samples import new, on_disk

WHOM = {"1.2": "SYN-000001", "1.3": "Zoë ' \" é"}


async def test_gives_back_the_map_of_each_lodgment_that_has_one(ledger: Ledger) -> None:
    several, nobody = a_lodgment(), a_lodgment()
    async with ledger.transaction() as tx:
        await lodgments.add(tx, new([several, nobody]))
        await payees.add(tx, [(several.id, WHOM), (nobody.id, {})])
    async with ledger.transaction(read_only=True) as tx:
        assert await payees.load(tx, [several.id, nobody.id]) == {several.id: WHOM}
        assert await payees.load(tx, []) == {}


async def test_leaves_no_payee_readable_in_the_database_file(sqlite_ledger: Ledger, tmp_path: Path) -> None:
    lodgment = a_lodgment()
    async with sqlite_ledger.transaction() as tx:
        await lodgments.add(tx, new([lodgment]))
        await payees.add(tx, [(lodgment.id, WHOM)])
    await sqlite_ledger.close()
    files = on_disk(tmp_path)
    assert lodgment.job_id.encode() in files
    assert b"SYN-000001" not in files
