"""`lodge evidence`: all that is kept of one lodgment in one signed file, and whether such a file holds."""

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated

import typer
from typer.core import TyperGroup

from pipeline.interfaces.cli.find import the_lodgment
from pipeline.interfaces.cli.screen import print_json, shown, stderr, stdout
from pipeline.interfaces.cli.session import reading, settings_of
from pipeline.lodgment.errors import ConfigurationError, RefusedError

if TYPE_CHECKING:
    from pipeline.evidence.checking import Checked
    from pipeline.evidence.manifest import Manifest
    from pipeline.evidence.packing import Terms
    from pipeline.settings import Settings

_WRITE = "write"


class _OrWrite(TyperGroup):
    """`lodge evidence ID` is `lodge evidence write ID`."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        if args and args[0] not in {*self.commands, *self.get_help_option_names(ctx)}:
            args = [_WRITE, *args]
        return super().parse_args(ctx, args)


_commands = typer.Typer(
    cls=_OrWrite,
    no_args_is_help=True,
    help="All that is kept of one lodgment in one file that anybody can check: `lodge evidence ID`, `verify FILE`.",
)


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    _commands.command(_WRITE)(write)
    _commands.command("verify")(verify)
    app.add_typer(_commands, name="evidence")


def write(
    context: typer.Context,
    which: Annotated[
        str, typer.Argument(metavar="ID", help="Lodgment id (or a beginning of it), reference or job id.")
    ],
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where to; omitted: evidence-REFERENCE.zip in this folder.")
    ] = None,
    without_payload: Annotated[
        bool, typer.Option("--without-payload", help="Leave the document out; its hash and all else stay.")
    ] = False,
    sign_key: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="PEM private key (RSA, EC, Ed25519) to sign with; else evidence_key's."),
    ] = None,
    sign_key_password: Annotated[
        Path | None, typer.Option(metavar="FILE", help="File with the password of that key; else none.")
    ] = None,
) -> None:
    """Write everything that is kept of one lodgment to a ZIP (mode 0600), signed if there is a key to sign with.

    What was sent and came, to the byte, with hashes, attempts, message events, explanations and the audit. PERSONAL
    DATA is in it, also with --without-payload: replies and events may name people. Changes nothing in the ledger; the
    same ledger gives the same bytes. It holds no key, no password and no secret of a token.
    """
    from pipeline.evidence.packing import Terms
    from pipeline.evidence.signing import load_signing_key

    settings = settings_of(context)
    path, password = sign_key or settings.evidence_key, sign_key_password
    if sign_key is None:
        password = password or settings.evidence_key_password_file
    key = None if path is None else load_signing_key(path, password)
    target, manifest = asyncio.run(_write(settings, which, out, Terms(documents=not without_payload, key=key)))
    console = stderr()
    console.print(f"{target}: {len(manifest.files)} files of {manifest.lodgment.reference}, readable by you alone")
    console.print("It holds PERSONAL DATA: hand it only to those who may see it, encrypted on the way.")
    if key is None:
        console.print("It is NOT SIGNED: set evidence_key or give --sign-key, so that others can rely on it.")
    for one in manifest.absent:
        console.print(f"The ledger has the {one.what} {one.id} no more.")


def verify(
    file: Annotated[Path, typer.Argument(metavar="FILE.zip", help="An evidence file.")],
    trust: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="PEM: the operator's certificate or public key, or an authority's."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for machines.")] = False,
) -> None:
    """Check an evidence file, offline and without ledger or settings. Exit code 1 if anything fails.

    Every hash; nothing extra, nothing missing; the operator's signature; the signatures in what was sent; receipts
    against what they acknowledge. Without --trust the file vouches for itself alone: compare the key's SHA-256.
    """
    from pipeline.evidence.checking import check
    from pipeline.evidence.signing import read_vouchers

    checked = check(file, None if trust is None else read_vouchers(trust))
    if as_json:
        found = [asdict(one) for one in checked.findings]
        print_json({"good": checked.good, "lodgment": checked.manifest.lodgment.model_dump(), "findings": found})
    else:
        _tell(checked)
    if not checked.good:
        failed = sum(one.verdict == "fail" for one in checked.findings)
        raise RefusedError("evidence.bad", f"{file} does not hold: {failed} of {len(checked.findings)} checks failed")


def _tell(checked: "Checked") -> None:
    of, console = checked.manifest.lodgment, stdout()
    console.print(
        shown(f"{of.reference}  {of.channel} in {of.environment}, {of.state} (version {of.version})"), style="bold"
    )
    for one in checked.findings:
        console.print(f"{one.verdict.upper():<5} {shown(one.what)}: {shown(one.text)}", soft_wrap=True)


async def _write(settings: "Settings", which: str, out: Path | None, terms: "Terms") -> "tuple[Path, Manifest]":
    from pipeline.evidence.packing import pack
    from pipeline.ledger.dossier import dossier

    async with reading(settings) as tx:
        row = await the_lodgment(tx, which)
        book = await dossier(tx, row.id)
        assert book is not None  # noqa: S101  - found in this very transaction
        target = out or Path(f"evidence-{row.reference}.zip")
        with _private(target) as file:
            return target, await pack(tx, book, file, terms)


@contextmanager
def _private(path: Path) -> Iterator[IO[bytes]]:
    """A new file that only its owner can read; half of one does not stay.

    Raises:
        ConfigurationError: `file.exists` or `file.write`.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError as error:
        raise ConfigurationError("file.exists", f"{path} exists already and is not replaced: name another") from error
    except OSError as error:
        raise ConfigurationError("file.write", f"{path} cannot be written: {error.strerror}") from error
    try:
        with os.fdopen(descriptor, "w+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        path.unlink(missing_ok=True)
        raise ConfigurationError("file.write", f"{path} cannot be written: {error.strerror}") from error
    except BaseException:
        path.unlink(missing_ok=True)
        raise
