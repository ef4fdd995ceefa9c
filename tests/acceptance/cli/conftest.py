"""The real command in real processes, in a folder of the test's own, against one sandbox for all."""

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.services.nursery import Nursling, run_command
from tests.services.processes import free_port
from tests.services.sandbox_home import new_home


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
        self.environment = {**inherited, **environment}

    def __call__(self, *arguments: str, stdin: bytes = b"", **settings: str) -> Left:
        done = run_command(arguments, self.folder, {**self.environment, **settings}, stdin)
        left = Left(done.code, done.out.decode(), done.err.decode())
        assert "Traceback" not in left.err
        return left


@pytest.fixture(scope="session")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """`lodge sandbox serve`."""
    home = tmp_path_factory.mktemp("sandbox_home")
    port = free_port()
    log = home / "sandbox.log"
    new_home(home / "sandbox")
    command = ("sandbox", "serve", "--port", str(port))
    environment = {**os.environ, "LODGE_HOME": str(home)}
    service = Nursling("sandbox", command, log, lambda: "sandbox.started" in log.read_text(), environment)
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
