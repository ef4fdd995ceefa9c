"""Policies as settings say them: for every channel, service and action what holds, and when doors close and open."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import timedelta

from pipeline.lodgment.breaker import BreakerPolicy
from pipeline.lodgment.decisions import Closedown, Delays, RetryPolicy
from pipeline.lodgment.doors import BreakerPolicies, Door
from pipeline.lodgment.errors import ConfigurationError
from pipeline.settings import PolicySettings

_PLAIN = (
    "unknown_limit",
    "stale_token_limit",
    "receipt_after",
    "late_after",
    "closing_after",
    "give_up_after",
    "expected",
)
_DELAYS = ("not_sent", "unknown", "unavailable", "poll")


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
    for one in sections:
        if one.channel == channel and one.service in {None, service} and one.action in {None, action}:
            policy = _with(policy, one)
    what = f"{channel} {service}/{action}"
    for name in _DELAYS:
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
