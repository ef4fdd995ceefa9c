"""What the database drivers raise, translated once into the fates of `pipeline.lodgment.errors`."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from sqlalchemy import exc

from pipeline.lodgment.errors import DependencyDownError, RefusedError

_BUSY_SQLSTATES = {
    "40001",  # serialization_failure
    "40P01",  # deadlock_detected
    "53300",  # too_many_connections
    "55P03",  # lock_not_available
    "57014",  # query_canceled: our own statement_timeout
}
_FULL_SQLSTATES = {"53100", "53200"}  # disk_full, out_of_memory
_READ_ONLY_SQLSTATE = "25006"  # a stand-by, or a server that protects itself; psycopg calls it an internal error

DAMAGED = "ledger.damaged"
"""The file is no database, or not whole: no message is to blame for it, and only a person can mend it."""
_SQLITE_CODES = {
    sqlite3.SQLITE_BUSY: "ledger.busy",
    sqlite3.SQLITE_LOCKED: "ledger.busy",
    sqlite3.SQLITE_FULL: "ledger.full",
    sqlite3.SQLITE_READONLY: "ledger.read_only",
    sqlite3.SQLITE_IOERR: "ledger.down",
    sqlite3.SQLITE_CANTOPEN: "ledger.down",
    sqlite3.SQLITE_CORRUPT: DAMAGED,
    sqlite3.SQLITE_NOTADB: DAMAGED,
}


@contextmanager
def translated() -> Iterator[None]:
    """Turn a database that cannot be used into a wait, and data that it refuses into a refusal; defects pass unchanged.

    Raises:
        DependencyDownError: `ledger.down`, `ledger.busy`, `ledger.full`, `ledger.read_only`, `ledger.damaged`.
        RefusedError: `ledger.refused`, a constraint or a type does not take the row.
    """
    try:
        yield
    except exc.TimeoutError as error:
        raise DependencyDownError("ledger.busy", "no database connection became free in time") from error
    except exc.DBAPIError as error:
        code = _down_code(error)
        if code is not None:
            advice = "; stop what uses it and restore it from a backup" if code == DAMAGED else ""
            text = f"the ledger cannot be used now: {_first_line(error.orig)}{advice}"
            raise DependencyDownError(code, text) from error
        if isinstance(error, exc.IntegrityError | exc.DataError):
            # Without its cause: PostgreSQL's text quotes the row, and a traceback would carry it into the log.
            raise RefusedError("ledger.refused", f"the ledger does not take this row: {_rule(error.orig)}") from None
        raise


def _down_code(error: exc.DBAPIError) -> str | None:
    match error.orig:
        case psycopg.Error(sqlstate=str(state)):
            code = _postgresql_code(state, operational=isinstance(error.orig, psycopg.OperationalError))
        case psycopg.OperationalError() | psycopg.InterfaceError():
            code = "ledger.down"
        case sqlite3.DatabaseError(sqlite_errorcode=int(number)):
            # Extended codes keep the primary one in their low byte. Plain SQLITE_ERROR is a defect in a statement.
            code = _SQLITE_CODES.get(number & 0xFF)
        case _:
            code = None
    return "ledger.down" if code is None and error.connection_invalidated else code


def _postgresql_code(state: str, *, operational: bool) -> str | None:
    if state in _BUSY_SQLSTATES:
        return "ledger.busy"
    if state in _FULL_SQLSTATES:
        return "ledger.full"
    if state == _READ_ONLY_SQLSTATE:
        return "ledger.read_only"
    return "ledger.down" if operational else None


def _first_line(error: BaseException | None) -> str:
    return str(error).partition("\n")[0]


def _rule(error: BaseException | None) -> str:
    match error:
        case psycopg.Error():
            return error.diag.constraint_name or error.diag.column_name or type(error).__name__
        case _:
            return _first_line(error)
