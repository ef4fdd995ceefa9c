"""`compose.yaml` says what it means: valid by the part of the Compose Specification that it uses, and complete."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Literal

import pytest
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipeline.gateway.client import Timeouts
from pipeline.settings import SETTINGS_FILE_VARIABLE, Settings
from workers.process import Worker

ROOT = Path(__file__).parents[2]
SECRETS = Path("/run/secrets")

Duration = Annotated[str, Field(pattern=r"^(\d+h)?(\d+m)?(\d+s)?$", min_length=2)]
Name = Annotated[str, Field(pattern=r"^[a-zA-Z0-9._-]+$")]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Healthcheck(_Part):
    test: Annotated[list[str], Field(min_length=2)]
    interval: Duration
    timeout: Duration
    retries: int
    start_period: Duration | None = None


class Dependency(_Part):
    condition: Literal["service_started", "service_healthy", "service_completed_successfully"]


class ConfigMount(_Part):
    source: Name
    target: str


class Service(_Part):
    image: str
    build: str | None = None
    hostname: str | None = None
    command: list[str] | None = None
    init: bool = False
    read_only: bool = False
    tmpfs: list[str] = []
    cap_drop: list[str] = []
    security_opt: list[str] = []
    environment: dict[str, str] = {}
    configs: list[ConfigMount] = []
    secrets: list[Name] = []
    volumes: list[str] = []
    depends_on: dict[Name, Dependency] = {}
    healthcheck: Healthcheck | None = None
    restart: Literal["no", "always", "on-failure", "unless-stopped"] | None = None
    stop_grace_period: Duration | None = None


class File(_Part):
    file: str


class Volume(_Part):
    pass


class Compose(_Part):
    """Sections of the specification: services 05, volumes 07, configs 08, secrets 09; `x-` keys are extensions (11)."""

    name: Name
    services: dict[Name, Service]
    configs: dict[Name, File]
    secrets: dict[Name, File]
    volumes: dict[Name, Volume]


@pytest.fixture(scope="module")
def compose() -> Compose:
    content = yaml.safe_load((ROOT / "compose.yaml").read_text())
    return Compose.model_validate({key: part for key, part in content.items() if not key.startswith("x-")})


@pytest.fixture(scope="module")
def ours(compose: Compose) -> dict[str, Service]:
    return {name: service for name, service in compose.services.items() if service.build}


def test_refuses_a_key_that_compose_does_not_know(compose: Compose) -> None:
    with pytest.raises(ValidationError, match="helthcheck"):
        Service.model_validate({**compose.services["postgres"].model_dump(), "helthcheck": {}})


def test_starts_every_worker_and_nothing_else(ours: dict[str, Service]) -> None:
    commands = {name: service.command for name, service in ours.items()}
    workers = {worker.value: ["worker", worker.value] for worker in Worker}
    assert commands == {**workers, "migrate": ["db", "upgrade"]}


def test_every_command_exists(ours: dict[str, Service]) -> None:
    lodge = [sys.executable, "-c", "from pipeline.interfaces.cli import main; main()"]
    for command in sorted({tuple((service.command or [])[:2]) for service in ours.values()}):
        asked = subprocess.run([*lodge, *command, "--help"], capture_output=True, text=True, timeout=60, check=False)
        assert asked.returncode == 0, f"lodge {' '.join(command)}: {asked.stderr}"


def test_whatever_is_referred_to_is_declared_and_whatever_is_declared_is_used(compose: Compose) -> None:
    services = compose.services.values()
    named_volumes = {volume.partition(":")[0] for service in services for volume in service.volumes}
    assert {secret for service in services for secret in service.secrets} == set(compose.secrets)
    assert {mount.source for service in services for mount in service.configs} == set(compose.configs)
    assert named_volumes == set(compose.volumes)
    assert {name for service in services for name in service.depends_on} <= set(compose.services)


def test_waits_for_health_only_where_health_is_checked(compose: Compose) -> None:
    waited_for = {
        name
        for service in compose.services.values()
        for name, dependency in service.depends_on.items()
        if dependency.condition == "service_healthy"
    }
    assert waited_for
    assert all(compose.services[name].healthcheck for name in waited_for)


def test_sets_only_variables_that_the_settings_know(ours: dict[str, Service]) -> None:
    known = {f"LODGE_{field}".upper() for field in Settings.model_fields} | {SETTINGS_FILE_VARIABLE}
    for service in ours.values():
        assert set(service.environment) <= known


def test_points_at_files_that_are_mounted(ours: dict[str, Service]) -> None:
    for service in ours.values():
        mounted = {str(SECRETS / secret) for secret in service.secrets} | {mount.target for mount in service.configs}
        assert {value for name, value in service.environment.items() if name.endswith("_FILE")} <= mounted


def test_holds_no_password_of_its_own(compose: Compose) -> None:
    for service in compose.services.values():
        for name, value in service.environment.items():
            if "PASS" in name or "://" in value:
                assert re.search(r"\$\{LODGE_\w+_PASSWORD:\?[^}]+\}", value), name


def test_our_processes_run_with_nothing_to_spare(ours: dict[str, Service]) -> None:
    for service in ours.values():
        assert service.read_only
        assert service.cap_drop == ["ALL"]
        assert service.security_opt == ["no-new-privileges:true"]
    assert "\nUSER lodge\n" in (ROOT / "Dockerfile").read_text()


def test_a_worker_is_given_longer_to_stop_than_an_exchange_may_take(ours: dict[str, Service]) -> None:
    workers = [service for service in ours.values() if service.command and service.command[0] == "worker"]
    longest = Timeouts().pool + Timeouts().total
    assert all(_seconds(service.stop_grace_period) > longest for service in workers)
    assert {service.restart for service in workers} == {"unless-stopped"}


def _seconds(duration: str | None) -> float:
    units = {"h": 3600, "m": 60, "s": 1}
    return sum(int(number) * units[unit] for number, unit in re.findall(r"(\d+)([hms])", duration or ""))
