"""Databases of tests on one PostgreSQL server: those with a schema are copied from one that was migrated once."""

from urllib.parse import urlsplit
from uuid import uuid4

import psycopg
from psycopg import sql

from pipeline.ledger import migrate


class Databases:
    """Created one by one, and dropped by whoever asked for them."""

    def __init__(self, server_url: str) -> None:
        self._server_url = server_url
        self._names: list[str] = []
        self.template: str | None = None

    def create(self, template: str | None = None) -> str:
        name = f"lodge_test_{uuid4().hex}"
        source = sql.Identifier(template or "template1")
        self._execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), source))
        self._names.append(name)
        return name

    def migrated(self) -> str:
        if self.template is None:
            self.template = self.create()
            migrate.upgrade(self.url(self.template))
        return self.create(self.template)

    def url(self, name: str) -> str:
        return urlsplit(self._server_url)._replace(path=f"/{name}").geturl()

    def drop(self, name: str) -> None:
        self._execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
        self._names.remove(name)

    def drop_all(self) -> None:
        for name in tuple(self._names):
            self.drop(name)

    def _execute(self, statement: sql.Composed) -> None:
        with psycopg.connect(self._server_url, autocommit=True) as connection:
            connection.execute(statement)
