"""The whole pipeline in this process, against the sandbox, on both profiles: the same stages must behave the same."""

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from pytest import FixtureRequest  # noqa: PT013  - a name for annotations

from pipeline.bootstrap import Parts, opened
from pipeline.broker.port import Exchange, Outgoing
from pipeline.gateway.exchange import Request
from pipeline.ledger import lodgments, outcomes, quarantine, software_ids
from pipeline.ledger.quarantine import Quarantined
from pipeline.lodgment.lodgment import Lodgment
from pipeline.lodgment.outcome import MessageEvent
from pipeline.lodgment.states import State, Step
from pipeline.profiles import payroll_product
from pipeline.sandbox.server import Sandbox
from pipeline.settings import Settings
from tests.doubles.pay_jobs import SOFTWARE_ID
from tests.doubles.registered_ids import registered
from tests.doubles.stp import ABN
from tests.services.master_key import write_master_key
from tests.services.sandbox_home import new_home
from workers.process import Worker, run

PATIENCE = 60.0


class Pipeline:
    """All six workers in one process, the sandbox beside them, and questions to ask of both."""

    def __init__(self, settings: Settings, sandbox: Sandbox) -> None:
        self.settings = settings
        self.sandbox = sandbox
        self._parts: Parts | None = None

    @property
    def parts(self) -> Parts:
        assert self._parts is not None, "not running"
        return self._parts

    @asynccontextmanager
    async def running(self, workers: Iterable[Worker] = tuple(Worker)) -> AsyncIterator["Pipeline"]:
        """Start the workers; on leaving, stop them as SIGTERM would."""
        async with opened(self.settings) as parts:
            self._parts = parts
            if payroll_product(self.settings) is not None:
                await self.register(SOFTWARE_ID, ABN)
            stop = asyncio.Event()
            working = asyncio.create_task(run(parts, tuple(workers), stop))
            try:
                yield self
            finally:
                stop.set()
                await working
                self._parts = None

    async def register(self, software_id: str, abn: str) -> None:
        """A software id as `lodge software-ids import` registers it, for the sandbox's product."""
        async with self.parts.ledger.transaction() as tx:
            await software_ids.add(tx, [registered(payroll_product(self.settings), software_id, abn)])

    async def push(self, *jobs: bytes) -> None:
        await self.parts.broker.publish([Outgoing(Exchange.JOBS, Step.RECEIVE, body, str(uuid4())) for body in jobs])

    async def lodgment(self, job_id: str) -> Lodgment | None:
        async with self.parts.ledger.transaction(read_only=True) as tx:
            return (await lodgments.known_jobs(tx, [job_id])).get(job_id)

    async def until(self, job_id: str, *states: State, holds: Callable[[Lodgment], bool] = lambda _: True) -> Lodgment:
        """The lodgment once it is in one of these states."""
        deadline = asyncio.get_running_loop().time() + PATIENCE
        row = None
        while asyncio.get_running_loop().time() < deadline:
            row = await self.lodgment(job_id)
            if row is not None and row.state in states and holds(row):
                return row
            await asyncio.sleep(0.02)
        raise AssertionError(f"{job_id} is not {states} but {row and (row.state, row.reason)}")

    async def events(self, row: Lodgment) -> list[MessageEvent]:
        async with self.parts.ledger.transaction(read_only=True) as tx:
            return await outcomes.of(tx, row.id)

    async def until_quarantined(self, code: str) -> Quarantined:
        deadline = asyncio.get_running_loop().time() + PATIENCE
        while asyncio.get_running_loop().time() < deadline:
            async with self.parts.ledger.transaction(read_only=True) as tx:
                for item in await quarantine.list_(tx, 100):
                    if item.code == code:
                        return item
            await asyncio.sleep(0.02)
        raise AssertionError(f"nothing in quarantine with code {code}")

    async def book(self) -> dict[str, dict[str, Any]]:
        """What the agency itself says: by reference, how often it saw and how often it processed each."""
        request = Request(f"{self.sandbox.url}/sandbox/book", (), (), "GET")
        exchange = await self.parts.agency.exchange(request)
        lines = [json.loads(line) for line in (exchange.body or b"").splitlines()]
        return {line["reference"]: line for line in lines}


@pytest.fixture(params=["embedded", "server"])
async def pipeline(request: FixtureRequest, tmp_path: Path) -> AsyncIterator[Pipeline]:
    """The pipeline on SQLite and the broker in memory, and on PostgreSQL and RabbitMQ; not running yet."""
    async with Sandbox(new_home(tmp_path / "sandbox")) as sandbox:
        settings = Settings(home=tmp_path, sandbox_url=sandbox.url, stuck_after=timedelta(seconds=20))
        if request.param == "server":
            settings = settings.model_copy(update=_server(request, tmp_path))
        else:
            shutil.copy(request.getfixturevalue("migrated_file"), tmp_path / "ledger.sqlite3")
        yield Pipeline(settings, sandbox)


def _server(request: FixtureRequest, folder: Path) -> dict[str, object]:
    return {
        "broker_urls": (request.getfixturevalue("amqp_url"),),
        "namespace": request.getfixturevalue("topology").namespace,
        "ledger_url": request.getfixturevalue("postgresql_url"),
        "master_key_file": write_master_key(folder / "master.key"),
    }
