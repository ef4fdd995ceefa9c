"""Settings and machine: what can be judged without a key and without a connection."""

import difflib
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from pipeline.interfaces.cli.doctor.catalogue import Check
from pipeline.interfaces.cli.doctor.endpoints import judge_agency, judge_applies_to, judge_stages, judge_sts
from pipeline.interfaces.cli.doctor.line import Line, Role, failed, passed, skipped, warned
from pipeline.lodgment.errors import ConfigurationError
from pipeline.protocol.libraries import REMEDY, XmlLibraries, xml_libraries
from pipeline.settings import SETTINGS_FILE_VARIABLE, EnvironmentSettings, Settings

_PREFIX = "LODGE_"
_PROXIES = ("http_proxy", "https_proxy", "all_proxy")
_AUTHORITIES = ("SSL_CERT_FILE", "SSL_CERT_DIR")
_GIGABYTE = 1_000_000_000
_DISK_FULL = 200_000_000
_DISK_LOW = 2 * _GIGABYTE


def settings_lines(loaded: Settings | ConfigurationError, variables: Mapping[str, str]) -> Iterator[Line]:
    """The settings' file, the variables over it, and whether they make sense together."""
    path = variables.get(SETTINGS_FILE_VARIABLE)
    if isinstance(loaded, ConfigurationError) and loaded.code == "settings.file":
        yield failed(Check.SETTINGS_FILE, f"{loaded}", f"Mend the file, or {SETTINGS_FILE_VARIABLE}.", Role.OPERATOR)
    else:
        found = f"{path} was read" if path else f"none is named ({SETTINGS_FILE_VARIABLE}): defaults and variables"
        yield passed(Check.SETTINGS_FILE, found)
    yield judge_variables(variables)
    if isinstance(loaded, Settings):
        mode = "embedded" if loaded.embedded else "RabbitMQ"
        yield passed(Check.SETTINGS_FIELDS, f"all are known and fit; environment {loaded.environment!r}, {mode}")
    elif loaded.code == "settings.file":
        yield skipped(Check.SETTINGS_FIELDS, "the settings could not be read")
    else:
        fix = "Mend the fields that are named; docs/operations.md lists all settings."
        yield failed(Check.SETTINGS_FIELDS, str(loaded), fix, Role.OPERATOR)


def judge_variables(variables: Iterable[str]) -> Line:
    """Whether every LODGE_… variable is a setting: one that is not is ignored by whoever reads the environment."""
    known = {f"{_PREFIX}{name.upper()}" for name in Settings.model_fields} | {SETTINGS_FILE_VARIABLE}
    # Fields in sections are written with two underscores; which of them exist, the settings check themselves.
    given = sorted(name for name in map(str.upper, variables) if name.startswith(_PREFIX))
    strange = [name for name in given if name.split("__", maxsplit=1)[0] not in known]
    if not strange:
        return passed(Check.SETTINGS_VARIABLES, ", ".join(given) or "no LODGE_… variable is set")
    hints = {name: difflib.get_close_matches(name, known, n=1) for name in strange}
    found = "; ".join(
        f"{name} is no setting" + (f" (meant: {near[0]}?)" if near else "") for name, near in hints.items()
    )
    return warned(Check.SETTINGS_VARIABLES, found, "Correct or remove it: it is ignored.", Role.OPERATOR)


def environment_lines(environment: EnvironmentSettings) -> Iterator[Line]:
    """Where the agencies are said to be."""
    yield judge_agency(environment.agency_url)
    addresses = {"agency_url": environment.agency_url}
    if environment.sts_url is None or environment.applies_to is None:
        yield from (skipped(one, "this environment needs no token") for one in (Check.ENDPOINT_STS, Check.APPLIES_TO))
    else:
        yield judge_sts(environment.sts_url)
        yield judge_applies_to(environment.applies_to)
        addresses |= {"sts_url": environment.sts_url, "applies_to": environment.applies_to}
    yield judge_stages(addresses)


