import pytest

from pipeline.ledger import migrate
from pipeline.ledger.drift import differences
from pipeline.lodgment.errors import ConfigurationError


def test_the_migrations_build_what_the_code_declares_and_the_database_is_left_empty(empty_url: str) -> None:
    assert differences(empty_url) == []
    assert migrate.current(empty_url) is None


def test_a_database_that_holds_tables_is_left_alone(ledger_url: str) -> None:
    with pytest.raises(ConfigurationError, match="empty database only"):
        differences(ledger_url)
    assert migrate.current(ledger_url) == migrate.head()
