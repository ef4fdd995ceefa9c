"""The private database server that crash tests rely on."""

import psycopg

from tests.services.postgres import PrivatePostgres


def test_a_killed_server_comes_back_with_what_was_committed() -> None:
    server = PrivatePostgres()
    server.start()
    try:
        with psycopg.connect(server.url) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 7 AS answer")
        server.kill()
        server.start()
        with psycopg.connect(server.url) as connection:
            assert connection.execute("SELECT answer FROM kept").fetchall() == [(7,)]
    finally:
        server.stop()


def test_each_test_has_an_empty_database(database_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        tables = connection.execute("SELECT count(*) FROM information_schema.tables WHERE table_schema = 'public'")
        assert tables.fetchone() == (0,)
