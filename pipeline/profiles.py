"""From settings to what channels, gateways and stages are told about one environment."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

from cryptography.x509 import Certificate, load_pem_x509_certificates

from pipeline.channels.asic_bn import AsicBusinessNames
from pipeline.channels.asic_profile import (
    AsicProfile,
    BasicCredentials,
    ServiceEntry,
    Software,
    TokenTerms,
    business_names,
)
from pipeline.channels.contract import Channel
from pipeline.channels.mas_st import CLAIMS, StsProfile
from pipeline.channels.sbr2_profile import Gate, Sbr2Profile
from pipeline.channels.sbr2_stp import Sbr2Stp
from pipeline.gateway.client import Timeouts
from pipeline.lodgment.decisions import Closedown, Delays, RetryPolicy
from pipeline.lodgment.errors import ConfigurationError
from pipeline.protocol.sbr_ebms3 import Software as RegisteredSoftware
from pipeline.sandbox.home import APPLIES_TO, open_home
from pipeline.sandbox.sts import STS_PATH
from pipeline.settings import EnvironmentSettings, Sbr2Settings, Settings, read_secret
from pipeline.stages.contract import Timing

SANDBOX = "sandbox"
_SANDBOX_TIMEOUT = timedelta(seconds=15)


def environment_of(settings: Settings, now: datetime) -> EnvironmentSettings:
    """The chosen environment; the sandbox describes itself from its folder, which is made when it is not there yet.

    Raises:
        ConfigurationError: `settings.environment` when the settings describe no such environment.
    """
    chosen = settings.environments.get(settings.environment)
    if chosen is not None:
        return chosen
    if settings.environment != SANDBOX:
        known = ", ".join(sorted({SANDBOX, *settings.environments}))
        text = f"environment: {settings.environment!r} is not described in [environments]; there are: {known}"
        raise ConfigurationError("settings.environment", text)
    home = open_home(settings.home.resolve() / SANDBOX, now)
    return EnvironmentSettings(
        agency_url=settings.sandbox_url,
        sts_url=f"{settings.sandbox_url}{STS_PATH}",
        applies_to=APPLIES_TO,
        ca_file=home.ca_file,
        keystore=home.keystore_file,
        keystore_password_file=home.keystore_password_file,
        credential=home.credential().id,
        agency_timeout=_SANDBOX_TIMEOUT,
        poll_first=timedelta(seconds=2),
        unavailable_first=timedelta(seconds=2),
        retry_first=timedelta(seconds=1),
    )


def asic_profile(settings: Settings, environment: EnvironmentSettings) -> AsicProfile:
    """What the ASIC channel is told."""
    software = settings.software
    return AsicProfile(
        environment=settings.environment,
        base_url=environment.agency_url.rstrip("/"),
        authentication=_authentication(environment),
        software=None if software is None else Software(software.organisation, software.product, software.version),
        services=_services(environment),
    )


def channels(settings: Settings, environment: EnvironmentSettings) -> dict[str, Channel]:
    """The agency interfaces that this environment describes, by name."""
    found: list[Channel] = [AsicBusinessNames(asic_profile(settings, environment))]
    if environment.sbr2 is not None:
        found.append(Sbr2Stp(sbr2_profile(settings.environment, environment, environment.sbr2)))
    return {channel.name: channel for channel in found}


def sbr2_profile(name: str, environment: EnvironmentSettings, sbr2: Sbr2Settings) -> Sbr2Profile:
    """What the SBR2 channel is told.

    Raises:
        ConfigurationError: `settings.agency-certificates`.
    """
    assert environment.sts_url is not None  # noqa: S101  - the settings' own rule
    polls = Delays(sbr2.poll_first, 2, sbr2.poll_longest)
    return Sbr2Profile(
        environment=name,
        gates={key: Gate.at(url) for key, url in sbr2.gateways.items()},
        gate=sbr2.gateway,
        terms=TokenTerms(environment.sts_url, sbr2.applies_to, CLAIMS, environment.key_size),
        software=RegisteredSoftware(sbr2.product_id, sbr2.vendor, sbr2.name, sbr2.version),
        domain=sbr2.domain,
        policy=replace(
            policy(environment),
            poll=polls,
            late_after=sbr2.late_after,
            closing_after=sbr2.closing_after,
            give_up_after=sbr2.give_up_after,
            closedowns=tuple(Closedown(one.start, one.end) for one in sbr2.closedowns),
        ),
        agency_certificates=_certificates(sbr2.agency_certificates),
        signed_responses=sbr2.signed_responses,
    )


def _certificates(path: Path | None) -> tuple[Certificate, ...]:
    if path is None:
        return ()
    try:
        return tuple(load_pem_x509_certificates(path.read_bytes()))
    except (OSError, ValueError) as error:
        text = f"agency_certificates: {path} is not a readable PEM file of certificates"
        raise ConfigurationError("settings.agency-certificates", text) from error


def sts_profile(environment: EnvironmentSettings) -> StsProfile:
    """How tokens are asked for."""
    return StsProfile(lifetime=environment.token_lifetime)


def timeouts(total: timedelta) -> Timeouts:
    """Time-outs of one HTTP conversation that may take `total`."""
    seconds = total.total_seconds()
    return Timeouts(
        pool=min(15.0, seconds), connect=min(10.0, seconds), write=min(30.0, seconds), read=seconds, total=seconds
    )


def timing(settings: Settings, environment: EnvironmentSettings) -> Timing:
    """The pipeline's clocks. A lease outlives the longest exchange, or two workers could send one reference."""
    longest = timeouts(environment.agency_timeout)
    margin = timedelta(seconds=longest.pool + longest.total + 5)
    return Timing(
        stuck_after=settings.stuck_after,
        lease=margin + timedelta(seconds=10),
        token_margin=margin,
        token_wait=environment.sts_timeout * 2,
    )


def policy(environment: EnvironmentSettings) -> RetryPolicy:
    """The retry policy with the environment's first delays."""
    usual = RetryPolicy()
    return replace(
        usual,
        not_sent=_starting(usual.not_sent, environment.retry_first),
        unknown=_starting(usual.unknown, environment.retry_first),
        unavailable=_starting(usual.unavailable, environment.unavailable_first),
        poll=_starting(usual.poll, environment.poll_first),
    )


def _starting(delays: Delays, first: timedelta) -> Delays:
    return replace(delays, first=first)


def _authentication(environment: EnvironmentSettings) -> TokenTerms | BasicCredentials:
    if environment.authentication == "basic":
        assert environment.username is not None  # noqa: S101  - the settings' own rule
        assert environment.password_file is not None  # noqa: S101
        return BasicCredentials(environment.username, read_secret(environment.password_file, "agency password"))
    assert environment.sts_url is not None  # noqa: S101
    assert environment.applies_to is not None  # noqa: S101
    return TokenTerms(environment.sts_url, environment.applies_to, CLAIMS, environment.key_size)


def _services(environment: EnvironmentSettings) -> Mapping[tuple[str, str], ServiceEntry]:
    table = business_names()
    for one in environment.services:
        table[one.service, one.action] = ServiceEntry(one.message_type, one.message_version, one.namespace, one.path)
    retries = policy(environment)
    return {key: replace(entry, policy=retries) for key, entry in table.items()}
