"""The broker's disk is gone; the ledger was restored: what the commands make of it, by the agency's own book."""

import asyncio
import json
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pipeline.interfaces.cli import main
from pipeline.lodgment.states import State
from tests.conftest import delete_topology
from tests.doubles.jobs import job
from tests.services.postgres import Backup
from workers.process import Worker

if TYPE_CHECKING:
    from pipeline.broker.topology import Topology
    from tests.integration.flow.conftest import Pipeline

pytestmark = pytest.mark.parametrize("pipeline", ["server"], indirect=True)


class Lodge:
    """The command, with the settings of the pipeline under test."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    async def __call__(self, *arguments: str) -> tuple[object, str, str]:
        """Exit code, stdout, stderr."""
        with pytest.raises(SystemExit) as left:
            await asyncio.to_thread(main, arguments)
        said = self._capsys.readouterr()
        return left.value.code, said.out, said.err


@pytest.fixture
def lodge(pipeline: "Pipeline", monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Lodge:
    settings = pipeline.settings
    monkeypatch.setenv("LODGE_HOME", str(settings.home))
    monkeypatch.setenv("LODGE_SANDBOX_URL", str(settings.sandbox_url))
    monkeypatch.setenv("LODGE_BROKER_URLS", settings.broker_urls[0])
    monkeypatch.setenv("LODGE_NAMESPACE", settings.namespace)
    monkeypatch.setenv("LODGE_LEDGER_URL", str(settings.ledger_url))
    monkeypatch.setenv("LODGE_MASTER_KEY_FILE", str(settings.master_key_file))
    return Lodge(capsys)


async def test_every_queue_is_rebuilt_after_the_broker_lost_them(
    pipeline: "Pipeline", lodge: Lodge, amqp_url: str, topology: "Topology", tmp_path: Path
) -> None:
    # Nothing may be found by being stuck: what goes on here goes on because of the command.
    pipeline.settings = pipeline.settings.model_copy(update={"stuck_after": timedelta(hours=1)})
    async with pipeline.running([Worker.INTAKE]):
        await pipeline.push(job("late"), job("soon", due_date="2026-11-26"), job("other"))
        for name in ("late", "soon", "other"):
            await pipeline.until(name, State.RECEIVED)
    async with pipeline.running([Worker.TOKEN, Worker.SCHEDULER]):
        await pipeline.until("soon", State.AUTHORISED)
    delete_topology(amqp_url, topology)

    code, out, _ = await lodge("recover", "--dry-run")
    assert code == 0
    assert "To put back: 3. Nothing was changed." in out
    assert f"{topology.namespace}.authorise" in out.split("would be declared: ")[1]

    code, out, _ = await lodge("recover")
    assert code == 0
    assert "Put back: 3. Moved on by themselves meanwhile: 0." in out
    async with pipeline.running():
        code, out, _ = await lodge("recover")  # while workers run, and again
        assert code == 0
        rows = {name: await pipeline.until(name, State.ACCEPTED) for name in ("late", "soon", "other")}
        book = await pipeline.book()
    assert {name: book[row.reference]["processed"] for name, row in rows.items()} == dict.fromkeys(rows, 1)

    asked = tmp_path / "confirmed.txt"
    asked.write_text("late\nlost-in-the-intake-queue\nsoon\n")
    code, out, err = await lodge("recover", "--known", str(asked))
    assert (code, out) == (1, "lost-in-the-intake-queue\n")
    assert "Of 3 job ids the ledger has: 2 accepted." in err


async def test_a_refused_job_that_is_corrected_is_returned_to_its_queue_and_lodged(
    pipeline: "Pipeline", lodge: Lodge
) -> None:
    async with pipeline.running():
        await pipeline.push(job("refused", priority=12))
        kept = await pipeline.until_quarantined("job.invalid")
        code, _, _ = await lodge("quarantine", "fix", str(kept.id), "--set", "priority=9", "--reason", "a slip")
        assert code == 0
        code, _, _ = await lodge("quarantine", "return", "--code", "job.invalid", "--reason", "corrected")
        assert code == 0
        row = await pipeline.until("refused", State.ACCEPTED)
        assert row.priority == 9
        code, _, err = await lodge("quarantine", "return", str(kept.id), "--reason", "again")
        assert (code, "[quarantine.left]" in err) == (1, True)


async def test_after_a_restore_each_reference_is_still_processed_once(
    pipeline: "Pipeline", lodge: Lodge, postgresql_url: str, tmp_path: Path
) -> None:
    backup = Backup(postgresql_url)
    before, unsent, forgotten = ("before-1", "before-2"), ("unsent-1", "unsent-2"), ("forgotten-1", "forgotten-2")
    async with pipeline.running():
        await pipeline.push(*map(job, before))
        for name in before:
            await pipeline.until(name, State.ACCEPTED)
    async with pipeline.running([Worker.INTAKE]):
        await pipeline.push(*map(job, unsent))
        for name in unsent:
            await pipeline.until(name, State.RECEIVED)
    backup.take()
    async with pipeline.running():
        await pipeline.push(*map(job, forgotten))
        sent = {name: await pipeline.until(name, State.ACCEPTED) for name in (*before, *unsent, *forgotten)}
        assert all(line["processed"] == 1 for line in (await pipeline.book()).values())
    backup.restore()

    code, _, err = await lodge("recover", "--after-restore")
    assert (code, "[operator.reason]" in err) == (2, True)
    code, out, _ = await lodge("recover", "--after-restore", "--reason", "disk lost")
    assert code == 0
    assert "Doubted: 2 of 2 open lodgments." in out
    code, _, err = await lodge("cancel", "unsent-1", "--reason", "it was never sent, was it?")
    assert (code, "[cancel.doubted]" in err) == (1, True)
    asked = tmp_path / "confirmed.txt"
    asked.write_text("\n".join(sent))
    code, out, _ = await lodge("recover", "--known", str(asked), "--json")
    assert (code, json.loads(out)["unknown"]) == (1, list(forgotten))

    async with pipeline.running():
        await pipeline.push(*map(job, forgotten))
        after = {name: await pipeline.until(name, State.ACCEPTED) for name in sent}
        book = await pipeline.book()
        code, _, err = await lodge("cancel", "forgotten-1", "--reason", "not wanted")
        assert (code, "[cancel.doubted]" in err) == (1, True)
    for name, row in after.items():
        assert (row.reference, row.agency_reference) == (sent[name].reference, sent[name].agency_reference)
    assert {line["processed"] for line in book.values()} == {1}
    assert len(book) == len(sent)
    assert [book[sent[name].reference]["seen"] for name in sent] == [1, 1, 2, 2, 2, 2]
