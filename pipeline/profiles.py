"""From settings to what channels, gateways and stages are told about one environment."""

import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

from cryptography.x509 import Certificate

from pipeline.channels.asic_bn import NAME as ASIC
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
from pipeline.channels.sbr2_stp import NAME as SBR2
from pipeline.channels.sbr2_stp import Sbr2Stp
from pipeline.gateway.client import Timeouts
from pipeline.lodgment.breaker import BreakerPolicy, Budget
from pipeline.lodgment.errors import ConfigurationError
from pipeline.policies import retry_policies, usual_policy
from pipeline.protocol.certificates import read_pem
from pipeline.protocol.sbr_ebms3 import Software as RegisteredSoftware
from pipeline.protocol.suites import V1_2_LEGACY, V1_3
from pipeline.protocol.wstrust import RelationshipId
from pipeline.sandbox.home import APPLIES_TO, SBR2_APPLIES_TO, Home, open_home
from pipeline.sandbox.sbr2 import GATEWAYS
from pipeline.sandbox.sbr2_message import PRODUCT
from pipeline.sandbox.sts import STS_PATH
from pipeline.secret_files import read_secret
from pipeline.settings import EnvironmentSettings, PolicySettings, Sbr2Settings, Settings
from pipeline.stages.contract import Timing
from pipeline.stages.token_desk import LEASE_BEYOND, DeskTerms

SANDBOX = "sandbox"
_CONTRACT_IN_URL = re.compile(r"/S[0-9]+(v1\.[0-9]+)/", re.IGNORECASE)
_PRODUCTION = "prod"
"""How the names of environments begin that lodge for real."""
_SANDBOX_TIMEOUT = timedelta(seconds=15)


def environment_of(settings: Settings, now: datetime) -> EnvironmentSettings:
    """The chosen environment; the sandbox describes itself from its folder, which is made when it is not there yet.

    Raises:
        ConfigurationError: `settings.environment` when the settings describe no such environment;
            `settings.sts-contract` when contract and address of its token service disagree, or SHA-1 would go to
            production.
    """
    chosen = settings.environments.get(settings.environment)
    if chosen is not None:
        _check_contract(settings.environment, chosen)
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
        probe_first=timedelta(seconds=1),
        probe_longest=timedelta(seconds=4),
        # Its troubles are scripted for single lodgments, many of them in a row, and say nothing of the next one.
        policies=tuple(
            PolicySettings(channel=channel, breaker_failures=40, breaker_ratio=0.9, breaker_ratio_least=60)
            for channel in (ASIC, SBR2)
        ),
        sbr2=_sandbox_sbr2(settings.sandbox_url, home),
    )


def _sandbox_sbr2(sandbox_url: str, home: Home) -> Sbr2Settings:
    """SBR2 as the sandbox has it: everything synthetic, outcomes asked for every few seconds."""
    return Sbr2Settings(
        gateways={name: f"{sandbox_url}/sbr2/{name}" for name in GATEWAYS},
        gateway=GATEWAYS[0],
        applies_to=SBR2_APPLIES_TO,
        product_id=PRODUCT["ProductID"],
        vendor=PRODUCT["BMS Vendor"],
        name=PRODUCT["BMS Name"],
        version=PRODUCT["BMS Version"],
        domain="pipeline.sandbox.invalid",
        agency_certificates=home.sbr2_certificate_file,
        signed_responses=True,
        poll_first=timedelta(seconds=1),
        poll_longest=timedelta(seconds=5),
    )


def _check_contract(name: str, environment: EnvironmentSettings) -> None:
    """The contract's number is a part of the service's address (MAS-ST 3.1.1): a mix-up shows before it is sent."""
    named = _CONTRACT_IN_URL.search(environment.sts_url or "")
    contract = environment.sts_contract
    if named is not None and named[1] != contract.removesuffix("-legacy-sha1"):
        text = f"sts_contract: is {contract}, and sts_url is the address of {named[1]}: make them agree"
    elif contract != "v1.3" and name.lower().startswith(_PRODUCTION):
        text = f"sts_contract: {contract} signs with SHA-1, which is refused in environment {name!r}: use v1.3"
    else:
        return
    raise ConfigurationError("settings.sts-contract", text)


