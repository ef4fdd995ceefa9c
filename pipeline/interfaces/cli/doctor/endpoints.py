"""Addresses judged before anybody is asked: hosts that are known, relying parties by their exact names, and stages.

Hosts and relying parties are those that the agencies publish for MAS-ST, SBR, ASIC and USI; they judge what is set and
are never used in its place.
"""

import re
from collections.abc import Mapping
from enum import StrEnum
from urllib.parse import urlsplit

from pipeline.interfaces.cli.doctor.catalogue import Check
from pipeline.interfaces.cli.doctor.line import Line, Role, Verdict, failed, passed, warned

STS_PATH = "/R3.0/S007v1.3/service.svc"
_LEGACY_STS_PATH = "/R3.0/S007v1.2/service.svc"
_STS_HOST = "softwareauthorisations.ato.gov.au"
_STS_TEST_HOST = "softwareauthorisations.evte.ato.gov.au"
_DEAD = {
    # Its certificate ended on 2024-04-15; since 2024-04-23 every request is answered HTTP 410.
    "softwareauthorisations.acc.ato.gov.au": f"https://{_STS_TEST_HOST}{STS_PATH}",
}
_AUSKEY = re.compile(r"(^|\.)(vanguard\.(e?business|gov)\b.*|vanguard.*\.gov\.au)$")


class Stage(StrEnum):
    """Which world an address belongs to. What is not recognised takes no part in the comparison."""

    TEST = "test"
    PRODUCTION = "production"
    UNKNOWN = "unknown"


_TEST_LABELS = re.compile(r"^(acc|evte\d*|uat\d*|test\d*|3pt|preprod\d*|sandbox|localhost|invalid)$")

_RELYING_PARTIES: Mapping[str, str] = {
    "test.sbr.gov.au": "https://test.sbr.gov.au/services",
    "sbr.gov.au": "https://sbr.gov.au/services",
    "m2m.uat.asic.gov.au": "https://m2m.uat.asic.gov.au",
    "m2m.asic.gov.au": "https://m2m.asic.gov.au",
    "3pt.portal.usi.gov.au": "https://3pt.portal.usi.gov.au/service/v5/usiservice.svc",
    "portal.usi.gov.au": "https://portal.usi.gov.au/service/v5/usiservice.svc",
}
"""By host, the one spelling that the token service takes now."""

_ALIASES: Mapping[str, str] = {"www.sbr.gov.au": "sbr.gov.au", "www.test.sbr.gov.au": "test.sbr.gov.au"}


def stage_of(url: str) -> Stage:
    """Test or production, told from the host; only the government's own hosts can be production."""
    host = _host(url)
    if any(_TEST_LABELS.match(label) for label in host.split(".")):
        return Stage.TEST
    return Stage.PRODUCTION if host.endswith(".gov.au") else Stage.UNKNOWN


def judge_agency(url: str) -> Line:
    """The agency's gateway: https, a host, and no more than that."""
    if (fault := _fault(url)) is not None:
        return failed(
            Check.ENDPOINT_AGENCY, f"{_shown(url)}: {fault}", "Set agency_url to https://host.", Role.OPERATOR
        )
    if urlsplit(url).path.strip("/"):
        fix = "Leave the path out of agency_url: each service brings its own."
        return warned(Check.ENDPOINT_AGENCY, f"{_shown(url)}: has a path", fix, Role.OPERATOR)
    return passed(Check.ENDPOINT_AGENCY, f"{_shown(url)} ({stage_of(url)})")


