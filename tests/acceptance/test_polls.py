"""Polling at scale: by the schedule to the letter, and a sweep that costs what is due."""

import asyncio
import random
from collections.abc import AsyncIterator

import pytest

from pipeline.ledger import migrate
from pipeline.ledger.session import Ledger
from pipeline.ledger.vault import Vault
from pipeline.telemetry import configure_logs
from tests.acceptance.compressed import Compressed, unscheduled
from tests.acceptance.polls import fill, sweep_pages


@pytest.fixture
async def ledger(database_url: str) -> AsyncIterator[Ledger]:
    await asyncio.to_thread(migrate.upgrade, database_url)
    opened = Ledger(database_url, Vault([b"synthetic master key, 32 bytes!!"]))
    yield opened
    await opened.close()


@pytest.mark.timeout(600)
async def test_through_a_closedown_of_nine_days_nothing_fails_is_sent_twice_or_is_polled_beside_the_schedule(
    ledger: Ledger, chance: random.Random
) -> None:
    configure_logs("warning", json_lines=True)
    run = Compressed(ledger, 400, chance)
    await run.run()
    assert await run.states() == {"accepted": 400}
    assert set(run.agency.pushes.values()) == {1}
    assert len(run.agency.pushes) == 400
    assert len(run.agency.pulls) == 400
    assert unscheduled(run.agency, run.policy) == []


async def test_a_sweep_costs_what_is_due_and_not_what_waits(ledger: Ledger) -> None:
    await fill(ledger, 2000, due=100)
    few = await sweep_pages(ledger)
    await fill(ledger, 18_000, due=0)
    many = await sweep_pages(ledger)
    assert (few.lodgments, many.lodgments) == (100, 100)
    assert many.pages <= few.pages * 2, (few, many)
