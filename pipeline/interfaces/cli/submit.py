"""`lodge submit`: documents and jobs in, and if wanted their outcomes out."""

import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.interfaces.cli.screen import shown
from pipeline.interfaces.cli.session import settings_of
from pipeline.lodgment.errors import ConfigurationError

if TYPE_CHECKING:
    from pipeline.interfaces.cli.inputs import Source

_STDIN = "-"
_DOCUMENTS = "Bare XML documents and folders"
_CHECKING = "Dry run"


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command("submit")(submit)


def submit(
    context: typer.Context,
    paths: Annotated[
        list[str], typer.Argument(metavar="PATH", help="Documents, folders, manifests; - is NDJSON on stdin.")
    ],
    sender_id: Annotated[
        str | None, typer.Option(help="Who ASIC knows as the sender.", rich_help_panel=_DOCUMENTS)
    ] = None,
    sender_type: Annotated[
        str | None, typer.Option(help="For example REGA, a registered agent.", rich_help_panel=_DOCUMENTS)
    ] = None,
    abn: Annotated[
        str | None, typer.Option(help="The business that the document is about.", rich_help_panel=_DOCUMENTS)
    ] = None,
    channel: Annotated[str, typer.Option(help="The agency interface.", rich_help_panel=_DOCUMENTS)] = "asic_bn",
    service: Annotated[str, typer.Option(help="The service within it.", rich_help_panel=_DOCUMENTS)] = "business-names",
    action: Annotated[
        str | None,
        typer.Option(
            help="The message type; omitted: bnLodgeApplication, and Submit for pay events (or Update, Adjust).",
            rich_help_panel=_DOCUMENTS,
        ),
    ] = None,
    credential: Annotated[
        str | None,
        typer.Option(help="Id or ABN of the machine credential, if not the usual one.", rich_help_panel=_DOCUMENTS),
    ] = None,
    due_date: Annotated[
        str | None, typer.Option(metavar="YYYY-MM-DD", help="When the agency must have it.", rich_help_panel=_DOCUMENTS)
    ] = None,
    order_key: Annotated[
        str | None,
        typer.Option(help="Lodgments that share it go out one at a time, in order.", rich_help_panel=_DOCUMENTS),
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="Your own mark; repeatable.", rich_help_panel=_DOCUMENTS),
    ] = None,
    skip_invalid: Annotated[
        bool, typer.Option("--skip-invalid", help="Push the good jobs although others are bad.")
    ] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until every job has ended.")] = False,
    timeout: Annotated[
        float | None,
        typer.Option(min=0, metavar="SECONDS", help="Wait no longer (through a broker: without any news)."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Seal and verify, send nothing.", rich_help_panel=_CHECKING)
    ] = False,
    offline: Annotated[
        bool, typer.Option("--offline", help="With a token of our own making.", rich_help_panel=_CHECKING)
    ] = False,
    out: Annotated[
        Path, typer.Option(metavar="FOLDER", help="Where the envelopes are written.", rich_help_panel=_CHECKING)
    ] = Path("dry-run"),
) -> None:
    """Submit documents: check all of them first, then push them; bad input pushes nothing, unless --skip-invalid.

    PATH may be an XML document, a folder of them (`*.xml`, no subfolders), NDJSON (`*.ndjson`, `*.jsonl`: one job per
    line, see `lodge schema job`), or a CSV manifest (`*.csv`: one job per row; the columns are job fields such as
    job_id, channel, service, action, sender.id, sender.type, employer.abn, labels.batch, and payload.file relative to
    the manifest). For bare documents the options below give the job's fields, and the job id comes from the document:
    to submit the same file again is the same lodgment, never a second one.

    A file of pay events (it begins with a Record_Delimiter) says most of that itself: it becomes a job of channel
    sbr2_stp for each payer in it, due on its pay date, and only --action, --credential, --label and --due-date are
    asked for. See docs/stp-input.md.

    With LODGE_BROKER_URLS jobs go to RabbitMQ and the workers do the rest. Without, the whole pipeline runs in this
    process until these lodgments are final or wait for something; `lodge run` goes on with those that wait.

    --dry-run does all but send: it checks, gets a token, seals to the byte, verifies every signature with another
    implementation, and writes the envelopes to --out. Nothing is stored in the ledger and nothing is published; the
    reference in an envelope is one of its own. --offline asks nobody for a token: the envelope's structure and
    signatures are real, but no agency would take it.

    Exit code 1: some job was bad, refused, rejected or held (or, with --wait, did not end in time).
    """
    from pipeline.interfaces.cli.inputs import Terms
    from pipeline.interfaces.cli.submitting import Wish, submit_all

    settings = settings_of(context)
    if offline and not dry_run:
        raise ConfigurationError("submit.offline", "--offline: belongs to --dry-run; nothing can be lodged offline")
    terms = Terms(
        channel=channel,
        service=service,
        action=action,
        sender_id=sender_id,
        sender_type=sender_type,
        abn=abn,
        credential=credential,
        due_date=due_date,
        order_key=order_key,
        labels=_labels(label or ()),
    )
    with _sources(paths) as sources:
        wish = Wish(
            skip_invalid=skip_invalid, wait=wait, timeout=timeout, out=out if dry_run else None, offline=offline
        )
        if not submit_all(settings, sources, terms, wish):
            raise typer.Exit(1)


def _labels(given: Sequence[str]) -> Mapping[str, str]:
    labels = {}
    for one in given:
        name, equals, value = one.partition("=")
        if not (name and equals):
            raise ConfigurationError("submit.label", f"--label: must be NAME=VALUE, not {shown(one)!r}")
        labels[name] = value
    return labels


@contextmanager
def _sources(paths: Sequence[str]) -> "Iterator[list[Source]]":
    """The paths, with stdin kept in a file of our own while it is read twice: once to check, once to push."""
    from pipeline.interfaces.cli.inputs import Source

    if any("\0" in one for one in paths):
        raise ConfigurationError("submit.path", "PATH: a file's name cannot hold a NUL")
    if _STDIN not in paths:
        yield [Source(Path(one), one) for one in paths]
        return
    with tempfile.NamedTemporaryFile(prefix="stdin-", suffix=".ndjson") as file:
        shutil.copyfileobj(sys.stdin.buffer, file)
        file.flush()
        stdin = Source(Path(file.name), "stdin")
        yield [stdin if one == _STDIN else Source(Path(one), one) for one in dict.fromkeys(paths)]
