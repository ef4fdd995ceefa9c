"""`lodge policies`: for every channel, service and action, how it is retried, polled, parked and watched."""

from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.interfaces.cli.screen import print_json, stdout, table, when
from pipeline.interfaces.cli.session import described, settings_of
from pipeline.lodgment.errors import ConfigurationError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from pipeline.lodgment.breaker import BreakerPolicy
    from pipeline.lodgment.decisions import Closedown, RetryPolicy
    from pipeline.settings import Settings


@dataclass(frozen=True, slots=True)
class InForce:
    """What holds for one action."""

    channel: str
    service: str
    action: str
    retry: "RetryPolicy"
    breaker: "BreakerPolicy"


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command("policies")(policies)


def policies(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for machines.")] = False,
) -> None:
    """Show what is in force for every channel, service and action: delays, limits, breakers, the calendar.

    Changes nothing, and opens no connection. Overrides are [[environments.NAME.policies]] in the settings file.
    """
    found = in_force(settings_of(context))
    if as_json:
        print_json([asdict(one) for one in found])
        return
    if not found:
        raise ConfigurationError(
            "policies.sandbox", "the sandbox was never started here: `lodge sandbox serve` makes it"
        )
    rows = [(f"{one.channel} {one.service}/{one.action}", *_delays(one.retry)) for one in found]
    columns = ("message", "not sent", "unknown", "unavailable", "poll", "token", "outcome late / closing / given up")
    stdout().print(table("Tried again after (first to longest; how often before it is held)", columns, rows))
    doors = {(one.channel, one.service): one.breaker for one in found}
    shown = [(f"{channel}/{service}", *_breaker(one)) for (channel, service), one in doors.items()]
    about = ("door", "closes after", "or", "tried", "then", "nothing yet")
    stdout().print()
    stdout().print(table("Breakers before the agencies", about, shown))
    stdout().print()
    stdout().print(_replays(settings_of(context)))
    calendar = {(one.channel, one.service, each) for one in found for each in one.retry.closedowns}
    if calendar:
        ordered = sorted(calendar, key=lambda one: (one[2].start, one[0], one[1]))
        stdout().print()
        stdout().print(table("Calendar", ("channel", "from", "until", ""), [_closedown(*one) for one in ordered]))


def _replays(settings: "Settings") -> "RenderableType":
    one = settings.replay
    columns = ("at most", "at least", "gives way when live work takes", "of the last", "looks at it alone", "halts at")
    row = (
        f"{one.rate:g} a second",
        f"{one.least:g} a second",
        f"{one.slower:g} times as long",
        _span(one.window),
        f"every {_span(one.level_for)}",
        f"{one.halt_share:.1%} of a stage",
    )
    return table("Replays", columns, [row])


def in_force(settings: "Settings") -> "list[InForce]":
    """Everything that can be lodged in this environment, and what holds for it; empty where the sandbox was never
    started.

    Raises:
        ConfigurationError: `settings.*`.
    """
    from pipeline.lodgment.doors import Door
    from pipeline.policies import breaker_policies, retry_policies
    from pipeline.profiles import timing

    environment = described(settings)
    if environment is None:
        return []
    doors = breaker_policies(environment, timing(settings, environment).lease)
    return [
        InForce(channel, service, action, retry, doors.of(Door(channel, service)))
        for channel, policies_ in retry_policies(environment).items()
        for (service, action), retry in policies_.items()
    ]


def _delays(policy: "RetryPolicy") -> tuple[str, ...]:
    watched = (policy.late_after, policy.closing_after, policy.give_up_after)
    return (
        f"{_span(policy.not_sent.first)} to {_span(policy.not_sent.cap)}",
        f"{_span(policy.unknown.first)} to {_span(policy.unknown.cap)}; {policy.unknown_limit}",
        f"{_span(policy.unavailable.first)} to {_span(policy.unavailable.cap)}",
        f"{_span(policy.poll.first)} to {_span(policy.poll.cap)}",
        f"at once; {policy.stale_token_limit}",
        " / ".join("never" if after is None else _span(after) for after in watched),
    )


def _breaker(policy: "BreakerPolicy") -> tuple[str, ...]:
    steps = " → ".join(("1", *map(str, policy.ramp), "all"))
    return (
        f"{policy.consecutive} failures in a row",
        f"{policy.ratio:.0%} of {policy.ratio_least} in {_span(policy.window)}",
        f"after {_span(policy.probe.first)} to {_span(policy.probe.cap)}",
        f"{steps}, every {_span(policy.ramp_every)}",
        f"{policy.quiet} in a row" if policy.quiet else "never",
    )


def _closedown(channel: str, service: str, one: "Closedown") -> tuple[object, ...]:
    says = "documents are taken in, nothing is asked" if one.takes_documents else "nothing is sent"
    return f"{channel}/{service}", when(one.start), when(one.end), says


def _span(time: timedelta) -> str:
    seconds = time.total_seconds()
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size and seconds % size == 0:
            return f"{seconds // size:g} {unit}"
    return f"{seconds:g} s"