def machine_lines(variables: Mapping[str, str], settings: Settings | None, ca_file: Path | None) -> Iterator[Line]:
    """Libraries, variables that others obey, folders."""
    yield judge_libraries(xml_libraries())
    yield judge_proxies(variables)
    yield judge_trust(variables, ca_file)
    if settings is None:
        yield from (skipped(one, "the settings could not be read") for one in (Check.DISK, Check.PAYLOADS))
        return
    home = settings.home.resolve()
    there = next(folder for folder in (home, *home.parents) if folder.exists())
    try:
        usage = shutil.disk_usage(there)
    except OSError as error:
        yield failed(Check.DISK, f"{there}: {error.strerror}", "See that the folder can be read.", Role.OPERATOR)
    else:
        yield judge_disk(there, usage.free, usage.total)
    yield judge_payload_roots({root: _access(root) for root in settings.payload_roots})


def judge_libraries(libraries: XmlLibraries) -> Line:
    """One libxml2 for lxml and xmlsec (security case 48)."""
    ours = ".".join(map(str, libraries.lxml))
    if libraries.xmlsec is None:
        return failed(Check.LIBRARIES, f"lxml has libxml2 {ours}; xmlsec: {libraries.refused}", REMEDY, Role.OPERATOR)
    theirs = ".".join(map(str, libraries.xmlsec))
    if ours != theirs:
        return failed(Check.LIBRARIES, f"lxml has libxml2 {ours}, xmlsec has {theirs}", REMEDY, Role.OPERATOR)
    return passed(Check.LIBRARIES, f"lxml and xmlsec share libxml2 {ours}")


def judge_proxies(variables: Iterable[str]) -> Line:
    """Proxies that are named in the environment. Their values may hold a password and are not shown."""
    named = sorted(name for name in variables if name.lower() in _PROXIES)
    if not named:
        return passed(Check.PROXY, "no proxy is named in the environment")
    return passed(Check.PROXY, f"{', '.join(named)}: ignored; connections go straight to the agencies")


def judge_trust(variables: Iterable[str], ca_file: Path | None) -> Line:
    """Whose authorities vouch for the agencies' servers."""
    named = [name for name in _AUTHORITIES if name in set(variables)]
    if ca_file is not None:
        return passed(Check.TRUST, f"only the authorities in {ca_file}")
    if named:
        found = f"{', '.join(named)} replaces the system's authorities"
        return warned(Check.TRUST, found, "Unset it, or name the authorities in ca_file.", Role.OPERATOR)
    return passed(Check.TRUST, "the system's authorities")


def judge_disk(folder: Path, free: int, total: int) -> Line:
    """Room for the ledger and its journal. `free` and `total` in bytes."""
    found = f"{folder}: {free / _GIGABYTE:.1f} of {total / _GIGABYTE:.1f} GB free"
    measured = {"free_bytes": float(free), "total_bytes": float(total)}
    if free >= _DISK_LOW:
        return passed(Check.DISK, found, measured=measured)
    judged = failed if free < _DISK_FULL else warned
    return judged(Check.DISK, found, "Make room, or put `home` on a larger disk.", Role.OPERATOR, measured=measured)


def judge_payload_roots(access: Mapping[Path, str]) -> Line:
    """The folders of `file:` payloads; `access` says what is wrong with each, or nothing."""
    wrong = [f"{root} {fault}" for root, fault in access.items() if fault]
    if wrong:
        fix = "Mount or create it, and let the user that runs the workers read and enter it."
        return failed(Check.PAYLOADS, "; ".join(wrong), fix, Role.OPERATOR)
    return passed(Check.PAYLOADS, ", ".join(map(str, access)) or "none is set: documents come inside the jobs")


def _access(root: Path) -> str:
    if not root.exists():
        return "is not there"
    if not root.is_dir():
        return "is no folder"
    return "" if os.access(root, os.R_OK | os.X_OK) else "may not be read by this user"
