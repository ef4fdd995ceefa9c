"""`lodge db`: the schema of the ledger."""

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from pipeline.interfaces.cli.screen import stderr, stdout
from pipeline.interfaces.cli.session import embedded_file, settings_of
from pipeline.lodgment.errors import ConfigurationError

group = typer.Typer(no_args_is_help=True, help="The ledger's schema: migrate it, look at it, check it.")


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.add_typer(group, name="db")


@group.command("upgrade")
def upgrade(
    context: typer.Context,
    revision: Annotated[str, typer.Argument(help="A revision, or head.")] = "head",
) -> None:
    """Bring the ledger's schema up to date. Safe while workers run, and safe to repeat.

    Old workers keep working on the new schema: migrate first, then replace them one by one.
    """
    from pipeline.ledger import migrate

    settings = settings_of(context)
    migrate.require_revision(revision)
    file = embedded_file(settings)
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
    before = migrate.current(settings.ledger())
    migrate.upgrade(settings.ledger(), revision)
    stdout().print(f"The ledger's schema was at {before or 'nothing'} and is at {migrate.current(settings.ledger())}.")


@group.command("downgrade")
def downgrade(
    context: typer.Context,
    revision: Annotated[str, typer.Argument(help="The revision to go back to; base takes everything away.")],
    yes: Annotated[bool, typer.Option("--yes", help="I have a backup, and I know what is lost.")] = False,
) -> None:
    """Take the ledger's schema back to REVISION. What only the newer one can hold is LOST; `base` loses everything."""
    from pipeline.ledger import migrate

    settings = settings_of(context)
    if not yes:
        text = f"going back to {revision} destroys data: make a backup, stop the workers, then repeat this with --yes"
        raise ConfigurationError("db.downgrade", text)
    migrate.downgrade(settings.ledger(), revision)
    stdout().print(f"The ledger's schema is at {migrate.current(settings.ledger()) or 'nothing'}.")


@group.command("current")
def current(context: typer.Context) -> None:
    """Print the revision of the ledger's schema; exit code 1 when this program needs a newer one."""
    from pipeline.ledger import migrate

    settings = settings_of(context)
    file = embedded_file(settings)
    found = None if file is not None and not file.exists() else migrate.current(settings.ledger())
    stdout().print(f"{found or 'nothing'} (this program needs {migrate.head()})")
    if migrate.is_behind(found):
        stderr().print("Run `lodge db upgrade`.")
        raise typer.Exit(1)


@group.command("drift")
def drift(
    url: Annotated[
        str | None, typer.Option(help="Check on this PostgreSQL too; the database must be empty and is left so.")
    ] = None,
) -> None:
    """Compare what the migrations build with what the program expects: on a temporary SQLite database.

    For developers: `make check` runs it. Exit code 1 when they differ.
    """
    from pipeline.ledger.drift import differences

    with tempfile.TemporaryDirectory() as folder:
        found = [("SQLite", line) for line in differences(f"sqlite:///{Path(folder) / 'drift.sqlite3'}")]
    if url is not None:
        found += [("PostgreSQL", line) for line in differences(url)]
    for database, line in found:
        stderr().print(f"{database}: {line}")
    if found:
        raise typer.Exit(1)
    stdout().print("No drift: the migrations build what the program expects.")
