"""Policies as settings say them: for every channel, service and action what holds, and when doors close and open."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import timedelta

from pipeline.channels.asic_bn import NAME as ASIC
from pipeline.channels.asic_profile import business_names
from pipeline.channels.sbr2_profile import SERVICE as SBR2_SERVICE
from pipeline.channels.sbr2_profile import pay_events
from pipeline.channels.sbr2_stp import NAME as SBR2
from pipeline.lodgment.breaker import BreakerPolicy
from pipeline.lodgment.decisions import Closedown, Delays, RetryPolicy
from pipeline.lodgment.doors import BreakerPolicies, Door
from pipeline.lodgment.errors import ConfigurationError
from pipeline.lodgment.replay_pace import PacePolicy
from pipeline.lodgment.replay_run import ReplayPolicy
from pipeline.settings import EnvironmentSettings, PolicySettings, ReplaySettings, Sbr2Settings

_PLAIN = (
    "unknown_limit",
    "stale_token_limit",
    "receipt_after",
    "late_after",
    "closing_after",
    "give_up_after",
    "expected",
)
_BEYOND = timedelta(seconds=10)
_DELAYS = ("not_sent", "unknown", "unavailable", "poll")


def messages(environment: EnvironmentSettings) -> dict[str, list[tuple[str, str]]]:
    """The services and actions that can be lodged in this environment, by channel."""
    found = {ASIC: sorted({*business_names(), *((one.service, one.action) for one in environment.services)})}
    if environment.sbr2 is not None:
        found[SBR2] = [(SBR2_SERVICE, action) for action in sorted(pay_events())]
    return found


def doors(environment: EnvironmentSettings) -> list[str]:
    """The names of all doors of this environment, and of its channels."""
    names: list[str] = []
    for channel, pairs in messages(environment).items():
        sbr2 = environment.sbr2 if channel == SBR2 else None
        gateways: list[str | None] = [None] if sbr2 is None else [*sorted(sbr2.gateways)]
        names.append(channel)
        for service in sorted({service for service, _ in pairs}):
            asking = (False,) if sbr2 is None else (False, True)
            names += [Door(channel, service, gateway, asks).name for gateway in gateways for asks in asking]
    return names


def retry_policies(environment: EnvironmentSettings) -> dict[str, dict[tuple[str, str], RetryPolicy]]:
    """What holds in this environment, by channel, and by service and action.

    Raises:
        ConfigurationError: `settings.policies`.
    """
    known, sections = messages(environment), environment.policies
    check(sections, known)
    usual = {ASIC: usual_policy(environment)}
    if environment.sbr2 is not None:
        usual[SBR2] = _sbr2_policy(environment, environment.sbr2)
    return {
        channel: {pair: overridden(usual[channel], sections, channel, *pair) for pair in pairs}
        for channel, pairs in known.items()
    }


def usual_policy(environment: EnvironmentSettings) -> RetryPolicy:
    """The retry policy with the environment's first delays."""
    usual = RetryPolicy()
    return replace(
        usual,
        not_sent=replace(usual.not_sent, first=environment.retry_first),
        unknown=replace(usual.unknown, first=environment.retry_first),
        unavailable=replace(usual.unavailable, first=environment.unavailable_first),
        poll=replace(usual.poll, first=environment.poll_first),
    )


def breaker_policies(environment: EnvironmentSettings, lease: timedelta) -> BreakerPolicies:
    """When the doors of the agencies close and open. A canary is given up once its lease is over.

    Raises:
        ConfigurationError: `settings.policies`.
    """
    usual = BreakerPolicies().usual
    probe = Delays(environment.probe_first, usual.probe.factor, environment.probe_longest)
    return breakers(replace(usual, probe=probe, probe_patience=lease + _BEYOND), environment.policies)


def replay_policy(said: ReplaySettings) -> ReplayPolicy:
    """How replays run and give way to live work."""
    pace = PacePolicy(
        slower=said.slower,
        least=said.least,
        raise_by=said.raise_by,
        window=said.window,
        level_for=said.level_for,
    )
    return ReplayPolicy(rate=said.rate, halt_share=said.halt_share, pace=pace)


def _sbr2_policy(environment: EnvironmentSettings, sbr2: Sbr2Settings) -> RetryPolicy:
    return replace(
        usual_policy(environment),
        poll=Delays(sbr2.poll_first, 2, sbr2.poll_longest),
        late_after=sbr2.late_after,
        closing_after=sbr2.closing_after,
        give_up_after=sbr2.give_up_after,
        closedowns=tuple(Closedown(one.start, one.end, one.takes_documents) for one in sbr2.closedowns),
        expected=timedelta(hours=1),
    )


