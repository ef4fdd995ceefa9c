"""`lodge sandbox`: the local agencies, synthetic jobs for them, and their book."""

import sys
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.interfaces.cli import screen
from pipeline.interfaces.cli.payrun import payrun
from pipeline.lodgment.errors import ConfigurationError
from pipeline.sandbox.sts_script import Event, FaultShape, Variant
from pipeline.settings import Settings, load_settings

if TYPE_CHECKING:
    from pipeline.sandbox.book import Line

_commands = typer.Typer(
    no_args_is_help=True, help="The local agencies: a MAS-ST, an ASIC gateway and two SBR2 gateways that judge all."
)


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.add_typer(_commands, name="sandbox")


_commands.command("payrun")(payrun)


@_commands.command("serve")
def serve(
    port: Annotated[
        int, typer.Option(min=0, max=65_535, help="TLS port on the loopback interface; 0 takes a free one.")
    ] = 8443,
    sts_latency: Annotated[
        float, typer.Option(min=0, max=600, help="Seconds that every answer of the token service takes.")
    ] = 0.0,
    sts_fault_rate: Annotated[
        float, typer.Option(min=0, max=1, help="Share of token requests that fail by chance: 0.1 is one in ten.")
    ] = 0.0,
    sts_seed: Annotated[int, typer.Option(help="Repeats the sequence of chances.")] = 0,
    sts_event: Annotated[Event, typer.Option(help="Event code of those faults.")] = Event.INTERNAL,
    sts_shape: Annotated[FaultShape, typer.Option(help="How much those faults say.")] = FaultShape.DETAIL,
    sts_variant: Annotated[Variant, typer.Option(help="How responses with tokens are arranged.")] = Variant.RECORDED,
) -> None:
    """Serve the sandbox agencies until SIGTERM or Ctrl-C.

    Keys, credentials and the book are in the folder `sandbox` of LODGE_HOME. Workers with environment "sandbox" and the
    same LODGE_HOME find it at LODGE_SANDBOX_URL (https://localhost:8443). The token service's trouble can be changed
    while it runs: POST {"service": "sts", "latency": 1, "fault_rate": 0.1} to /sandbox/script.
    """
    from pipeline.sandbox import server
    from pipeline.sandbox.trouble import Trouble
    from pipeline.telemetry import configure_logs

    settings = load_settings()
    configure_logs(settings.log_level, json_lines=settings.log_format == "json")
    trouble = Trouble(
        service="sts",
        latency=sts_latency,
        fault_rate=sts_fault_rate,
        seed=sts_seed,
        event=sts_event,
        shape=sts_shape,
        variant=sts_variant,
    )
    server.serve(_home(settings), "localhost", port, trouble)


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


@_commands.command("keystore")
def keystore(
    out: Annotated[Path, typer.Argument(help="The file to write; one that is there is not replaced.")],
    abn: Annotated[
        list[str] | None, typer.Option(help="One credential for each; repeat it for several. Default: a synthetic one.")
    ] = None,
    name: Annotated[str, typer.Option(help="Display name, the part of the id after the ABN.")] = "SyntheticMachine",
    vintage: Annotated[str, typer.Option(help="How it is written: present, offline or auskey.")] = "present",
    days: Annotated[int, typer.Option(min=1, max=36_500, help="Days until they expire.")] = 730,
    expired: Annotated[bool, typer.Option("--expired", help="They expired yesterday.")] = False,
    password_file: Annotated[
        Path | None, typer.Option(help="File with the password. Default: one is made and written to OUT.password.")
    ] = None,
) -> None:
    """Write a synthetic keystore.xml of machine credentials, from an authority that is made for it and forgotten.

    For trying out how keystores are read, replaced and told of before they expire. No agency knows these credentials,
    and neither does the sandbox's token service: the keystore that it knows is in its own folder.
    """
    import secrets

    from pipeline.bootstrap import now
    from pipeline.sandbox.home import synthetic_abn
    from pipeline.sandbox.keystores import synthetic_keystore
    from pipeline.secret_files import read_secret

    password = secrets.token_urlsafe(18) if password_file is None else read_secret(password_file, "--password-file")
    abns = [synthetic_abn(1)] if abn is None else [one.replace(" ", "") for one in abn]
    document = synthetic_keystore(abns, name, password, now(), vintage=vintage, days=-1 if expired else days)
    screen.write_private(out, document)
    if password_file is None:
        password_file = out.with_name(f"{out.name}.password")
        screen.write_private(password_file, password.encode())
    screen.stdout().print(f"SYNTHETIC: {len(abns)} credential(s) in {out}, password in {password_file}", soft_wrap=True)


def _pulls(line: "Line") -> str:
    """Nothing where outcomes are not pulled."""
    return "" if line.pulls is None else f"{line.pulls:3d}"


def _home(settings: Settings) -> Path:
    return settings.home.resolve() / "sandbox"
