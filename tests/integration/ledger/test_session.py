import asyncio
import sqlite3
import threading
import traceback
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, OperationalError, ProgrammingError

from pipeline.ledger import lodgments, migrate
from pipeline.ledger.session import Ledger, Tx
from pipeline.ledger.tables import quarantine
from pipeline.ledger.vault import Vault
from pipeline.lodgment.errors import DependencyDownError, RefusedError
from pipeline.lodgment.states import State
from tests.doubles.lodgments import a_lodgment
from tests.integration.ledger.samples import SOON, new
from tests.services.postgres import PrivatePostgres


@pytest.fixture(scope="module")
def private_server() -> Iterator[PrivatePostgres]:
    server = PrivatePostgres()
    server.start()
    yield server
    server.stop()


@pytest.fixture
async def private_ledger(private_server: PrivatePostgres, vault: Vault) -> AsyncIterator[Ledger]:
    migrate.upgrade(private_server.url)
    ledger = Ledger(private_server.url, vault, pool_size=3)
    yield ledger
    await ledger.close()


async def test_a_server_that_was_killed_is_down_and_heals_without_a_new_ledger(
    private_server: PrivatePostgres, private_ledger: Ledger
) -> None:
    lodgment = a_lodgment()

    async def take_in() -> None:
        async with private_ledger.transaction() as tx:
            await lodgments.add(tx, new([lodgment]))

    async def killed_midway() -> None:
        async with private_ledger.transaction() as tx:
            await lodgments.add(tx, new([a_lodgment()]))
            private_server.kill()
            await lodgments.load(tx, [])

    await asyncio.gather(take_in(), private_ledger.check(), private_ledger.check())
    with pytest.raises(DependencyDownError) as broken:
        await killed_midway()
    with pytest.raises(DependencyDownError) as refused:
        await take_in()
    assert (broken.value.code, refused.value.code) == ("ledger.down", "ledger.down")
    await asyncio.to_thread(private_server.start)
    async with private_ledger.transaction() as tx:
        assert await lodgments.load(tx, [lodgment.id]) == {lodgment.id: lodgment}


async def test_a_server_that_is_not_there_is_down(vault: Vault) -> None:
    ledger = Ledger("postgresql://nobody:hunter2@127.0.0.1:1/none", vault)
    with pytest.raises(DependencyDownError) as refusal:
        await ledger.check()
    assert refusal.value.code == "ledger.down"
    assert "hunter2" not in str(refusal.value)
    await ledger.close()


async def test_a_file_that_cannot_be_opened_is_down(vault: Vault, tmp_path: Path) -> None:
    ledger = Ledger(f"sqlite:///{tmp_path}/no such folder/ledger.db", vault)
    with pytest.raises(DependencyDownError) as refusal:
        await ledger.check()
    assert refusal.value.code == "ledger.down"
    await ledger.close()
    # aiosqlite does not wait for the thread of a connection that failed to open, and it still reports to this loop.
    for thread in threading.enumerate():
        if "_connection_worker_thread" in thread.name:
            await asyncio.to_thread(thread.join, 10)


async def test_a_disk_that_is_full_is_waited_for(sqlite_ledger: Ledger) -> None:
    async def fill() -> None:
        async with sqlite_ledger.transaction() as tx:
            await tx.connection.exec_driver_sql("PRAGMA max_page_count = 1")
            await lodgments.add(tx, new([a_lodgment() for _ in range(500)]))

    with pytest.raises(DependencyDownError) as refusal:
        await fill()
    assert refusal.value.code == "ledger.full"


async def test_a_database_that_is_read_only_is_waited_for(postgresql_ledger: Ledger) -> None:
    async def write() -> None:
        async with postgresql_ledger.transaction() as tx:
            await tx.connection.exec_driver_sql("SET TRANSACTION READ ONLY")
            await lodgments.add(tx, new([a_lodgment()]))

    with pytest.raises(DependencyDownError) as refusal:
        await write()
    assert refusal.value.code == "ledger.read_only"


async def test_a_session_that_the_server_ended_is_down(postgresql_ledger: Ledger) -> None:
    async def linger() -> None:
        async with postgresql_ledger.transaction() as tx:
            await tx.connection.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout = '1ms'")
            await asyncio.sleep(0.2)
            await lodgments.load(tx, [])

    with pytest.raises(DependencyDownError) as refusal:
        await linger()
    assert refusal.value.code == "ledger.down"
    await postgresql_ledger.check()


async def test_too_many_connections_are_waited_for(postgresql_url: str, vault: Vault) -> None:
    ledger = Ledger(postgresql_url, vault)
    name = migrate.database_url(postgresql_url).database
    role = f"narrow_{name}"  # roles are the server's, not the database's
    async with ledger.transaction() as tx:
        await tx.connection.exec_driver_sql(f"CREATE ROLE {role} LOGIN CONNECTION LIMIT 0")
        await tx.connection.exec_driver_sql(f"GRANT CONNECT ON DATABASE {name} TO {role}")
    narrow = Ledger(migrate.database_url(postgresql_url).set(username=role).render_as_string(), vault)
    try:
        with pytest.raises(DependencyDownError):
            await narrow.check()
    finally:
        async with ledger.transaction() as tx:
            await tx.connection.exec_driver_sql(f"REVOKE ALL ON DATABASE {name} FROM {role}")
            await tx.connection.exec_driver_sql(f"DROP ROLE {role}")
        await narrow.close()
        await ledger.close()


