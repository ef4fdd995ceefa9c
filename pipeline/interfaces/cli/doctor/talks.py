"""Conversations with the token service and the agency: an answer, its clock, a token, a ping."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from pipeline.interfaces.cli.conversation import Agencies, Heard, Sender
from pipeline.interfaces.cli.doctor.catalogue import Check
from pipeline.interfaces.cli.doctor.line import Line, Role, failed, of_failure, passed, skipped, warned
from pipeline.interfaces.cli.doctor.network import judge_clock
from pipeline.interfaces.cli.screen import span
from pipeline.interfaces.cli.session import now
from pipeline.lodgment.failures import Failure
from pipeline.protocol.credential import Credential
from pipeline.protocol.wstrust import SecurityToken

_GONE = 410


@dataclass(frozen=True, slots=True)
class Told:
    """Lines, and what the next question needs: how far the other clock is ahead, a token."""

    lines: list[Line]
    skew: timedelta = timedelta(0)
    token: SecurityToken | None = None
    answered: bool = False


async def ask_sts(them: Agencies, url: str) -> Told:
    """A GET of the token service: any answer below 500 shows that it is up, and carries its clock."""
    heard = await them.get(url)
    if isinstance(heard.answer, Failure):
        return Told([of_failure(Check.STS, heard.answer), skipped(Check.CLOCK_STS, f"needs {Check.STS}")])
    clock = judge_clock(Check.CLOCK_STS, heard.skew, "the token service")
    return Told([judge_sts_answer(url, heard.answer, heard.took), clock], heard.skew, answered=True)


def judge_sts_answer(url: str, status: int, took: timedelta) -> Line:
    found, measured = f"{url} answered HTTP {status} in {_seconds(took)}", _answer(took)
    if status == _GONE:
        fix = "That service was switched off: take the address from the agency's list of endpoints."
        return failed(Check.STS, found, fix, Role.OPERATOR, measured=measured)
    if status >= 500:
        fix = "Nothing is to be changed here if the token line passes; else see the agency's status page."
        return warned(Check.STS, found, fix, Role.AGENCY, measured=measured)
    return passed(Check.STS, found, measured=measured)


async def ask_token(them: Agencies, credential: Credential, skew: timedelta, timings: Mapping[str, float]) -> Told:
    """A real token, on the pipeline's own terms. `timings` are the seconds for name, TCP and TLS."""
    heard = await them.token(credential, skew)
    if isinstance(heard.answer, Failure):
        return Told([of_failure(Check.TOKEN, heard.answer)])
    token = heard.answer
    measured = {**timings, **_answer(heard.took)}
    steps = ", ".join(f"{name.removesuffix('_seconds')} {seconds * 1000:.0f} ms" for name, seconds in measured.items())
    found = f"given to {credential.id}, good for {span(token.expires_at - now())} ({steps})"
    return Told([passed(Check.TOKEN, found, measured=measured)], token=token)


async def ask_agency(them: Agencies) -> Told:
    """The description of the agency's ping service (WIG 6.2), and its clock."""
    heard: Heard[int] = await them.wsdl()
    if isinstance(heard.answer, Failure):
        return Told([of_failure(Check.AGENCY, heard.answer), skipped(Check.CLOCK_AGENCY, f"needs {Check.AGENCY}")])
    clock = judge_clock(Check.CLOCK_AGENCY, heard.skew, "the agency")
    return Told([judge_agency_answer(them.wsdl_url, heard.answer, heard.took), clock], heard.skew, answered=True)


def judge_agency_answer(url: str, status: int, took: timedelta) -> Line:
    found, measured = f"{url} answered HTTP {status} in {_seconds(took)}", _answer(took)
    if 200 <= status < 300:
        return passed(Check.AGENCY, found, measured=measured)
    fix = "Check agency_url and the ping path; the agency's gate may still be shut for this address: ask it to open."
    return warned(Check.AGENCY, found, fix, Role.OPERATOR, Role.PROVIDER, measured=measured)


async def ask_ping(them: Agencies, sender: Sender, credential: Credential | None, token: SecurityToken | None) -> Told:
    """A ping sealed like any lodgment, and its echo (WIG 6.3)."""
    heard = await them.ping(sender, credential, token)
    if isinstance(heard.answer, Failure):
        return Told([of_failure(Check.PING, heard.answer)])
    found = f"sealed, sent and echoed in {_seconds(heard.took)}: the agency takes our messages"
    return Told([passed(Check.PING, found, measured=_answer(heard.took))])


def _answer(took: timedelta) -> dict[str, float]:
    return {"answer_seconds": round(took.total_seconds(), 6)}


def _seconds(took: timedelta) -> str:
    return f"{took.total_seconds():.2f} s"
