"""Every scenario as a client meets it on the wire, and what the book says afterwards."""

import asyncio
import json
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import pytest

from pipeline.protocol.credential import Credential
from pipeline.sandbox.asic_messages import Service
from pipeline.sandbox.home import Home
from pipeline.sandbox.server import Sandbox
from tests.doubles.sandbox_client import SandboxClient
from tests.doubles.sandbox_messages import HDR, Answer, Token, lodgment_body


@dataclass(slots=True)
class Lodger:
    """Lodges one document again and again, under one reference."""

    client: SandboxClient
    service: Service
    token: Token
    reference: str

    async def lodge(self, scenario: str, **script: str) -> Answer:
        body = lodgment_body(self.service, scenario, **script)
        message = self.client.message(self.service, body, self.reference)
        return await self.client.lodge(self.service, message, self.token)

    async def line(self) -> dict[str, Any]:
        """The book's line of this reference."""
        answer = await self.client.get(f"/sandbox/book?reference={self.reference}")
        (line,) = answer.body.splitlines()
        read: dict[str, Any] = json.loads(line)
        return read

    async def counts(self) -> tuple[int, int]:
        """How often it was seen and processed."""
        line = await self.line()
        return line["seen"], line["processed"]


@pytest.fixture
def lodger(client: SandboxClient, lodging: Service, token: Token) -> Lodger:
    return Lodger(client, lodging, token, str(uuid.uuid4()))


@pytest.mark.parametrize(
    ("scenario", "result", "codes"),
    [
        ("accept", "accepted", []),
        ("accept-with-warnings", "accepted", ["S9101", "S9102"]),
        ("reject", "rejected", ["S9001", "S9002", "S9101"]),
    ],
)
async def test_gives_the_same_bytes_again_under_the_same_reference(
    lodger: Lodger, scenario: str, result: str, codes: list[str]
) -> None:
    first = await lodger.lodge(scenario)
    second = await lodger.lodge(scenario)

    assert first.result == result
    assert [code.text for code in first.root.iter(f"{{{HDR}}}errorCode")] == codes
    assert second.body == first.body
    assert await lodger.counts() == (2, 1)


async def test_mixes_both_spellings_of_severity_and_gives_locations(lodger: Lodger) -> None:
    answer = await lodger.lodge("reject")
    assert answer.text(f"{{{HDR}}}serverityCode") == "Error"
    assert answer.text(f"{{{HDR}}}severityCode") == "Error"
    assert answer.text(f"{{{HDR}}}locationPath") == "/request/businessDocumentBody/proposedName"


async def test_refuses_another_document_under_a_used_reference_and_writes_it_down(
    lodger: Lodger, client: SandboxClient, lodging: Service, token: Token
) -> None:
    await lodger.lodge("accept")
    other = client.message(lodging, lodgment_body(lodging, name="Another"), lodger.reference)
    answer = await client.lodge(lodging, other, token)

    assert answer.result == "rejected"
    line = await lodger.line()
    assert (line["seen"], line["processed"]) == (2, 1)
    assert "another business document" in line["violations"]


@pytest.mark.parametrize(
    ("scenario", "codes"),
    [
        ("unavailable", ["Receiver", "FAULT.UNAVAILABLE", "FAULT.ASICNOTRESPONDING"]),
        ("expired-token", ["Sender", "InvalidSecurityToken"]),
        ("invalid", ["Sender", "FAULT.INVALIDXML"]),
    ],
)
async def test_a_scripted_fault_happens_as_often_as_told(lodger: Lodger, scenario: str, codes: list[str]) -> None:
    for _ in range(2):
        assert (await lodger.lodge(scenario, times="2")).codes == codes
    assert await lodger.counts() == (2, 0)
    assert (await lodger.lodge(scenario, times="2")).result == "accepted"
    assert await lodger.counts() == (3, 1)


async def test_trouble_without_end_never_ends(lodger: Lodger) -> None:
    for _ in range(4):
        assert (await lodger.lodge("unavailable", times="-1")).status == 500
    assert await lodger.counts() == (4, 0)


async def test_announces_when_it_will_be_available(lodger: Lodger) -> None:
    answer = await lodger.lodge("unavailable-until", seconds="5")

    assert answer.codes == ["Receiver", "FAULT.UNAVAILABLE"]
    announced = answer.text("{uri:sandbox.fault.asic.gov.au}AvailableAfter")
    assert announced is not None
    assert announced in answer.reason
    assert timedelta(0) < datetime.fromisoformat(announced) - datetime.now(UTC) < timedelta(seconds=5)


async def test_a_fault_may_ride_in_an_ordinary_reply(lodger: Lodger) -> None:
    answer = await lodger.lodge("result-fault")
    assert (answer.status, answer.result) == (200, "fault")
    assert (await lodger.lodge("result-fault")).result == "accepted"


async def test_a_delayed_lodgment_is_accepted_once_its_time_has_come(
    home: Home, credential: Credential, lodging: Service
) -> None:
    ahead = timedelta()
    async with (
        Sandbox(home, clock=lambda: datetime.now(UTC) + ahead) as sandbox,
        SandboxClient(sandbox, credential) as client,
    ):
        lodger = Lodger(client, lodging, await client.token(), str(uuid.uuid4()))
        assert (await lodger.lodge("delayed", seconds="60")).result == "delayed"
        assert (await lodger.lodge("delayed", seconds="60")).result == "delayed"
        assert await lodger.counts() == (2, 0)
        ahead = timedelta(seconds=61)
        assert (await lodger.lodge("delayed", seconds="60")).result == "accepted"
        assert await lodger.counts() == (3, 1)


async def test_a_slow_reply_is_processed_first(lodger: Lodger, client: SandboxClient) -> None:
    waiting = asyncio.create_task(lodger.lodge("slow", seconds="3600"))
    deadline = asyncio.get_running_loop().time() + 10
    while not (await client.get(f"/sandbox/book?reference={lodger.reference}")).body:
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.01)

    assert not waiting.done()
    assert await lodger.counts() == (1, 1)
    waiting.cancel()
    assert (await lodger.lodge("slow", seconds="3600")).result == "accepted"


@pytest.mark.parametrize(
    ("scenario", "errors", "processed"),
    [
        ("lost-reply", aiohttp.ServerDisconnectedError, 1),
        ("reset-before", aiohttp.ClientOSError, 0),
        ("truncated-reply", aiohttp.ClientPayloadError, 1),
    ],
)
async def test_breaks_the_connection_and_answers_when_asked_again(
    lodger: Lodger, scenario: str, errors: type[Exception], processed: int
) -> None:
    with pytest.raises(errors):
        await lodger.lodge(scenario)
    assert await lodger.counts() == (1, processed)
    assert (await lodger.lodge(scenario)).result == "accepted"
    assert await lodger.counts() == (2, 1)


async def test_of_many_at_once_one_is_processed_and_all_get_its_reply(lodger: Lodger) -> None:
    answers = await asyncio.gather(*(lodger.lodge("accept") for _ in range(20)))
    assert len({answer.body for answer in answers}) == 1
    assert await lodger.counts() == (20, 1)
