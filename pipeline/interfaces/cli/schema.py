"""`lodge schema` and `lodge master-key`: what is needed once, before anything is lodged."""

from pathlib import Path
from typing import Annotated

import typer

from pipeline.interfaces.cli.screen import print_json, stderr, write_private

group = typer.Typer(no_args_is_help=True, help="The contracts, for producers in other languages.")


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.add_typer(group, name="schema")
    app.command("master-key")(master_key)


@group.callback()
def _contracts() -> None:
    """The contracts, for producers in other languages."""


@group.command("job")
def job() -> None:
    """Print the JSON Schema of a lodgment job (draft 2020-12): what a producer sends."""
    from pipeline.lodgment.job import job_schema

    print_json(job_schema())


def master_key(
    file: Annotated[Path, typer.Argument(help="The file to make; one that exists is never touched.")],
) -> None:
    """Make a master key in FILE, readable by you alone, for the setting master_key_file.

    Everything secret in the ledger is sealed under it: back it up apart from the database, and never lose it. To
    rotate, make a second file and put its line before the old one.
    """
    import base64
    import secrets

    from pipeline.bootstrap import MASTER_KEY_BYTES

    write_private(file, base64.b64encode(secrets.token_bytes(MASTER_KEY_BYTES)) + b"\n")
    stderr().print(f"{file}: a new master key, readable by you alone. Set LODGE_MASTER_KEY_FILE={file.resolve()}")