async def test_a_deadlock_is_waited_for_by_its_victim(postgresql_ledger: Ledger) -> None:
    one, two = a_lodgment(), a_lodgment()
    async with postgresql_ledger.transaction() as tx:
        await lodgments.add(tx, new([one, two]))
    both_hold_one = asyncio.Barrier(2)

    async def move_both(first: object, second: object) -> None:
        async with postgresql_ledger.transaction() as tx:
            await tx.connection.execute(sa.text("SELECT FROM lodgment WHERE id = :id FOR UPDATE"), {"id": first})
            await both_hold_one.wait()
            await tx.connection.execute(sa.text("SELECT FROM lodgment WHERE id = :id FOR UPDATE"), {"id": second})

    ended = await asyncio.gather(move_both(one.id, two.id), move_both(two.id, one.id), return_exceptions=True)
    (victim,) = (each for each in ended if each is not None)
    assert isinstance(victim, DependencyDownError)
    assert victim.code == "ledger.busy"


async def test_a_file_that_another_process_keeps_locked_is_busy(sqlite_url: str, vault: Vault) -> None:
    ledger = Ledger(sqlite_url, vault)
    async with ledger.transaction(read_only=True) as tx:
        await tx.connection.exec_driver_sql("PRAGMA busy_timeout = 1")
    with closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"), isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(DependencyDownError) as refusal:
            async with ledger.transaction():
                pass
    assert refusal.value.code == "ledger.busy"
    await ledger.close()


async def test_a_defect_in_a_statement_is_not_taken_for_an_outage(ledger: Ledger) -> None:
    with pytest.raises(DBAPIError) as defect:
        async with ledger.transaction() as tx:
            await tx.connection.exec_driver_sql("SELECT nothing FROM nowhere")
    assert isinstance(defect.value, ProgrammingError | OperationalError)


async def test_a_row_that_breaks_a_rule_is_refused_without_its_values(ledger: Ledger) -> None:
    row = {"id": a_lodgment().id, "step": "receive", "code": "c", "reason": "a private matter"}

    async def insert() -> None:
        async with ledger.transaction() as tx:
            await tx.connection.execute(sa.insert(quarantine), row)

    with pytest.raises(RefusedError) as refusal:
        await insert()
    assert "body" in str(refusal.value) or "received_at" in str(refusal.value)
    assert "private matter" not in "".join(traceback.format_exception(refusal.value))


async def test_an_error_of_the_caller_undoes_the_transaction_and_passes(ledger: Ledger) -> None:
    lodgment = a_lodgment()

    async def fail_midway() -> None:
        async with ledger.transaction() as tx:
            await lodgments.add(tx, new([lodgment]))
            raise KeyError

    with pytest.raises(KeyError):
        await fail_midway()
    async with ledger.transaction(read_only=True) as tx:
        assert await lodgments.load(tx, [lodgment.id]) == {}


async def test_a_cancelled_transaction_leaves_nothing_and_no_lock(ledger: Ledger) -> None:
    inside = asyncio.Event()
    lodgment = a_lodgment()

    async def hang() -> None:
        async with ledger.transaction() as tx:
            await lodgments.add(tx, new([lodgment]))
            inside.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(hang())
    await inside.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with ledger.transaction() as tx:
        assert await lodgments.add(tx, new([lodgment])) == {lodgment.id}


async def test_readers_do_not_wait_for_a_writer(ledger: Ledger) -> None:
    lodgment = a_lodgment()
    async with ledger.transaction() as writer:
        await lodgments.add(writer, new([lodgment]))
        async with ledger.transaction(read_only=True) as reader:
            assert await lodgments.load(reader, [lodgment.id]) == {}


async def test_many_writers_take_turns(ledger: Ledger) -> None:
    lodgment = a_lodgment()
    async with ledger.transaction() as tx:
        await lodgments.add(tx, new([lodgment]))

    async def push(tx: Tx) -> None:
        (found,) = (await lodgments.load(tx, [lodgment.id])).values()
        await lodgments.move(tx, [(found, replace(found, version=found.version + 1))])

    async def write() -> None:
        async with ledger.transaction() as tx:
            await push(tx)

    await asyncio.gather(*(write() for _ in range(40)))
    async with ledger.transaction() as tx:
        (found,) = (await lodgments.load(tx, [lodgment.id])).values()
        assert await lodgments.move(tx, [(found, found.moved(State.AUTHORISED, due_at=SOON))]) == {lodgment.id}


async def test_sqlite_keeps_every_commit_through_a_power_cut(sqlite_ledger: Ledger) -> None:
    async with sqlite_ledger.transaction() as tx:
        settings = {
            name: (await tx.connection.exec_driver_sql(f"PRAGMA {name}")).scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        }
    assert settings == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}
