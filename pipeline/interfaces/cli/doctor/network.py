"""Every host and port on its own: name, TCP and TLS, each timed, so that a firewall is told from a dead server."""

import asyncio
import ssl
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from urllib.parse import urlsplit

from pipeline.broker.inspection import broker_address
from pipeline.gateway.client import TlsSettings, tls_context
from pipeline.gateway.probe import Fault, Probe, probe
from pipeline.interfaces.cli.doctor.catalogue import Check
from pipeline.interfaces.cli.doctor.line import Line, Role, Verdict, failed, passed, skipped, warned
from pipeline.interfaces.cli.screen import span, when
from pipeline.ledger.inspection import server_address
from pipeline.lodgment.errors import ConfigurationError
from pipeline.settings import EnvironmentSettings, Settings

PATIENCE = 8.0
"""Seconds for each of name, TCP and TLS: a firewall that drops is silent for ever."""

_CERTIFICATE_WARNING = timedelta(days=14)
_SKEW_TOLD = timedelta(seconds=5)
_SKEW_TOO_MUCH = timedelta(minutes=2)
_HTTPS = 443
_START_SANDBOX = "Start it: lodge sandbox serve"

_TLS_OF = {Check.REACH_STS: Check.TLS_STS, Check.REACH_AGENCY: Check.TLS_AGENCY}
_KEEPER = {Check.REACH_BROKER: Role.BROKER, Check.REACH_DATABASE: Role.DATABASE}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One host and port that this environment needs."""

    check: Check
    host: str
    port: int
    secure: bool
    sandbox: bool = False

    @property
    def name(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Reached:
    """What the probes found, by check; of several brokers each has its own."""

    probes: Mapping[Endpoint, Probe]

    def refused(self, check: Check, name: str | None = None) -> bool:
        """Whether one of this check's endpoints (or the one with this name) took no connection."""
        return any(
            not one.reached for end, one in self.probes.items() if end.check is check and name in {None, end.name}
        )

    def needs(self, check: Check) -> str | None:
        """What is to be mended before a web conversation makes sense; None when the way is free."""
        found = [one for end, one in self.probes.items() if end.check is check]
        if all(one.reached and one.well for one in found) and found:
            return None
        return f"needs {_TLS_OF[check] if any(one.reached for one in found) else check}"

    def timings(self, check: Check) -> dict[str, float]:
        """Seconds for name, TCP and TLS."""
        for end, one in self.probes.items():
            if end.check is check:
                return _measured(one)
        return {}


def endpoints(settings: Settings, environment: EnvironmentSettings | None, *, sandbox: bool) -> list[Endpoint]:
    """Whom this pipeline talks to. Addresses that cannot be read are told by their own lines, and left out here."""
    found = []
    if environment is not None:
        for check, url in ((Check.REACH_STS, environment.sts_url), (Check.REACH_AGENCY, environment.agency_url)):
            if url is not None and (place := _web_address(url)) is not None:
                found.append(Endpoint(check, *place, secure=True, sandbox=sandbox))
    for url in settings.broker_urls:
        try:
            found.append(Endpoint(Check.REACH_BROKER, *broker_address(url), secure=False))
        except ConfigurationError:
            continue
    try:
        server = server_address(settings.ledger())
    except ConfigurationError:
        server = None
    if server is not None:
        found.append(Endpoint(Check.REACH_DATABASE, *server, secure=False))
    return found


async def reach(ends: Sequence[Endpoint], ca_file: TlsSettings) -> Reached:
    """Probe all of them at the same time."""
    try:
        context: ssl.SSLContext | None = tls_context(ca_file)
    except ConfigurationError:
        context = None  # told where the trusted authorities are judged; TCP can still be tried
    work = (probe(end.host, end.port, context if end.secure else None, PATIENCE) for end in ends)
    return Reached(dict(zip(ends, await asyncio.gather(*work), strict=True)))


def network_lines(reached: Reached, moment: datetime) -> Iterator[Line]:
    """A line for each port, and one for each TLS."""
    for end, found in reached.probes.items():
        yield judge_reach(end, found)
    for end, found in reached.probes.items():
        if end.secure:
            yield judge_tls(end, found, moment)


def judge_reach(end: Endpoint, found: Probe) -> Line:
    """Name and TCP."""
    measured = _measured(found)
    if found.reached:
        times = f"name {_ms(found.resolved)}, TCP {_ms(found.connected)}"
        return passed(end.check, f"{found.address} takes connections ({times})", end.name, measured=measured)
    fix, who = _way_out(end, found)
    told = f"{found.fault}: {found.detail}"
    return Line(end.check, Verdict.FAIL, told, fix, who, end.name, measured)


