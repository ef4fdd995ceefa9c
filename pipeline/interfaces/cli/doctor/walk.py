"""The doctor's walk: everything in its order; what depends on a failure is skipped by name, the rest is looked at."""

import os
from collections.abc import AsyncIterator, Iterator

from pipeline.interfaces.cli.doctor.catalogue import Check
from pipeline.interfaces.cli.doctor.endpoints import Stage, stage_of
from pipeline.interfaces.cli.doctor.keys import keystore_lines, master_key_line, password_line
from pipeline.interfaces.cli.doctor.line import Line, Role, failed, passed
from pipeline.interfaces.cli.doctor.online import agency_lines, broker_lines, database_lines, reach_lines
from pipeline.interfaces.cli.doctor.setup import environment_lines, machine_lines, settings_lines
from pipeline.interfaces.cli.doctor.visit import Scope, Visit, skipped_all
from pipeline.interfaces.cli.session import now
from pipeline.lodgment.errors import ConfigurationError
from pipeline.profiles import SANDBOX, environment_of
from pipeline.settings import EnvironmentSettings, Settings

_OF_ENVIRONMENT = (Check.ENDPOINT_AGENCY, Check.ENDPOINT_STS, Check.APPLIES_TO, Check.STAGES)
_OF_KEYS = (Check.PASSWORD_FILE, Check.KEYSTORE_FILE, Check.UNLOCK, Check.CREDENTIAL, Check.EXPIRY, Check.CHAIN)


async def walk(loaded: Settings | ConfigurationError, scope: Scope) -> AsyncIterator[Line]:
    """Look at everything; a line for each thing, as soon as it is known. Nothing is lodged, nothing is written."""
    for line in settings_lines(loaded, os.environ):
        yield line
    if isinstance(loaded, ConfigurationError):
        for line in _without_settings():
            yield line
        return
    visit = Visit(loaded, scope)
    for line in _environment(visit):
        yield line
    ca_file = None if visit.environment is None else visit.environment.ca_file
    for line in machine_lines(os.environ, loaded, ca_file):
        yield line
    for line in _keys(visit):
        yield line
    for part in (reach_lines, database_lines, broker_lines):
        for line in await part(visit):
            yield line
    async for line in agency_lines(visit):
        yield line


def _without_settings() -> Iterator[Line]:
    needs = f"needs {Check.SETTINGS_FIELDS}"
    yield from skipped_all((Check.SETTINGS_ENVIRONMENT, *_OF_ENVIRONMENT), needs)
    yield from machine_lines(os.environ, None, None)
    checks = list(Check)
    yield from skipped_all(checks[checks.index(Check.MASTER_KEY) :], needs)


def _environment(visit: Visit) -> Iterator[Line]:
    """The chosen environment, and the addresses in it."""
    try:
        visit.environment = _chosen(visit)
    except ConfigurationError as error:
        fix = "lodge sandbox serve" if error.code == "sandbox.none" else "Mend what this line names."
        yield failed(Check.SETTINGS_ENVIRONMENT, f"{error} [{error.code}]", fix, Role.OPERATOR)
        yield from skipped_all(_OF_ENVIRONMENT, f"needs {Check.SETTINGS_ENVIRONMENT}")
        return
    yield passed(Check.SETTINGS_ENVIRONMENT, f"{visit.settings.environment!r} is described")
    yield from environment_lines(visit.environment)


def _chosen(visit: Visit) -> EnvironmentSettings:
    """The environment; the sandbox's folder is looked for, and not made by looking."""
    settings = visit.settings
    if visit.sandbox:
        home = settings.home.resolve() / SANDBOX
        if not settings.sandbox_url.startswith("https://"):
            raise ConfigurationError("sandbox.url", "sandbox_url: must be https://: nothing is sent unencrypted")
        if not (home / "credentials.json").exists():
            text = f"there is no sandbox at {home} yet: start it, or set LODGE_HOME to where it is"
            raise ConfigurationError("sandbox.none", text)
    return environment_of(settings, now())


def _keys(visit: Visit) -> Iterator[Line]:
    line, visit.master_keys = master_key_line(visit.settings)
    yield line
    if visit.environment is None:
        yield from skipped_all(_OF_KEYS, f"needs {Check.SETTINGS_ENVIRONMENT}")
        return
    line, readable = password_line(visit.environment)
    yield line
    stage = Stage.TEST if visit.sandbox else stage_of(visit.environment.sts_url or visit.environment.agency_url)
    lines, visit.credential = keystore_lines(visit.environment, stage, now(), readable=readable)
    yield from lines
