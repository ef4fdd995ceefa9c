"""Folders for what is not finished, and what becomes of those whose process was killed."""

import os
import stat
import time
from pathlib import Path

import pytest

from pipeline.interfaces.cli.payloads import KEPT_FOR, OWN, SPOOL, spool_in
from pipeline.interfaces.cli.unfinished import unfinished_folder


def test_it_is_for_its_owner_alone_and_ends_with_the_block_whatever_is_raised(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), unfinished_folder(tmp_path, "own-") as folder:  # noqa: PT012  - what it is about
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        (folder / "part.xml").write_text("SYNTHETIC")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_what_was_renamed_stays(tmp_path: Path) -> None:
    with unfinished_folder(tmp_path, "own-") as folder:
        (folder / "part.xml").write_text("SYNTHETIC")
        folder.rename(tmp_path / "done")
    assert [one.name for one in (tmp_path / "done").iterdir()] == ["part.xml"]


def test_the_next_one_removes_what_a_killed_process_left_and_nothing_that_is_in_use(tmp_path: Path) -> None:
    left, other = tmp_path / "own-left", tmp_path / "somebodys"
    for folder in (left, other):
        folder.mkdir()
        (folder / "part.xml").write_text("SYNTHETIC")
    (tmp_path / "own-link").symlink_to(other)
    with unfinished_folder(tmp_path, "own-") as living, unfinished_folder(tmp_path, "own-") as second:
        assert living.is_dir()
        assert second.is_dir()
        assert not left.exists()
    assert (other / "part.xml").exists()
    assert sorted(one.name for one in tmp_path.iterdir()) == ["own-link", "somebodys"]


def test_a_command_without_a_broker_removes_the_documents_that_a_killed_one_spooled(tmp_path: Path) -> None:
    left = tmp_path / SPOOL / f"{OWN}left"
    left.mkdir(parents=True)
    (left / "part.xml").write_text("SYNTHETIC")
    with spool_in(tmp_path, keep=False) as (spool, folder):
        spool.put([b"SYNTHETIC"])
        assert [one for one in (tmp_path / SPOOL).iterdir() if one != folder] == []
    assert list((tmp_path / SPOOL).iterdir()) == []


def test_what_waited_too_long_for_the_intake_is_removed_and_what_is_not_the_spools_is_not(tmp_path: Path) -> None:
    place = tmp_path / SPOOL
    place.mkdir()
    old = time.time() - KEPT_FOR.total_seconds() - 60
    names = {"a" * 64 + ".xml": old, "b" * 64 + ".xml": time.time(), "half-x1y2": old, "mine.xml": old}
    for name, moment in names.items():
        (place / name).write_text("SYNTHETIC")
        os.utime(place / name, (moment, moment))
    with spool_in(tmp_path, keep=True) as (_, folder):
        assert folder == place
    assert sorted(one.name for one in place.iterdir()) == ["b" * 64 + ".xml", "mine.xml"]
