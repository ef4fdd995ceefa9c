"""Old and new code side by side while the schema changes under them."""

import shutil
import textwrap
from pathlib import Path

from alembic import command
from alembic.config import Config

import migrations
from pipeline.ledger import migrate
from tests.chaos.batches import TROUBLED
from tests.chaos.ground import Ground
from tests.chaos.scenario import Field, Scenario
from tests.services.pipeline_processes import WORKERS, until

_NEXT = '''
    """A release ahead: what an expanding migration may do."""

    import sqlalchemy as sa
    from alembic import op

    revision = "next"
    down_revision = "{head}"
    branch_labels = None
    depends_on = None


    def upgrade() -> None:
        op.add_column("lodgment", sa.Column("of_the_next_release", sa.Text(), server_default="x", nullable=False))
        op.add_column("attempt", sa.Column("of_the_next_release", sa.Text()))
        op.create_index("of_the_next_release_idx", "lodgment", ["of_the_next_release"])
        op.create_table("of_the_next_release", sa.Column("id", sa.Integer(), primary_key=True))


    def downgrade() -> None:
        op.drop_table("of_the_next_release")
        op.drop_index("of_the_next_release_idx")
        op.drop_column("attempt", "of_the_next_release")
        op.drop_column("lodgment", "of_the_next_release")
'''


def behind(field: Field) -> None:
    """New workers on the schema of the release before refuse, say what to run, and work once it was run."""
    with field.ground() as ground:
        ground.start_sandbox()
        ground.push(field.marked.batch(field.size, "waits", TROUBLED))
        migrate.downgrade(ground.servers.ledger_url, "-1")
        said = {ground.refused(name) for name in WORKERS}
        field.note("; ".join(sorted(said)))
        assert all("lodge db upgrade" in line for line in said), said
        ground.run_command("db", "upgrade")
        ground.crew()
        ground.verdict(errors=("lodge",))


def ahead(field: Field) -> None:
    """The next release's migration runs while this release's workers lodge, and some of them start after it."""
    with field.ground() as ground:
        ground.open()
        ground.push(field.marked.batch(field.size // 2, "before", TROUBLED))
        until("some are final", lambda: "accepted" in ground.states().values(), 120)
        _migrate_further(field, ground)
        ground.crew()
        field.note("migrated under way; a second crew has started on the newer schema")
        ground.push(field.marked.batch(field.size // 2, "after", TROUBLED))
        ground.verdict()


def _migrate_further(field: Field, ground: Ground) -> None:
    scripts = field.folder / "migrations"
    shutil.copytree(Path(migrations.__file__).parent, scripts, ignore=shutil.ignore_patterns("__pycache__"))
    (scripts / "versions" / "9999_next.py").write_text(textwrap.dedent(_NEXT.format(head=migrate.head())).lstrip())
    with migrate._connected(ground.servers.ledger_url) as connection:
        config = Config(attributes={"connection": connection})
        config.set_main_option("script_location", str(scripts))
        config.set_main_option("path_separator", "os")
        command.upgrade(config, "head")
    [(found,)] = ground.query("SELECT version_num FROM alembic_version")
    assert found == "next", found


SCENARIOS = (
    Scenario("schema", "behind", "new workers meet the schema of the release before", behind),
    Scenario("schema", "ahead", "the next release's migration runs under this release's workers", ahead),
)
