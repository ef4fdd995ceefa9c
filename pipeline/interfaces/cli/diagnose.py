"""`lodge doctor` and `lodge ping`: does everything between here and the agency work, and if not, whose turn is it."""

import asyncio
from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from pipeline.interfaces.cli.screen import print_json, shown, span, stdout
from pipeline.interfaces.cli.session import now, settings_of
from pipeline.lodgment.errors import ConfigurationError, RefusedError

if TYPE_CHECKING:
    from pipeline.interfaces.cli.conversation import Agencies, Sender
    from pipeline.interfaces.cli.doctor.line import Line
    from pipeline.interfaces.cli.doctor.visit import Scope
    from pipeline.lodgment.failures import Failure
    from pipeline.settings import Settings

Answer = TypeVar("Answer")
_STYLES = {"pass": "green", "warn": "yellow", "fail": "bold red", "skip": "dim"}
SenderId = Annotated[str | None, typer.Option(help="Who ASIC knows as the sender; in the sandbox anybody.")]
SenderType = Annotated[str | None, typer.Option(help="For example REGA, a registered agent.")]


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command("doctor")(doctor)
    app.command("ping")(ping)


def doctor(
    context: typer.Context,
    offline: Annotated[bool, typer.Option("--offline", help="Open no connection; skip what needs one.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON array of all lines, for machines.")] = False,
    sender_id: SenderId = None,
    sender_type: SenderType = None,
) -> None:
    """Look at everything that lodging needs: settings, addresses, keys, ports, TLS, servers, clocks, a token, a ping.

    Lodges nothing and writes nothing. Each line says pass, warn, fail or skip, what was found and, unless it is well,
    why it matters, what to do and who can do it. The exit code is 1 if any line says fail.
    """
    from pipeline.interfaces.cli.doctor.line import Verdict
    from pipeline.interfaces.cli.doctor.visit import Scope

    loaded: Settings | ConfigurationError
    try:
        loaded = settings_of(context)
        sender = _sender(loaded, sender_id, sender_type)
    except ConfigurationError as error:
        if not error.code.startswith("settings."):
            raise
        loaded, sender = error, None
    lines = asyncio.run(_walked(loaded, Scope(offline, sender), quiet=as_json))
    if as_json:
        print_json([_plain(line) for line in lines])
    else:
        _summarise(lines)
    if any(line.verdict is Verdict.FAIL for line in lines):
        raise typer.Exit(1)


def ping(
    context: typer.Context,
    sender_id: SenderId = None,
    sender_type: SenderType = None,
    credential: Annotated[
        str | None, typer.Option(help="Id or ABN of the machine credential, if not the usual one.")
    ] = None,
) -> None:
    """Send ASIC a ping: a real token, a sealed message, the reply read (WIG 6.3). Lodges nothing and stores nothing.

    It shows that credential, token, signatures and network are right. Exit code 1 if no echo came.
    """
    settings = settings_of(context)
    sender = _sender(settings, sender_id, sender_type)
    if sender is None:
        raise ConfigurationError("ping.sender", "--sender-id and --sender-type: a ping must say who asks")
    asyncio.run(_ping(settings, sender, credential))


async def _walked(loaded: "Settings | ConfigurationError", scope: "Scope", *, quiet: bool) -> "list[Line]":
    from pipeline.interfaces.cli.doctor.walk import walk

    lines = []
    async for line in walk(loaded, scope):
        lines.append(line)
        if not quiet:
            _print(line)
    return lines


def _plain(line: "Line") -> dict[str, object]:
    """The line as docs/operations.md describes it."""
    return {
        "check": line.check,
        "subject": line.subject,
        "verdict": line.verdict,
        "found": line.found,
        "meaning": line.meaning,
        "fix": line.fix,
        "who": list(line.who),
        "measured": dict(line.measured),
    }


def _print(line: "Line") -> None:
    console = stdout()
    console.print(f"{line.verdict.upper():<5}", style=_STYLES[line.verdict], end="")
    subject = f"{line.subject}: " if line.subject else ""
    console.print(f"{line.check:<22}{shown(subject + line.found)}", soft_wrap=True)
    if line.meaning:
        console.print(f"{'':<27}= {line.meaning}", soft_wrap=True)
    if line.fix:
        who = f" (acts: {' or '.join(role.replace('_', ' ') for role in line.who)})" if line.who else ""
        console.print(f"{'':<27}→ {shown(line.fix)}{who}", soft_wrap=True)


def _summarise(lines: "list[Line]") -> None:
    counts = Counter(str(line.verdict) for line in lines)
    stdout().print(", ".join(f"{counts[verdict]} {verdict}" for verdict in _STYLES), soft_wrap=True)


async def _ping(settings: "Settings", sender: "Sender", wanted: str | None) -> None:
    from pipeline.bootstrap import open_keyring
    from pipeline.interfaces.cli.conversation import agencies
    from pipeline.profiles import environment_of

    console = stdout()
    environment = environment_of(settings, now())
    keyring = open_keyring(environment)
    credential = None if keyring is None else _certain(keyring.get(wanted or environment.credential), "credential")
    async with agencies(settings, environment, environment.agency_timeout) as them:
        token = None
        if credential is not None:
            asked = await them.token(credential, await _skew(them, environment.sts_url or ""))
            token = _certain(asked.answer, "token")
            left = span(token.expires_at - now())
            console.print(f"token  {asked.took.total_seconds():.3f} s  {credential.id}, good for {left}")
        echo = await them.ping(sender, credential, token)
        reply = _certain(echo.answer, "ping")
    console.print(
        f"ping   {echo.took.total_seconds():.3f} s  echoed under {reply.reference}, at {shown(reply.agency_time)} AEST"
    )


async def _skew(them: "Agencies", url: str) -> timedelta:
    """How far the token service's clock is ahead; a request out of its time would be refused."""
    return (await them.get(url)).skew


def _certain(answer: "Answer | Failure", what: str) -> "Answer":
    """The answer.

    Raises:
        RefusedError: with the failure's code: why there is none, what it means and who must act.
    """
    from pipeline.lodgment.failures import Failure

    if isinstance(answer, Failure):
        said = f" ({answer.detail})" if answer.detail else ""
        raise RefusedError(answer.code, f"{what}: {answer.advice}{said}; acts: {answer.who}")
    return answer


def _sender(settings: "Settings", sender_id: str | None, sender_type: str | None) -> "Sender | None":
    """As given; in the sandbox anybody will do."""
    from pipeline.interfaces.cli.conversation import Sender
    from pipeline.profiles import SANDBOX

    if sender_id and sender_type:
        return Sender(sender_id, sender_type)
    if sender_id or sender_type:
        raise ConfigurationError("ping.sender", "--sender-id and --sender-type: give both or neither")
    return Sender("SANDBOX", "REGA") if settings.environment == SANDBOX else None
