"""What `lodge doctor` looks at, in the order in which one thing needs the other."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from pipeline.bootstrap import open_broker, open_keyring, open_ledger
from pipeline.interfaces.cli.conversation import Agencies, Sender, agencies
from pipeline.interfaces.cli.screen import span, when
from pipeline.interfaces.cli.session import embedded_file, now, opened_ledger
from pipeline.lodgment.errors import ConfigurationError, PipelineError
from pipeline.lodgment.failures import Failure, Party
from pipeline.profiles import SANDBOX, environment_of
from pipeline.protocol.credential import Credential
from pipeline.protocol.keystore import KeystoreError
from pipeline.protocol.wstrust import SecurityToken
from pipeline.settings import EnvironmentSettings, Settings

_PATIENCE = timedelta(seconds=30)
_BROKER_PATIENCE = 10.0
_EXPIRY_WARNING = timedelta(days=30)
_SKEW_TOLD = timedelta(seconds=5)
_SKEW_TOO_MUCH = timedelta(minutes=2)
_NETWORK_FIXES = {
    "transport.resolve": "Check the host name in the settings, and this machine's DNS.",
    "transport.connect": "Check the address in the settings, and that the firewall lets this machine out.",
    "transport.connect-timeout": "Check the address in the settings, and that the firewall lets this machine out.",
    "transport.certificate": "The server's certificate is not trusted: check ca_file, host name, this machine's clock.",
    "transport.tls": "No TLS 1.2 or better came about: check address and port, and proxies on the way.",
}
_SANDBOX_FIX = "Start it: lodge sandbox serve"


class Verdict(StrEnum):
    PASS = "pass"  # noqa: S105  - a verdict, not a secret
    WARN = "warn"
    FAIL = "fail"
    SKIP = "skip"


@dataclass(frozen=True, slots=True)
class Line:
    """One thing looked at: what was found, and unless it is well, what to do and who does it."""

    check: str
    verdict: Verdict
    found: str
    fix: str = ""
    who: Party = Party.NOBODY


@dataclass(frozen=True, slots=True)
class Scope:
    """How far to go: `offline` asks neither the agency nor its token service; without a sender no ping is sent."""

    offline: bool
    sender: Sender | None


async def examine(settings: Settings, scope: Scope) -> AsyncIterator[Line]:
    """Look at everything; a line for each thing, as soon as it is known."""
    yield _passed("settings", f"environment {settings.environment}, {'embedded' if settings.embedded else 'RabbitMQ'}")
    yield await _ledger(settings)
    yield await _broker(settings)
    try:
        environment = environment_of(settings, now())
        keyring = open_keyring(environment)
        credentials = () if keyring is None else keyring.all()
        credential = None if keyring is None else keyring.get(environment.credential)
    except (PipelineError, KeystoreError) as error:
        yield _failed("keystore" if isinstance(error, KeystoreError) else "environment", error)
        return
    if isinstance(credential, Failure):
        yield _of_failure("keystore", credential, settings)
        return
    if credential is None:
        yield _passed("credential", "user name and password; no keystore in this environment")
    else:
        yield _passed("keystore", f"unlocked; {len(credentials)} credential(s)")
        yield judge_expiry(credential.id, credential.not_after, now())
    if scope.offline:
        yield Line("network", Verdict.SKIP, "--offline: neither the agency nor its token service was asked")
        return
    try:
        async with agencies(settings, environment, min(environment.agency_timeout, _PATIENCE)) as them:
            async for line in _network(settings, environment, them, credential, scope.sender):
                yield line
    except ConfigurationError as error:
        yield _failed("trust", error)


async def _network(
    settings: Settings,
    environment: EnvironmentSettings,
    them: Agencies,
    credential: Credential | None,
    sender: Sender | None,
) -> AsyncIterator[Line]:
    wsdl = await them.wsdl()
    if isinstance(wsdl.answer, Failure):
        yield _of_failure("agency", wsdl.answer, settings)
        return
    described = 200 <= wsdl.answer < 300
    fix = (
        ""
        if described
        else "Check agency_url and the ping path; at the agency's gate, ask for this address to be let in."
    )
    verdict = Verdict.PASS if described else Verdict.WARN
    found = f"TLS verified; {them.wsdl_url} answered HTTP {wsdl.answer} in {_seconds(wsdl.took)}"
    yield Line("agency", verdict, found, fix, Party.NOBODY if described else Party.OPERATOR)
    yield judge_clock(wsdl.skew)
    token: SecurityToken | None = None
    if environment.sts_url is not None and credential is not None:
        reached = await them.get(environment.sts_url)
        if isinstance(reached.answer, Failure):
            yield _of_failure("token service", reached.answer, settings)
            return
        yield _passed("token service", f"TLS verified; {environment.sts_url} answers in {_seconds(reached.took)}")
        asked = await them.token(credential, reached.skew)
        if isinstance(asked.answer, Failure):
            yield _of_failure("token", asked.answer, settings)
            return
        token = asked.answer
        left = span(token.expires_at - now())
        yield _passed("token", f"given to {credential.id} in {_seconds(asked.took)}, good for {left}")
    yield await _ping(settings, them, credential, token, sender)


async def _ping(
    settings: Settings,
    them: Agencies,
    credential: Credential | None,
    token: SecurityToken | None,
    sender: Sender | None,
) -> Line:
    if sender is None:
        return Line("ping", Verdict.SKIP, "not sent: it must say who asks", "Give --sender-id and --sender-type.")
    echo = await them.ping(sender, credential, token)
    if isinstance(echo.answer, Failure):
        return _of_failure("ping", echo.answer, settings)
    return _passed("ping", f"sealed, sent and echoed in {_seconds(echo.took)}: the agency takes our messages")


async def _ledger(settings: Settings) -> Line:
    file = embedded_file(settings)
    if file is not None and not file.exists():
        return _passed("ledger", f"none yet; it and its master key are made at {file} by the first `lodge submit`")
    try:
        await open_ledger(settings).close()
    except ConfigurationError as error:
        return _failed("master key" if error.code.startswith(("master-key", "secret", "vault")) else "ledger", error)
    try:
        async with opened_ledger(settings):
            return _passed("ledger", "reached, its schema is as this program needs it, and the master key is there")
    except PipelineError as error:
        return _failed("ledger", error)


async def _broker(settings: Settings) -> Line:
    if settings.embedded:
        return _passed("broker", "embedded: nothing to reach")
    broker = open_broker(settings)
    try:
        async with asyncio.timeout(_BROKER_PATIENCE):
            await broker.open()
            depths = await broker.depths()
    except TimeoutError:
        error = ConfigurationError(
            "broker.silent", f"broker: no answer within {_BROKER_PATIENCE:g} s; check broker_urls"
        )
        return _failed("broker", error)
    except PipelineError as error:
        return _failed("broker", error)
    finally:
        await broker.close()
    return _passed("broker", f"reached; {sum(depths.values())} messages ready in {len(depths)} queues")


def judge_expiry(credential: str, not_after: datetime, moment: datetime) -> Line:
    """How long a machine credential lasts."""
    left = not_after - moment
    until = f"{credential} until {when(not_after)}"
    if left <= timedelta(0):
        fix = "Renew the machine credential in RAM and put the new keystore in place; no restart is needed."
        return Line("credential", Verdict.FAIL, f"EXPIRED: {until}", fix, Party.OPERATOR)
    if left < _EXPIRY_WARNING:
        fix = "Renew the machine credential in RAM now; no restart is needed."
        return Line("credential", Verdict.WARN, f"{until}: {span(left)} left", fix, Party.OPERATOR)
    return _passed("credential", until)


def judge_clock(skew: timedelta) -> Line:
    """How far the agency's clock is ahead of ours."""
    if abs(skew) < _SKEW_TOLD:
        return _passed("clock", "as the agency's, as far as can be seen")
    direction = "behind" if skew > timedelta(0) else "ahead of"
    verdict = Verdict.FAIL if abs(skew) >= _SKEW_TOO_MUCH else Verdict.WARN
    fix = "Set this machine's clock by NTP: messages out of time are refused."
    return Line("clock", verdict, f"{span(abs(skew))} {direction} the agency's", fix, Party.OPERATOR)


def _passed(check: str, found: str) -> Line:
    return Line(check, Verdict.PASS, found)


def _failed(check: str, error: PipelineError | KeystoreError) -> Line:
    return Line(check, Verdict.FAIL, f"{error} [{error.code}]", "Mend what this line names.", Party.OPERATOR)


def _of_failure(check: str, failure: Failure, settings: Settings) -> Line:
    fix, who = _NETWORK_FIXES.get(failure.code, failure.advice), failure.who
    if failure.code == "transport.connect" and settings.environment == SANDBOX:
        fix, who = _SANDBOX_FIX, Party.OPERATOR
    found = f"{failure.code}: {failure.detail}" if failure.detail else failure.code
    return Line(check, Verdict.FAIL, found, fix, who)


def _seconds(took: timedelta) -> str:
    return f"{took.total_seconds():.2f} s"
