"""The flow behind `lodge submit`: examine everything, then push, lodge here, or only seal."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pipeline.gateway.documents import LARGEST, DocumentStore
from pipeline.interfaces.cli.dry_run import seal_only
from pipeline.interfaces.cli.examine import Examined, examine
from pipeline.interfaces.cli.in_process import Patience, lodge_here
from pipeline.interfaces.cli.inputs import Found, Source, Terms, option_problems, read_inputs
from pipeline.interfaces.cli.payloads import Spool, spool_in
from pipeline.interfaces.cli.producing import push, push_and_wait
from pipeline.interfaces.cli.screen import progress, shown, stderr, stdout, table
from pipeline.interfaces.cli.session import now, somebody_at_work
from pipeline.interfaces.cli.standing import Standing, tell, tell_jobs
from pipeline.lodgment.errors import ConfigurationError
from pipeline.profiles import SANDBOX, channels, environment_of
from pipeline.settings import EnvironmentSettings, Settings

_BAD_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Wish:
    """How to submit. `out` is the folder of a dry run, None to lodge."""

    skip_invalid: bool
    wait: bool
    timeout: float | None
    out: Path | None
    offline: bool


def submit_all(settings: Settings, sources: Sequence[Source], terms: Terms, wish: Wish) -> bool:
    """Submit what is in `sources`; False when something is not as it must be.

    Raises:
        ConfigurationError: `submit.busy`, without a broker only one process can lodge; and whatever cannot work as set.
    """
    if settings.embedded and wish.out is None and somebody_at_work(settings):
        text = (
            f"another lodge process works in {settings.home.resolve()} and cannot be handed jobs from outside: stop it"
        )
        raise ConfigurationError("submit.busy", f"{text} (nothing is lost), or set LODGE_BROKER_URLS for both")
    if problems := option_problems(sources, terms):
        raise ConfigurationError("submit.options", "; ".join(problems))
    environment = environment_of(settings, now())
    with spool_in(settings.home, keep=not settings.embedded and wish.out is None) as (spool, folder):
        settings = settings.model_copy(update={"payload_roots": (*_roots(settings, sources, wish), folder)})
        return _submit(settings, environment, sources, terms, spool, wish)


def _submit(
    settings: Settings,
    environment: EnvironmentSettings,
    sources: Sequence[Source],
    terms: Terms,
    spool: Spool,
    wish: Wish,
) -> bool:
    examined = _examine(settings, environment, read_inputs(sources, terms, spool))
    _tell_bad(examined, pushing=wish.skip_invalid)
    if examined.bad and not wish.skip_invalid:
        return False
    if not examined.jobs:
        stderr().print("There is nothing to submit.")
        return not examined.bad
    if wish.out is not None:
        return _dry_run(
            settings, environment, examined, read_inputs(sources, terms, spool), wish.out, offline=wish.offline
        )
    if settings.embedded:
        standings = _lodge_here(settings, examined, read_inputs(sources, terms, spool), wish)
    else:
        standings = _push(settings, examined, read_inputs(sources, terms, spool), wish)
    return _tell(settings, examined, standings, wish) and not examined.bad


def _roots(settings: Settings, sources: Sequence[Source], wish: Wish) -> tuple[Path, ...]:
    """Whoever names a file here means it to be read. Where others read it, their setting alone counts."""
    if not settings.embedded and wish.out is None:
        return settings.payload_roots
    paths = [source.path.resolve() for source in sources]
    return (*settings.payload_roots, *(path if path.is_dir() else path.parent for path in paths))


def _examine(settings: Settings, environment: EnvironmentSettings, found: Iterator[Found]) -> Examined:
    documents = DocumentStore(settings.payload_roots, LARGEST)
    with _progress("checking", None) as advance:
        return asyncio.run(examine(found, channels(settings, environment), documents, lambda: advance(1)))


def _tell_bad(examined: Examined, *, pushing: bool) -> None:
    if not examined.bad:
        return
    console = stderr()
    for found in examined.bad[:_BAD_SHOWN]:
        for problem in found.problems:
            console.print(f"{shown(found.origin)}: {shown(problem)}", soft_wrap=True)
    if len(examined.bad) > _BAD_SHOWN:
        console.print(f"… and {len(examined.bad) - _BAD_SHOWN} more.")
    what = "the good ones go on" if pushing else "NOTHING was submitted; mend them, or use --skip-invalid"
    console.print(f"{len(examined.bad)} bad, {len(examined.jobs)} good: {what}.")


def _dry_run(
    settings: Settings,
    environment: EnvironmentSettings,
    examined: Examined,
    found: Iterator[Found],
    out: Path,
    *,
    offline: bool,
) -> bool:
    jobs = examined.chosen(found)
    with _progress("sealing", len(examined.jobs)) as advance:
        sealed = asyncio.run(seal_only(settings, environment, jobs, out, offline=offline, on_sealed=advance))
    rows = [(examined.jobs[one.job_id], one.job_id, one.size or "", one.sha256[:16], one.verdict) for one in sealed]
    stdout().print(
        table(f"Dry run: nothing was sent; envelopes in {out}/", ("from", "job", "bytes", "SHA-256", "verdict"), rows)
    )
    return all(one.good for one in sealed) and not examined.bad


def _lodge_here(settings: Settings, examined: Examined, found: Iterator[Found], wish: Wish) -> list[Standing]:
    jobs = examined.chosen(found)
    with _progress("lodging", len(examined.jobs)) as advance:
        patience = Patience(to_the_end=wish.wait, seconds=wish.timeout)
        return asyncio.run(lodge_here(settings, jobs, examined.digests, patience, on_ended=advance))


def _push(settings: Settings, examined: Examined, found: Iterator[Found], wish: Wish) -> list[Standing]:
    jobs = examined.chosen(found)
    total = len(examined.jobs)
    if not wish.wait:
        with _progress("pushing", total) as advance:
            push(settings, jobs, lambda _: advance(1))
        return [Standing(job_id) for job_id in examined.jobs]
    with _progress("lodging", total) as advance:
        return push_and_wait(settings, jobs, examined.jobs, wish.timeout, on_ended=advance)


def _tell(settings: Settings, examined: Examined, standings: Sequence[Standing], wish: Wish) -> bool:
    console = stdout()
    if not (settings.embedded or wish.wait):
        console.print(f"{len(standings)} job(s) are with the broker, confirmed; the workers do the rest.")
        tell_jobs(standings, examined.jobs, console)
        return True
    tell(standings, examined.jobs, console)
    ended = all(one.ended for one in standings)
    if settings.embedded and not ended:
        console.print("What waits is in the ledger; `lodge run` goes on with it.")
    if settings.environment == SANDBOX and any(one.code == "transport.connect" for one in standings):
        console.print("The sandbox does not answer: start it with `lodge sandbox serve`.")
    return (ended or not wish.wait) and not any(one.is_wrong for one in standings)


@contextmanager
def _progress(what: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """A bar on stderr while the block runs; nothing where nobody looks."""
    bar = progress()
    bar.disable = not bar.console.is_terminal
    with bar:
        task = bar.add_task(what, total=total)
        yield lambda steps: bar.advance(task, steps)
