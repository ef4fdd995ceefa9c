"""`lodge sandbox`: the local agencies, synthetic jobs for them, and their book."""

import sys
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.interfaces.cli import screen
from pipeline.lodgment.errors import ConfigurationError
from pipeline.settings import Settings, load_settings

if TYPE_CHECKING:
    from pipeline.sandbox.book import Line

_commands = typer.Typer(
    no_args_is_help=True, help="The local agencies: a MAS-ST, an ASIC gateway and two SBR2 gateways that judge all."
)


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.add_typer(_commands, name="sandbox")


@_commands.command("serve")
def serve(
    port: Annotated[int, typer.Option(help="TLS port on the loopback interface; 0 takes a free one.")] = 8443,
) -> None:
    """Serve the sandbox agencies until SIGTERM or Ctrl-C.

    Keys, credentials and the book are in the folder `sandbox` of LODGE_HOME. Workers with environment "sandbox" and the
    same LODGE_HOME find it at LODGE_SANDBOX_URL (https://localhost:8443).
    """
    from pipeline.sandbox import server
    from pipeline.telemetry import configure_logs

    settings = load_settings()
    configure_logs(settings.log_level, json_lines=settings.log_format == "json")
    server.serve(_home(settings), "localhost", port)


@_commands.command("jobs")
def jobs(
    count: Annotated[int, typer.Option(min=1, help="About how many.")] = 300,
    everything: Annotated[
        bool, typer.Option("--all", help="Also jobs that must be refused or held, and a repeated one.")
    ] = False,
) -> None:
    """Write synthetic business name jobs as NDJSON to stdout, with the agencies' troubles in them: for `lodge submit`.

    Without `--all` every one of them must end accepted or rejected.
    """
    from pipeline.bootstrap import now
    from pipeline.lodgment.states import FINAL
    from pipeline.sandbox.example import example_batch

    for one in example_batch(now(), size=count, name=f"sandbox-{now():%Y%m%dT%H%M%S}")[: None if everything else count]:
        if everything or one.expected.state in FINAL:
            sys.stdout.write(one.job.decode() + "\n")


@_commands.command("book")
def book(
    json: Annotated[bool, typer.Option("--json", help="Every line of the book, as JSON.")] = False,
) -> None:
    """Ask the agencies themselves: how many references each saw, how often it processed them, how often an outcome was
    pulled, and what broke its rules.

    Exit code 1 if one was processed more than once, or used for two documents.
    """
    from pipeline.sandbox.book import read_book

    path = _home(load_settings()) / "book.sqlite"
    if not path.exists():
        raise ConfigurationError("sandbox.book", f"there is no book at {path}: start the sandbox, or set LODGE_HOME")
    lines = read_book(path)
    if json:
        screen.print_json([asdict(line) for line in lines])
    else:
        counts = Counter((line.channel, line.processed, line.seen, _pulls(line)) for line in lines)
        rows = [(channel, number, *times) for (channel, *times), number in sorted(counts.items())]
        heads = ("channel", "references", "processed", "seen", "pulled")
        screen.stdout().print(screen.table("The agencies' book", heads, rows))
    wrong = [line for line in lines if line.processed > 1 or line.violations]
    for line in wrong:
        screen.stderr().print(f"WRONG: {line.reference} was processed {line.processed} times; {line.violations or ''}")
    if wrong:
        raise typer.Exit(1)


def _pulls(line: "Line") -> str:
    """Nothing where outcomes are not pulled."""
    return "" if line.pulls is None else f"{line.pulls:3d}"


def _home(settings: Settings) -> Path:
    return settings.home.resolve() / "sandbox"
