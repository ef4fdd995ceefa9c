"""Schema migrations, driven from code: there is no ini file to find or to keep in step."""

from functools import cache
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy.engine import URL, Connection, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.pool import NullPool

from pipeline.ledger.faults import translated
from pipeline.lodgment.errors import ConfigurationError

_SCRIPTS = Path(__file__).resolve().parents[2] / "migrations"
_DRIVERS = {"postgresql": "postgresql+psycopg", "postgres": "postgresql+psycopg", "sqlite": "sqlite"}


def database_url(text: str) -> URL:
    """The ledger's location, with or without a driver in it.

    Raises:
        ConfigurationError: `ledger.url`; the text is not quoted, it may hold a password.
    """
    try:
        url = make_url(text)
    except (ArgumentError, ValueError) as error:  # a port that is no number is a ValueError
        text = "ledger_url: cannot be read: it is postgresql://user@host[:port]/name or sqlite:///path/to/file"
        raise ConfigurationError("ledger.url", text) from error
    driver = _DRIVERS.get(url.get_backend_name())
    if driver is None or (driver == "sqlite" and not url.database):
        raise ConfigurationError(
            "ledger.url", "ledger_url: must be postgresql://user@host/name or sqlite:///path/to/file"
        )
    return url.set(drivername=driver)


def upgrade(url: str, revision: str = "head") -> None:
    """Bring the schema to `revision`.

    Raises:
        DependencyDownError: the database cannot be used now, or another migration is running.
        ConfigurationError: `db.revision`, there is no such revision.
    """
    require_revision(revision)
    with translated(), _connected(url) as connection:
        command.upgrade(_config(connection), revision)


def downgrade(url: str, revision: str) -> None:
    """Take the schema back to `revision`, or to nothing with `base`: what the newer schema held is lost.

    Raises:
        DependencyDownError: as `upgrade`.
        ConfigurationError: `db.revision`, there is no such revision.
        RefusedError: `db.jobs_wait`, confirmed jobs are in a table that the older schema has not.
    """
    require_revision(revision)
    with translated(), _connected(url) as connection:
        command.downgrade(_config(connection), revision)


def current(url: str) -> str | None:
    """The schema's revision, None before the first migration."""
    with translated(), _connected(url) as connection:
        return revision_of(connection)


def head() -> str:
    """The revision that this code needs."""
    head_revision = _scripts().get_current_head()
    if head_revision is None:
        raise ConfigurationError("ledger.migrations", f"no migrations are installed at {_SCRIPTS}")
    return head_revision


def revision_of(connection: Connection) -> str | None:
    """`current`, on a connection that is open."""
    return MigrationContext.configure(connection).get_current_revision()


def is_behind(revision: str | None) -> bool:
    """Whether the schema needs migrating for this code. A revision that we have never heard of is newer than we are."""
    known = {script.revision for script in _scripts().walk_revisions()}
    return revision is None or (revision in known and revision != head())


def missing(revision: str | None) -> tuple[str, ...]:
    """The revisions that the schema lacks for this code, in the order in which they are to run."""
    if not is_behind(revision):
        return ()
    return tuple(reversed([script.revision for script in _scripts().iterate_revisions("head", revision or "base")]))


def require_revision(revision: str) -> None:
    """See that there is such a revision; asked before a database is connected to, which for SQLite makes its file.

    Raises:
        ConfigurationError: `db.revision`.
    """
    try:
        if revision and _scripts().get_revisions(revision) is not None:
            return
    except CommandError:
        pass
    names = ", ".join(sorted(script.revision for script in _scripts().walk_revisions()))
    raise ConfigurationError("db.revision", f"revision: there is no {revision!r} to go to; there are base, {names}")


@cache
def _scripts() -> ScriptDirectory:
    return ScriptDirectory(str(_SCRIPTS))


def _config(connection: Connection) -> Config:
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(_SCRIPTS))
    config.set_main_option("path_separator", "os")
    return config


def _connected(url: str) -> Connection:
    return sa.create_engine(database_url(url), poolclass=NullPool, hide_parameters=True).connect()
