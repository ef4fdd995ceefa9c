"""The command tree, and the one place where an error becomes a line for a person and an exit code."""

import sys
import traceback
from collections.abc import Sequence
from importlib.metadata import version
from typing import Annotated, NoReturn

import typer

from pipeline.interfaces.cli import (
    breakers,
    codes,
    credentials,
    database,
    diagnose,
    evidence,
    example,
    explain,
    operate,
    policies,
    quarantine,
    recover,
    replay,
    run,
    sandbox,
    schema,
    software_ids,
    status,
    stp,
    submit,
    tokens,
)
from pipeline.lodgment.errors import ConfigurationError, DependencyDownError, PipelineError

DONE, NOT_AS_IT_MUST_BE, BAD_USAGE = 0, 1, 2
_THEMES = (
    submit,
    stp,
    run,
    example,
    status,
    explain,
    codes,
    evidence,
    operate,
    breakers,
    policies,
    replay,
    quarantine,
    recover,
    tokens,
    software_ids,
    credentials,
    diagnose,
    sandbox,
    database,
    schema,
)


def build() -> typer.Typer:
    """The whole command tree."""
    app = typer.Typer(
        name="lodge",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode="markdown",
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_lodge)
    for theme in _THEMES:
        theme.register(app)
    return app


def _version(wanted: bool) -> None:
    if wanted:
        python = ".".join(map(str, sys.version_info[:3]))
        sys.stdout.write(f"lodge {version('lodgment-pipeline')} (Python {python})\n")
        raise typer.Exit


def _lodge(
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error, and every log event.")
    ] = False,
    version_: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say which release this is, and end.")
    ] = False,
) -> None:
    """Lodge documents with Australian government agencies, and look after what was lodged.

    Settings come from the file that LODGE_SETTINGS_FILE names and from LODGE_* variables; without any, everything runs
    in this folder (var/) against the sandbox agencies.

    Exit codes: 0 done; 1 something is not as it must be; 2 bad usage or configuration.
    """


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run one command and leave with its exit code; `--debug` may stand anywhere."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    try:
        arguments = ["--debug", *(one for one in given if one != "--debug")] if debug else given
        build()(arguments, prog_name="lodge")
    except Exception as error:  # noqa: BLE001  - the edge: a person gets one line, whatever went wrong
        if debug:
            traceback.print_exception(error)
        line, code = _told(error)
        sys.stderr.write(f"lodge: {line}\n")
        sys.exit(code)
    sys.exit(DONE)


def _told(error: Exception) -> tuple[str, int]:
    """What to say of an error, and the exit code."""
    if isinstance(error, ExceptionGroup):
        ours = error.subgroup(PipelineError)
        return _told((ours or error).exceptions[0])
    if isinstance(error, PipelineError):
        waits = isinstance(error, DependencyDownError) and error.code != "ledger.damaged"
        more = "; nothing was lost: try again when it is back" if waits else ""
        code = BAD_USAGE if isinstance(error, ConfigurationError) else NOT_AS_IT_MUST_BE
        return f"{error} [{error.code}]{more}", code
    return _told_of_foreign(error)


def _told_of_foreign(error: Exception) -> tuple[str, int]:
    """What came through untranslated: the machine's fault where it can be told, else ours."""
    if isinstance(error, OSError) and error.filename is not None:
        text = f"{str(error.filename)[:200]!r} cannot be used: {error.strerror}; check the path and who may use it"
        return f"{text} (LODGE_HOME says where this program keeps its own files) [file.os]", BAD_USAGE
    if isinstance(error, ImportError) or type(error).__module__ == "xmlsec":
        # Nothing that seals can be imported where xmlsec refuses to load: this is the start of every worker.
        from pipeline.protocol.libraries import require_one_libxml2, xml_libraries

        try:
            require_one_libxml2(xml_libraries())
        except ConfigurationError as told:
            return _told(told)
    text = f"unexpected {type(error).__name__}: a defect of this program; run it again with --debug and report that"
    return text, NOT_AS_IT_MUST_BE
