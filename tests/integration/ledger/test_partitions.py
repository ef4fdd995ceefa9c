import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from pipeline.ledger import artifacts, attempts, outcomes, partitions
from pipeline.ledger.session import Ledger, Tx
from pipeline.ledger.tables import PARTITIONED
from pipeline.lodgment.outcome import MessageEvent, Outcome, Result, Severity
from tests.doubles.lodgments import a_lodgment, fresh_id
from tests.integration.ledger.samples import a_payload

FAR = datetime(2040, 11, 15, tzinfo=UTC)
OUTCOME = Outcome(Result.REJECTED, "reference", events=(MessageEvent("1", Severity.ERROR, "no"),))


async def _where(tx: Tx, table: str) -> list[str]:
    rows = await tx.connection.exec_driver_sql(f"SELECT tableoid::regclass::text FROM {table} ORDER BY 1")  # noqa: S608  - a fixed name
    return list(rows.scalars())


async def test_of_the_coming_months_are_there_after_the_migration(postgresql_ledger: Ledger) -> None:
    async with postgresql_ledger.transaction() as tx:
        assert await partitions.ensure(tx, datetime.now(UTC)) == []


async def test_are_created_once_over_the_turn_of_the_year(postgresql_ledger: Ledger) -> None:
    wanted = [f"{table.name}_{month}" for table in PARTITIONED for month in (204011, 204012, 204101)]
    async with postgresql_ledger.transaction() as tx:
        assert await partitions.ensure(tx, FAR) == wanted
        assert await partitions.ensure(tx, FAR) == []
        assert await partitions.ensure(tx, FAR + timedelta(days=31)) == [
            f"{table.name}_204102" for table in PARTITIONED
        ]


async def test_are_created_by_one_of_two_schedulers(postgresql_ledger: Ledger) -> None:
    async def ensure() -> list[str]:
        async with postgresql_ledger.transaction() as tx:
            return await partitions.ensure(tx, FAR)

    created = await asyncio.gather(ensure(), ensure(), ensure())
    assert sorted(map(len, created)) == [0, 0, 9]


async def test_take_the_rows_of_their_month_to_the_last_moment(postgresql_ledger: Ledger) -> None:
    turn = datetime(2040, 12, 1, tzinfo=UTC)
    async with postgresql_ledger.transaction() as tx:
        await partitions.ensure(tx, FAR)
        for moment in (turn - timedelta(milliseconds=1), turn):
            lodgment = a_lodgment(moment)
            await artifacts.add(tx, [a_payload(lodgment, b"x")])
            await outcomes.add(tx, [(lodgment.id, fresh_id(moment), OUTCOME)], turn)
        assert await _where(tx, "artifact") == ["artifact_204011", "artifact_204012"]
        assert await _where(tx, "message_event") == ["message_event_204011", "message_event_204012"]


async def test_that_come_late_take_over_the_rows_that_were_kept_for_them(postgresql_ledger: Ledger) -> None:
    early, later = a_lodgment(FAR), a_lodgment(FAR + timedelta(days=400))
    async with postgresql_ledger.transaction() as tx:
        await artifacts.add(tx, [a_payload(early, b"early"), a_payload(later, b"later")])
        assert await _where(tx, "artifact") == ["artifact_default", "artifact_default"]
    async with postgresql_ledger.transaction() as tx:
        await partitions.ensure(tx, FAR)
        assert await _where(tx, "artifact") == ["artifact_204011", "artifact_default"]
        ids = [early.payload_id, later.payload_id]
        assert list((await artifacts.read(tx, ids)).values()) == [b"early", b"later"]


async def test_leave_the_bytes_of_artifacts_uncompressed(postgresql_ledger: Ledger) -> None:
    query = (
        "SELECT DISTINCT attstorage::text FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid "
        "WHERE relname LIKE 'artifact%%' AND relkind IN ('r', 'p') AND attname = 'content'"
    )
    async with postgresql_ledger.transaction() as tx:
        await partitions.ensure(tx, FAR)
        assert (await tx.connection.exec_driver_sql(query)).scalars().all() == ["e"]


async def test_of_other_months_are_not_searched_when_ids_are_known(postgresql_ledger: Ledger) -> None:
    wanted = fresh_id(FAR)
    async with postgresql_ledger.transaction() as tx:
        await partitions.ensure(tx, FAR)
        for statement, name in ((artifacts._select(tx.dialect), "artifact"), (attempts._load(tx.dialect), "attempt")):
            query = statement.compile(dialect=tx.connection.dialect)
            values = {**query.params, "keys": f'["{wanted}"]', "low": wanted, "high": wanted}
            lines = await tx.connection.exec_driver_sql(f"EXPLAIN {query}", values)
            plan = "\n".join(lines.scalars())
            assert f"{name}_204011" in plan
            assert f"{name}_default" not in plan


async def test_are_nothing_on_sqlite(sqlite_ledger: Ledger) -> None:
    async with sqlite_ledger.transaction() as tx:
        assert await partitions.ensure(tx, FAR) == []


@pytest.mark.parametrize("table", [table.name for table in PARTITIONED])
async def test_can_be_dropped_whole(postgresql_ledger: Ledger, table: str) -> None:
    async with postgresql_ledger.transaction() as tx:
        await partitions.ensure(tx, FAR)
        await tx.connection.exec_driver_sql(f"DROP TABLE {table}_204011")
        assert await partitions.ensure(tx, FAR) == [f"{table}_204011"]
