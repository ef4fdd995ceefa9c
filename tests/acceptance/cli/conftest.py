"""The real command in real processes, in a folder of the test's own, against one sandbox for all."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.services.processes import Service, free_port

ROOT = Path(__file__).resolve().parents[3]
LODGE = (sys.executable, "-c", "from pipeline.interfaces.cli import main; main()")


@dataclass(frozen=True, slots=True)
class Left:
    """How a command left."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)


@dataclass(frozen=True, slots=True)
class Sandbox:
    """A sandbox that runs: its folder and its address."""

    home: Path
    url: str


class Lodge:
    """`lodge` as an operator types it."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self.folder = folder
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("LODGE_")}
        self.environment = {**inherited, "PYTHONPATH": str(ROOT), **environment}

    def __call__(self, *arguments: str, stdin: bytes = b"", **settings: str) -> Left:
        done = subprocess.run(
            [*LODGE, *arguments],
            cwd=self.folder,
            env={**self.environment, **settings},
            input=stdin,
            capture_output=True,
            timeout=120,
            check=False,
        )
        left = Left(done.returncode, done.stdout.decode(), done.stderr.decode())
        assert "Traceback" not in left.err
        return left


@pytest.fixture(scope="session")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """`lodge sandbox serve`."""
    home = tmp_path_factory.mktemp("sandbox_home")
    port = free_port()
    log = home / "sandbox.log"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "LODGE_HOME": str(home)}
    command = (*LODGE, "sandbox", "serve", "--port", str(port))
    service = Service("sandbox", command, log, lambda: bool(re.search("sandbox.started", log.read_text())), environment)
    service.start()
    yield Sandbox(home / "sandbox", f"https://localhost:{port}")
    service.stop()


@pytest.fixture
def lodge(tmp_path: Path, sandbox: Sandbox) -> Lodge:
    """The command in an empty folder whose settings lead to the sandbox."""
    home = tmp_path / "var"
    home.mkdir()
    (home / "sandbox").symlink_to(sandbox.home)
    return Lodge(tmp_path, {"LODGE_SANDBOX_URL": sandbox.url})


@pytest.fixture
def sandbox_settings(tmp_path: Path, sandbox: Sandbox) -> Path:
    """The sandbox as a settings file describes it, but with the system's authorities: none of them signed it."""
    path = tmp_path / "lodge.toml"
    path.write_text(
        f"""
environment = "elsewhere"
[environments.elsewhere]
agency_url = "{sandbox.url}"
sts_url = "{sandbox.url}/R3.0/S007v1.3/service.svc"
applies_to = "https://m2m.sandbox.asic.invalid"
keystore = "{sandbox.home}/keystore.xml"
keystore_password_file = "{sandbox.home}/keystore.password"
credential = "34999000001"
"""
    )
    return path