def payroll_product(settings: Settings) -> str | None:
    """The product under whose software ids jobs are lodged that name none; the sandbox has one on its list."""
    if settings.software is not None:
        return settings.software.product
    return PRODUCT["BMS Name"] if settings.environment == SANDBOX else None


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
    """The agency interfaces that this environment describes, by name.

    Raises:
        ConfigurationError: `settings.policies`, `settings.agency-certificates`, `secret.*`.
    """
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
    retries = retry_policies(environment)[SBR2]
    return Sbr2Profile(
        environment=name,
        gates={key: Gate.at(url) for key, url in sbr2.gateways.items()},
        gate=sbr2.gateway,
        terms=TokenTerms(
            environment.sts_url,
            sbr2.applies_to,
            CLAIMS,
            environment.key_size,
            saml_version=environment.saml_version,
        ),
        software=RegisteredSoftware(sbr2.product_id, sbr2.vendor, sbr2.name, sbr2.version),
        domain=sbr2.domain,
        policies={action: policy for (_, action), policy in retries.items()},
        agency_certificates=_certificates(sbr2.agency_certificates),
        signed_responses=sbr2.signed_responses,
        software_ids=sbr2.software_ids,
    )


def _certificates(path: Path | None) -> tuple[Certificate, ...]:
    if path is None:
        return ()
    try:
        return tuple(read_pem(path.read_bytes()))
    except (OSError, ValueError) as error:
        text = f"agency_certificates: {path} is not a readable PEM file of certificates"
        raise ConfigurationError("settings.agency-certificates", text) from error


def sts_profile(environment: EnvironmentSettings) -> StsProfile:
    """How tokens are asked for."""
    return StsProfile(
        lifetime=environment.token_lifetime,
        suite=V1_3 if environment.sts_contract == "v1.3" else V1_2_LEGACY,
        back_date=environment.sts_back_date,
        client_entropy=environment.sts_client_entropy,
        claim_values=environment.sts_claim_values,
        with_context=environment.sts_context,
        relationship_id=RelationshipId(environment.relationship_id),
    )


def desk_terms(settings: Settings, environment: EnvironmentSettings, clocks: Timing) -> DeskTerms:
    """How tokens are asked for by all token workers together."""
    assert environment.sts_url is not None  # noqa: S101  - the settings' own rule for environments with tokens
    return DeskTerms(
        sts=environment.sts_url,
        budget=Budget(settings.sts_rate, settings.sts_concurrency),
        retry=usual_policy(environment),
        breaker=BreakerPolicy(probe_patience=clocks.token_wait + LEASE_BEYOND),
        look_ahead=settings.token_look_ahead,
    )


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


def _authentication(environment: EnvironmentSettings) -> TokenTerms | BasicCredentials:
    if environment.authentication == "basic":
        assert environment.username is not None  # noqa: S101  - the settings' own rule
        assert environment.password_file is not None  # noqa: S101
        return BasicCredentials(environment.username, read_secret(environment.password_file, "agency password"))
    assert environment.sts_url is not None  # noqa: S101
    assert environment.applies_to is not None  # noqa: S101
    return TokenTerms(
        environment.sts_url,
        environment.applies_to,
        CLAIMS,
        environment.key_size,
        act_as_employer=environment.act_as_employer,
        saml_version=environment.saml_version,
    )


def _services(environment: EnvironmentSettings) -> Mapping[tuple[str, str], ServiceEntry]:
    table = business_names()
    for one in environment.services:
        table[one.service, one.action] = ServiceEntry(one.message_type, one.message_version, one.namespace, one.path)
    retries = retry_policies(environment)[ASIC]
    return {key: replace(entry, policy=retries[key]) for key, entry in table.items()}