def check(sections: Iterable[PolicySettings], known: Mapping[str, Iterable[tuple[str, str]]]) -> None:
    """See that every section is about something. `known` are the services and actions of each channel.

    Raises:
        ConfigurationError: `settings.policies`.
    """
    for number, one in enumerate(sections):
        if one.channel not in known:
            raise _unknown(number, "channel", one.channel, known)
        pairs = list(known[one.channel])
        if one.service is not None and one.service not in {service for service, _ in pairs}:
            raise _unknown(number, "service", one.service, {service for service, _ in pairs})
        if one.action is not None and (one.service, one.action) not in pairs:
            actions = {action for service, action in pairs if service == one.service}
            raise _unknown(number, "action", one.action, actions)


def overridden(
    policy: RetryPolicy, sections: Iterable[PolicySettings], channel: str, service: str, action: str
) -> RetryPolicy:
    """What holds for this action: `policy`, where no section says otherwise.

    Raises:
        ConfigurationError: `settings.policies`, where sections together make no sense.
    """
    before = policy
    for one in sections:
        if one.channel == channel and one.service in {None, service} and one.action in {None, action}:
            policy = _with(policy, one)
    what = f"{channel} {service}/{action}"
    for name in _DELAYS if policy is not before else ():
        delays: Delays = getattr(policy, name)
        if delays.first > delays.cap:
            raise _wrong(what, f"{name}_first ({delays.first}) must not be longer than {name}_longest ({delays.cap})")
    watched = [after for after in (policy.late_after, policy.closing_after, policy.give_up_after) if after is not None]
    if watched != sorted(watched):
        raise _wrong(what, "late_after, closing_after and give_up_after must follow each other in time")
    return policy


def breakers(usual: BreakerPolicy, sections: Iterable[PolicySettings]) -> BreakerPolicies:
    """When the doors of each service close and open.

    Raises:
        ConfigurationError: `settings.policies`.
    """
    found: list[tuple[str, str | None, BreakerPolicy]] = []
    for one in sections:
        if not one.breaker_set and one.announced_longest is None:
            continue
        before = BreakerPolicies(usual, tuple(found)).of(Door(one.channel, one.service))
        policy = _breaker(before, one)
        if policy.probe.first > policy.probe.cap:
            what = f"{one.channel} {one.service or ''}".rstrip()
            raise _wrong(what, "breaker_probe_first must not be longer than breaker_probe_longest")
        found.append((one.channel, one.service, policy))
    return BreakerPolicies(usual, tuple(found))


def _with(policy: RetryPolicy, one: PolicySettings) -> RetryPolicy:
    said = {name: value for name in _PLAIN if (value := getattr(one, name)) is not None}
    said |= {name: _delays(getattr(policy, name), one, name) for name in _DELAYS}
    if one.announced_longest is not None:
        said["announced_wait_cap"] = one.announced_longest
    if one.closedowns is not None:
        said["closedowns"] = tuple(Closedown(each.start, each.end, each.takes_documents) for each in one.closedowns)
    return replace(policy, **said)


def _delays(delays: Delays, one: PolicySettings, name: str) -> Delays:
    first: timedelta | None = getattr(one, f"{name}_first")
    longest: timedelta | None = getattr(one, f"{name}_longest")
    return Delays(first or delays.first, delays.factor, longest or delays.cap)


def _breaker(policy: BreakerPolicy, one: PolicySettings) -> BreakerPolicy:
    return replace(
        policy,
        consecutive=one.breaker_failures or policy.consecutive,
        ratio=one.breaker_ratio or policy.ratio,
        ratio_least=one.breaker_ratio_least or policy.ratio_least,
        window=one.breaker_window or policy.window,
        probe=Delays(
            one.breaker_probe_first or policy.probe.first,
            policy.probe.factor,
            one.breaker_probe_longest or policy.probe.cap,
        ),
        announced_cap=one.announced_longest or policy.announced_cap,
        ramp=one.breaker_ramp or policy.ramp,
        ramp_every=one.breaker_ramp_every or policy.ramp_every,
        quiet=policy.quiet if one.breaker_quiet is None else one.breaker_quiet,
    )


def _unknown(number: int, field: str, value: str, known: Iterable[str]) -> ConfigurationError:
    text = (
        f"policies[{number}].{field}: there is no {value!r} in this environment; there are: {', '.join(sorted(known))}"
    )
    return ConfigurationError("settings.policies", text)


def _wrong(what: str, rule: str) -> ConfigurationError:
    return ConfigurationError("settings.policies", f"policies: for {what}, {rule}")