def _way_out(end: Endpoint, found: Probe) -> tuple[str, tuple[Role, ...]]:
    if end.sandbox and found.fault is Fault.REFUSED:
        return _START_SANDBOX, (Role.OPERATOR,)
    keeper = _KEEPER.get(end.check, Role.AGENCY)
    match found.fault:
        case Fault.NAME | Fault.NAME_TIMEOUT:
            return f"Check the host name {end.host} in the settings, then this machine's DNS.", (
                Role.OPERATOR,
                Role.NETWORK,
            )
        case Fault.REFUSED:
            text = f"Nobody listens there, or a firewall refuses: check the port {end.port}, then ask whoever runs it."
            return text, (Role.OPERATOR, keeper)
        case _:
            text = f"Let this machine out to {end.name} (TCP) in every firewall on the way."
            return text, (Role.NETWORK,)


def judge_tls(end: Endpoint, found: Probe, moment: datetime) -> Line:
    """What was agreed with whom, or why nothing was."""
    check = _TLS_OF[end.check]
    if not found.reached:
        return skipped(check, f"needs {end.check}", end.name)
    if found.handshake is not None:
        agreed = found.handshake
        left = agreed.not_after - moment
        days = round(left / timedelta(days=1), 2)
        text = f"{agreed.version} ({agreed.cipher}) in {_ms(found.secured)}; issued by {agreed.issuer}"
        text = f"{text}, until {when(agreed.not_after)} ({span(left)} left)"
        if left < _CERTIFICATE_WARNING and not end.sandbox:
            fix = "Tell the agency that its server's certificate is about to end; nothing is to be changed here."
            return warned(check, text, fix, Role.AGENCY, subject=end.name, measured={"certificate_left_days": days})
        return passed(check, text, end.name, measured={"certificate_left_days": days})
    if found.fault is None:
        return skipped(check, "the trusted authorities in ca_file could not be read", end.name)
    fix, who = _TLS_FIXES.get(found.fault, _TLS_OTHER)
    return failed(check, f"{found.fault}: {found.detail}", fix, *who, subject=end.name)


_AT_THE_AGENCY = (Role.AGENCY, Role.OPERATOR)
_TLS_OTHER = ("Check address and port, and whatever opens TLS on the way.", (Role.OPERATOR, Role.NETWORK))
_TLS_FIXES: Mapping[Fault, tuple[str, tuple[Role, ...]]] = {
    Fault.NOT_TLS: ("That port speaks no TLS: check the port in the address.", (Role.OPERATOR,)),
    Fault.OLD_TLS: (
        "The server offers no TLS 1.2 or 1.3: check the address, then tell whoever runs it.",
        _AT_THE_AGENCY,
    ),
    Fault.HUNG_UP: (
        "It hung up while TLS was agreed: check the port, whether the server offers TLS 1.2 or 1.3, and firewalls.",
        (Role.OPERATOR, Role.NETWORK),
    ),
    Fault.TLS_TIMEOUT: ("The port is open and silent: check it, and firewalls that inspect TLS.", (Role.NETWORK,)),
    Fault.EXPIRED: ("The server's certificate has ended: check the address and this machine's clock.", _AT_THE_AGENCY),
    Fault.WRONG_HOST: (
        "The certificate is for another host: check the address; never work around it.",
        (Role.OPERATOR, Role.NETWORK),
    ),
    Fault.SELF_SIGNED: (
        "Nobody vouches for this server: something on the way opens TLS, or ca_file is missing.",
        (Role.NETWORK, Role.OPERATOR),
    ),
    Fault.UNKNOWN_ISSUER: (
        "Its authority is not trusted: check ca_file, the system's authorities, and what opens TLS on the way.",
        (Role.OPERATOR, Role.NETWORK),
    ),
    Fault.CERTIFICATE: (
        "The server's certificate is refused: check address, ca_file and this machine's clock.",
        (Role.OPERATOR,),
    ),
}


def judge_clock(check: Check, skew: timedelta, whose: str) -> Line:
    """How far the other clock is ahead of ours. HTTP dates are whole seconds, so a second says nothing."""
    seconds = skew.total_seconds()
    if abs(skew) < _SKEW_TOLD:
        return passed(
            check, f"as {whose}'s, as far as can be seen ({seconds:+.1f} s)", measured={"skew_seconds": seconds}
        )
    direction = "behind" if skew > timedelta(0) else "ahead of"
    verdict = Verdict.FAIL if abs(skew) >= _SKEW_TOO_MUCH else Verdict.WARN
    fix = "Set this machine's clock by NTP (`timedatectl` shows whether it is): messages out of time are refused."
    found = f"{span(abs(skew))} {direction} {whose}'s"
    return Line(check, verdict, found, fix, (Role.OPERATOR,), measured={"skew_seconds": seconds})


def _web_address(url: str) -> tuple[str, int] | None:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or _HTTPS
    except ValueError:
        return None
    return (host, port) if host and parts.scheme == "https" else None


def _measured(found: Probe) -> dict[str, float]:
    steps = {"name_seconds": found.resolved, "tcp_seconds": found.connected, "tls_seconds": found.secured}
    return {name: round(took.total_seconds(), 6) for name, took in steps.items() if took is not None}


def _ms(took: timedelta | None) -> str:
    return f"{(took or timedelta(0)) / timedelta(milliseconds=1):.0f} ms"
