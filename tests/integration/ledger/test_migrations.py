import re

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy.pool import NullPool

from pipeline.ledger import migrate
from pipeline.ledger.session import Ledger
from pipeline.ledger.tables import PARTITIONED, metadata, waiting_job
from pipeline.ledger.vault import Vault
from pipeline.lodgment.errors import ConfigurationError, RefusedError
from tests.doubles.lodgments import NOW, fresh_id

_PARTITION = re.compile(rf"({'|'.join(table.name for table in PARTITIONED)})_(\d{{6}}|default)")


def _engine(url: str) -> sa.Engine:
    return sa.create_engine(migrate.database_url(url), poolclass=NullPool)


def _tables(url: str) -> set[str]:
    return set(sa.inspect(_engine(url)).get_table_names()) - {"alembic_version"}


def _is_ours(name: str | None, kind: str, _parents: object) -> bool:
    return not (kind == "table" and name is not None and _PARTITION.fullmatch(name))


def test_go_up_down_to_nothing_and_up_again(empty_url: str) -> None:
    assert migrate.current(empty_url) is None
    migrate.upgrade(empty_url)
    first = _tables(empty_url)
    assert migrate.current(empty_url) == migrate.head()

    migrate.downgrade(empty_url, "base")
    assert migrate.current(empty_url) is None
    assert _tables(empty_url) == set()

    migrate.upgrade(empty_url)
    migrate.upgrade(empty_url)
    assert _tables(empty_url) == first


def test_do_not_go_back_over_jobs_that_are_nowhere_else(empty_url: str) -> None:
    migrate.upgrade(empty_url)
    waiting = {"id": fresh_id(), "sender_id": "S", "tag": NOW, "size": 1, "received_at": NOW, "takes": 0}
    with _engine(empty_url).begin() as connection:
        connection.execute(sa.insert(waiting_job), {**waiting, "message_id": "m", "body": b"sealed"})
    with pytest.raises(RefusedError, match="let the intake take them in first") as refusal:
        migrate.downgrade(empty_url, "0010")
    assert refusal.value.code == "db.jobs_wait"
    with _engine(empty_url).begin() as connection:
        assert connection.execute(sa.select(waiting_job.c.body)).scalars().all() == [b"sealed"]
        connection.execute(sa.delete(waiting_job))
    migrate.downgrade(empty_url, "0010")
    assert "waiting_job" not in _tables(empty_url)


def test_make_exactly_the_tables_of_the_metadata(ledger_url: str) -> None:
    with _engine(ledger_url).connect() as connection:
        options = {"include_name": _is_ours, "compare_type": True, "compare_server_default": True}
        assert compare_metadata(MigrationContext.configure(connection, opts=options), metadata) == []


def test_make_the_check_constraints_of_the_metadata(ledger_url: str) -> None:
    # Alembic's comparison leaves check constraints out.
    inspector = sa.inspect(_engine(ledger_url))
    for table in metadata.sorted_tables:
        declared = {str(each.name) for each in table.constraints if isinstance(each, sa.CheckConstraint)}
        assert {each["name"] for each in inspector.get_check_constraints(table.name)} == declared


async def test_the_ledger_asks_to_be_migrated_when_it_is_empty(empty_url: str, vault: Vault) -> None:
    ledger = Ledger(empty_url, vault)
    with pytest.raises(ConfigurationError, match="run `lodge db upgrade`") as refusal:
        await ledger.check()
    assert refusal.value.code == "ledger.schema"
    await ledger.close()


async def test_the_ledger_is_content_with_the_schema_at_head(ledger: Ledger) -> None:
    await ledger.check()


async def test_old_code_is_content_with_a_newer_schema(ledger: Ledger) -> None:
    async with ledger.transaction() as tx:
        await tx.connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    await ledger.check()


@pytest.mark.parametrize("url", ["mysql://ledger:hunter2@host/name", "postgresql//hunter2", "sqlite://", ""])
def test_a_url_of_another_database_is_refused_without_being_quoted(url: str, vault: Vault) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        Ledger(url, vault)
    assert refusal.value.code == "ledger.url"
    assert "hunter2" not in str(refusal.value)
