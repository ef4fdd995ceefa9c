"""The sandbox as a process: killed without warning, stopped politely, and scripted from outside."""

import asyncio
import json
import signal
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pipeline.protocol.credential import Credential
from pipeline.sandbox.asic_messages import Service
from pipeline.sandbox.home import Home, Standing, open_home
from pipeline.sandbox.server import Sandbox
from pipeline.sandbox.trouble import Trouble
from tests.doubles.sandbox_client import SandboxClient
from tests.doubles.sandbox_messages import lodgment_body
from tests.services.sandbox_process import SandboxProcess


@pytest.fixture
def process(home: Home) -> Iterator[SandboxProcess]:
    running = SandboxProcess(home)
    yield running
    running.close()


async def test_the_book_and_its_counters_survive_a_kill(
    process: SandboxProcess, credential: Credential, lodging: Service
) -> None:
    await process.start()
    references = [str(uuid.uuid4()) for _ in range(20)]

    async def lodge(client: SandboxClient, reference: str, scenario: str, **script: str) -> bytes:
        message = client.message(lodging, lodgment_body(lodging, scenario, **script), reference)
        return (await client.lodge(lodging, message, await client.token())).body

    async with SandboxClient(process.address, credential) as client:
        before = await asyncio.gather(*(lodge(client, one, "accept") for one in references))
        troubled = str(uuid.uuid4())
        await lodge(client, troubled, "unavailable", times="1")
    assert process.end(signal.SIGKILL) == -signal.SIGKILL

    await process.start()
    async with SandboxClient(process.address, credential) as client:
        after = await asyncio.gather(*(lodge(client, one, "accept") for one in references))
        assert b"accepted" in await lodge(client, troubled, "unavailable", times="1")
        lines = [json.loads(line) for line in (await client.get("/sandbox/book")).body.splitlines()]

    assert after == before
    counts = {line["reference"]: (line["seen"], line["processed"]) for line in lines}
    assert {counts[one] for one in (*references, troubled)} == {(2, 1)}


async def test_stops_when_it_is_told_to(process: SandboxProcess) -> None:
    await process.start()
    assert process.end(signal.SIGTERM) == 0


async def test_a_scripted_outage_lasts_until_it_is_lifted(client: SandboxClient, lodging: Service) -> None:
    token = await client.token()
    message = client.message(lodging, lodgment_body(lodging))
    for service in ("sts", "asic"):
        script = json.dumps({"service": service, "outage": True}).encode()
        assert (await client.post("/sandbox/script", script)).status == 204

    assert (await client.ask(client.token_request())).codes == ["Receiver", "E1001"]
    assert (await client.lodge(lodging, message, token)).codes[:2] == ["Receiver", "FAULT.UNAVAILABLE"]

    for service in ("sts", "asic"):
        assert (await client.post("/sandbox/script", json.dumps({"service": service}).encode())).status == 204
    await client.token()
    assert (await client.lodge(lodging, message, token)).result == "accepted"


async def test_a_scripted_outage_ends_by_itself(sandbox: Sandbox, client: SandboxClient) -> None:
    sandbox.script(Trouble(service="sts", outage=True, seconds=0))
    await client.token()


async def test_a_share_of_requests_meets_a_fault_in_the_same_order_each_time(
    sandbox: Sandbox, client: SandboxClient
) -> None:
    async def statuses() -> list[int]:
        sandbox.script(Trouble(service="sts", fault_rate=0.5, seed=7))
        return [(await client.ask(client.token_request())).status for _ in range(12)]

    first = await statuses()
    assert {200, 500} == set(first)
    assert await statuses() == first


async def test_refuses_a_script_that_makes_no_sense(client: SandboxClient) -> None:
    answer = await client.post("/sandbox/script", b'{"service": "ato"}')
    assert answer.status == 400


def test_a_home_is_made_once_and_reused(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    made = open_home(tmp_path / "home", now)
    again = open_home(tmp_path / "home", now)

    assert again.credentials == made.credentials
    assert again.sts.certificate == made.sts.certificate
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home"]
    assert {path.stat().st_mode & 0o777 for path in made.path.rglob("*") if path.is_file()} == {0o600}
    assert made.path.stat().st_mode & 0o777 == 0o700


def test_a_home_says_that_it_is_synthetic_and_holds_every_kind_of_credential(home: Home) -> None:
    assert (home.path / "README.txt").read_text().startswith("SYNTHETIC")
    assert {one.standing for one in home.credentials} == set(Standing)
    assert len({one.abn for one in home.credentials}) == len(home.credentials)
