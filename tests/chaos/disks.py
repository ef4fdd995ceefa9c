"""Disks that are full: the broker holds publishers back, the ledger's server takes no more rows."""

import os
import pwd
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import psycopg
from psycopg import sql

from tests.acceptance.havoc import Pusher
from tests.chaos.batches import TROUBLED
from tests.chaos.scenario import Field, NotHereError, Scenario
from tests.services.pipeline_processes import until

_MEGABYTES = 64
_FILLER = "filler"
_MORE_THAN_ANY_DISK = "900000GB"
_USUAL_LIMIT = "50MB"


def of_the_broker(field: Field) -> None:
    """The disk alarm: whoever publishes is held back, producers and workers alike, until there is room again."""
    rabbit = field.house.rabbit
    with field.ground(agency_timeout=30) as ground:
        ground.open()
        # Still with the agency when the alarm comes, however fast the machine: their replies make workers publish.
        ground.push(field.marked.batch(field.size // 2, "before", ("slow",), seconds=10))
        until("they are with the agency", lambda: len(ground.book()) > 0, 60)
        pusher = Pusher(ground.servers)
        try:
            rabbit.ctl("set_disk_free_limit", _MORE_THAN_ANY_DISK)
            batch = field.marked.batch(field.size // 2, "meanwhile", TROUBLED)
            ground.confirm(batch)
            pusher.push(batch.jobs)
            until("workers are held back", lambda: ground.logged("broker.blocked") > 0, 90)
            field.note(f"workers are held back; {len(ground.states())} lodgments in the ledger")
            assert not any(job_id in ground.states() for job_id in batch.jobs), "a publisher got through the alarm"
        finally:
            rabbit.ctl("set_disk_free_limit", _USUAL_LIMIT)
        until("workers go on", lambda: ground.logged("broker.unblocked") > 0, 60)
        pusher.finish()
        ground.verdict()


def of_the_ledger(field: Field) -> None:
    """The ledger's tables are on a disk of their own, which somebody fills to the last byte; then room is made."""
    with (
        _small_disk() as disk,
        _tablespace(field.house.postgres.url, disk) as tablespace,
        field.ground(tablespace=tablespace) as ground,
    ):
        ground.open()
        ground.push(field.marked.batch(20, "before", TROUBLED))
        until("some are final", lambda: "accepted" in ground.states().values(), 120)
        filler = disk / _FILLER
        field.note(f"{_fill(filler) // 1_000_000} MB of {_MEGABYTES} MB were free and are not any more")
        pushed = 0
        while not ground.logged("ledger.full"):
            assert pushed < field.size * 20, "the disk did not become full"
            ground.push(field.marked.batch(20, f"meanwhile-{pushed}", TROUBLED))
            pushed += 20
            until("it is taken or refused", lambda: _settled(ground.states(), ground.logged("ledger.full")), 60)
        field.note(f"after {pushed} more jobs the ledger took no more rows; workers wait")
        filler.unlink()
        ground.verdict()


def _settled(states: dict[str, str], full: int) -> bool:
    return full > 0 or not {"received", "authorised", "sealed"} & set(states.values())


@contextmanager
def _small_disk() -> Iterator[Path]:
    if os.geteuid() != 0:
        raise NotHereError("a full disk needs a small one, and only root may mount it")
    place = Path(tempfile.mkdtemp(prefix="lodge-small-disk-"))
    mount = ["mount", "-t", "tmpfs", "-o", f"size={_MEGABYTES}m", "lodge-chaos", str(place)]
    done = subprocess.run(mount, check=False, capture_output=True, text=True, timeout=30)
    if done.returncode != 0:
        place.rmdir()
        raise NotHereError(f"a small disk cannot be mounted here: {done.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True, timeout=30)
        place.rmdir()


@contextmanager
def _tablespace(server_url: str, disk: Path) -> Iterator[str]:
    """Where a database can be put that has no other disk."""
    folder = disk / "tables"
    folder.mkdir()
    os.chown(folder, pwd.getpwnam("nobody").pw_uid, -1)
    name = f"chaos_{uuid4().hex[:12]}"
    create = sql.SQL("CREATE TABLESPACE {} LOCATION {}").format(sql.Identifier(name), sql.Literal(str(folder)))
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(create)
        try:
            yield name
        finally:
            (disk / _FILLER).unlink(missing_ok=True)
            connection.execute(sql.SQL("DROP TABLESPACE {}").format(sql.Identifier(name)))


def _fill(path: Path) -> int:
    """Write until there is no room; how many bytes that took."""
    size = 0
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                size += file.write(b"\0" * 4096)
        except OSError:
            return size


SCENARIOS = (
    Scenario("disk", "broker", "the broker's disk is full, and it holds publishers back", of_the_broker),
    Scenario("disk", "ledger", "the disk of the ledger's tables is full", of_the_ledger),
)
