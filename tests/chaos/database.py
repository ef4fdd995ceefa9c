"""The ledger's server dies, comes back, has no connection to give, and writes nothing, while lodgments flow."""

import contextlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import psycopg

from tests.chaos.batches import TROUBLED
from tests.chaos.ground import Ground
from tests.chaos.scenario import Field, Scenario
from tests.services.pipeline_processes import until

_KILLS = 3
_TERMINATIONS = 10
_END_SESSIONS = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'lodgment-pipeline'"
    " AND datname = current_database()"
)


def killed(field: Field) -> None:
    """SIGKILL to the whole server in the middle of transactions; it replays its log and goes on."""
    postgres = field.house.postgres
    with field.ground() as ground:
        ground.open()
        for number in range(_KILLS):
            ground.push(field.marked.batch(field.size // _KILLS, f"kill-{number}", TROUBLED))
            until("some of it is under way", lambda: len(ground.states()) == len(ground.ends), 120)
            postgres.kill()
            until("the workers notice", lambda known=number: _noticed(ground) > known, 60)  # type: ignore[misc]
            postgres.start()
            field.note("the server was killed, missed by workers, and started again")
        ground.verdict()


def _noticed(ground: Ground) -> int:
    return ground.logged("ledger.down") // _KILLS


def sessions_cut(field: Field) -> None:
    """Every session of the workers is ended by the server, again and again."""
    with field.ground() as ground:
        ground.open()
        for number in range(_TERMINATIONS):
            ground.push(field.marked.batch(field.size // _TERMINATIONS, f"cut-{number}", TROUBLED))
            ended = ground.query(_END_SESSIONS)
            field.note(f"{len(ended)} sessions ended")
        ground.verdict()


def no_connections(field: Field) -> None:
    """Strangers take every connection that the server gives."""
    with field.ground() as ground:
        ground.open()
        ground.push(field.marked.batch(field.size // 2, "before", TROUBLED))
        with _hogged(ground) as count:
            known = ground.logged('"ledger.')
            ground.push(field.marked.batch(field.size // 2, "meanwhile", TROUBLED))
            until("the workers get no connection", lambda: ground.logged('"ledger.') > known, 60)
            field.note(f"{count} connections were taken, and workers waited")
        ground.verdict()


@contextmanager
def _hogged(ground: Ground) -> Iterator[int]:
    """Take what the workers have, and everything else that there is."""
    with ExitStack() as stack:
        ours = stack.enter_context(psycopg.connect(ground.servers.ledger_url, autocommit=True))
        count = 1
        for _ in range(20):
            ours.execute(_END_SESSIONS.encode())
            with contextlib.suppress(psycopg.OperationalError):
                while True:
                    stack.enter_context(psycopg.connect(ground.servers.ledger_url))
                    count += 1
        yield count


def read_only(field: Field) -> None:
    """The server becomes read-only, as a stand-by or a managed server that protects itself."""
    with field.ground() as ground:
        ground.open()
        ground.push(field.marked.batch(field.size // 2, "before", TROUBLED))
        with _read_only(ground):
            ground.push(field.marked.batch(field.size // 2, "meanwhile", TROUBLED))
            until("the workers may not write", lambda: ground.logged("ledger.read_only") > 0, 60)
            field.note("workers waited for a ledger that takes no rows")
        ground.verdict()


@contextmanager
def _read_only(ground: Ground) -> Iterator[None]:
    try:
        _configure(ground, "ALTER SYSTEM SET default_transaction_read_only = on")
        yield
    finally:
        _configure(ground, "ALTER SYSTEM RESET default_transaction_read_only")


def _configure(ground: Ground, statement: str) -> None:
    with psycopg.connect(ground.servers.ledger_url, autocommit=True) as connection:
        for one in ("SET default_transaction_read_only = off", statement, "SELECT pg_reload_conf()"):
            connection.execute(one.encode())


SCENARIOS = (
    Scenario("database", "killed", "the ledger's server is killed and started again, three times", killed),
    Scenario("database", "sessions-cut", "every session with the ledger is ended, ten times", sessions_cut),
    Scenario("database", "no-connections", "the ledger's server has no connection left", no_connections),
    Scenario("database", "read-only", "the ledger's server takes no writes", read_only),
)