def judge_sts(url: str) -> Line:
    """The token service: not the host that is gone, not AUSkey's, and the path of the service as it is now."""
    check, host = Check.ENDPOINT_STS, _host(url)
    if host in _DEAD:
        found = f"{host} was switched off in April 2024 (HTTP 410)"
        return failed(check, found, f"Set sts_url to {_DEAD[host]}", Role.OPERATOR)
    if (fault := _fault(url)) is not None:
        return failed(check, f"{_shown(url)}: {fault}", "Set sts_url to https://host/path.", Role.OPERATOR)
    if _AUSKEY.search(host):
        found = f"{host} is the token service of AUSkey times"
        fix = f"Point sts_url to MAS-ST: https://{_STS_TEST_HOST}{STS_PATH} for tests; production leaves .evte out."
        return failed(check, found, fix, Role.OPERATOR)
    path = urlsplit(url).path
    if host in {_STS_HOST, _STS_TEST_HOST} and path != STS_PATH:
        known = "the legacy service (SHA-1)" if path == _LEGACY_STS_PATH else "no path of this service that is known"
        return warned(check, f"{path or '/'}: {known}", f"Set sts_url to https://{host}{STS_PATH}", Role.OPERATOR)
    return passed(check, f"{_shown(url)} ({stage_of(url)})")


def judge_applies_to(value: str) -> Line:
    """The relying party: compared letter by letter by the token service, so known ones must be spelt as known."""
    check = Check.APPLIES_TO
    host = _host(value)
    wanted = _RELYING_PARTIES.get(_ALIASES.get(host, host))
    if value != value.strip():
        fix = f"Set applies_to to {wanted or value.strip()}"
        return failed(check, "there is white space around it", fix, Role.OPERATOR)
    if wanted is None:
        if urlsplit(value).scheme not in {"https", "http", "urn"}:
            fix = "Set applies_to to the relying party's full address, as the agency gives it."
            return failed(check, f"{_shown(value)} is no absolute address", fix, Role.OPERATOR)
        return passed(check, f"{_shown(value)}: none of the relying parties that are known here; the token will tell")
    if value == wanted:
        return passed(check, f"{value} ({stage_of(value)})")
    # A full service address below the root still gets a token for the root; anything else is another name.
    verdict = Verdict.WARN if value.startswith(f"{wanted}/") and value != f"{wanted}/" else Verdict.FAIL
    found = f"{_shown(value)}: {_difference(value, wanted)}"
    return Line(check, verdict, found, f"Set applies_to to {wanted}", (Role.OPERATOR,))


def judge_stages(addresses: Mapping[str, str]) -> Line:
    """All addresses of one environment must be of one stage. `addresses` are by the setting's name."""
    stages = {name: stage_of(url) for name, url in addresses.items()}
    known = {stage for stage in stages.values() if stage is not Stage.UNKNOWN}
    if len(known) > 1:
        found = ", ".join(f"{name} is {stage}" for name, stage in stages.items() if stage is not Stage.UNKNOWN)
        return failed(Check.STAGES, found, "Take all of them from one environment of the agency.", Role.OPERATOR)
    return passed(Check.STAGES, f"all {known.pop()}" if known else "not recognised as the agencies' own")


def _fault(url: str) -> str | None:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return "cannot be read"
    if parts.scheme == "http":
        return "is http://, and nothing is sent unencrypted"
    if parts.scheme != "https" or not parts.hostname:
        return "is not https with a host"
    if parts.username is not None:
        return "holds a user name"
    return None


def _difference(value: str, wanted: str) -> str:
    if value.rstrip("/") == wanted:
        return "has a slash at its end"
    if value.lower() == wanted.lower():
        return "differs in upper and lower case"
    if value.startswith("http://"):
        return "is http://; the name is the https one"
    if value.startswith(f"{wanted}/"):
        return "is the address of one service; the root stands for all"
    return "is not the name that the token service knows now"


def _host(url: str) -> str:
    try:
        return (urlsplit(url.strip()).hostname or "").rstrip(".")
    except ValueError:
        return ""


def _shown(url: str) -> str:
    """Without what may be a secret: user, password, query."""
    try:
        parts = urlsplit(url)
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname or ""
        port = "" if parts.port is None else f":{parts.port}"
    except ValueError:
        return "the address"
    return f"{parts.scheme}://{host}{port}{parts.path}" if host else url[:200]
