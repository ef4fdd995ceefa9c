"""The SBR2 gateways behind their TLS port: which paths there are, and what a closed one says."""

from dataclasses import dataclass

import pytest

from pipeline.protocol.credential import Credential
from pipeline.protocol.ebms3 import ErrorSignal, Receipt, Signal, UserMessage
from pipeline.protocol.ebms3_reader import read_envelope
from pipeline.protocol.sbr_ebms3 import PartyKind
from pipeline.sandbox.home import Home
from pipeline.sandbox.sbr2 import Sbr2Gateways
from pipeline.sandbox.server import Sandbox
from pipeline.sandbox.sts import TokenService
from pipeline.sandbox.trouble import Trouble
from tests.doubles.pay_jobs import pay_run
from tests.doubles.sandbox_client import SandboxClient
from tests.doubles.sandbox_messages import Answer
from tests.doubles.sbr2_client import (
    CONTENT_ID,
    PROFILE,
    SOFTWARE,
    Sbr2Client,
    Wire,
    fresh_id,
    gzipped,
    now,
    pull,
    push,
    token_of,
)


@dataclass(frozen=True, slots=True)
class Doors:
    """Seals as a client does, and posts to a path."""

    client: SandboxClient
    sealing: Sbr2Client

    async def post(self, path: str, wire: Wire) -> Answer:
        content_type, body = wire.packed()
        return await self.client.post(path, body, **{"Content-Type": content_type})

    def ping(self) -> Wire:
        sender = PROFILE.party(PartyKind.ABN, self.sealing.credential.abn)
        return self.sealing.sealed(PROFILE.ping(fresh_id(), "conversation", sender, SOFTWARE, now()))

    def event(self, name: str, message: UserMessage) -> Wire:
        return self.sealing.sealed(message, [(CONTENT_ID, gzipped(pay_run(name)))])


@pytest.fixture
def doors(client: SandboxClient, home: Home, credential: Credential, sandbox: Sandbox) -> Doors:
    gateways: Sbr2Gateways = sandbox._sbr2
    return Doors(client, Sbr2Client(gateways, credential, token_of(TokenService(home), credential)))


def said(answer: Answer) -> Signal | UserMessage:
    (unit,) = read_envelope(answer.body).units
    return unit


async def test_each_gateway_answers_a_ping(doors: Doors) -> None:
    for gateway in ("first", "second"):
        answer = await doors.post(f"/sbr2/{gateway}/services/Single-sync", doors.ping())
        assert (answer.status, isinstance(said(answer), Receipt)) == (200, True)


@pytest.mark.parametrize("path", ["/sbr2/third/services/Single-sync", "/sbr2/first/services/Collect-async"])
async def test_there_are_no_other_gateways_and_services(doors: Doors, path: str) -> None:
    assert (await doors.post(path, doors.ping())).status == 404


async def test_a_closed_agency_takes_documents_in_and_counts_who_asks(sandbox: Sandbox, doors: Doors) -> None:
    path = "/sbr2/first/services/BulkBatch-async"
    sandbox.script(Trouble(service="sbr2-pull", outage=True))
    message = push()
    assert isinstance(said(await doors.post(f"{path}-push", doors.event("closed", message))), Receipt)
    asked = doors.sealing.sealed(pull(message.info.message_id))
    for _ in range(2):
        nothing = said(await doors.post(f"{path}-pull", asked))
        assert isinstance(nothing, ErrorSignal)
        assert nothing.nothing_yet
    sandbox.script(Trouble(service="sbr2-pull"))
    answer = await doors.post(f"{path}-pull", asked)
    assert (answer.status, answer.body[:2]) == (200, b"--")
    (line,) = (await doors.client.get(f"/sandbox/book?reference={message.info.message_id}")).body.splitlines()
    assert b'"pulls": 3' in line


async def test_a_gateway_that_is_down_answers_503_and_knows_nothing_of_it_later(sandbox: Sandbox, doors: Doors) -> None:
    path = "/sbr2/first/services/BulkBatch-async-push"
    sandbox.script(Trouble(service="sbr2-push", outage=True))
    message = push()
    assert (await doors.post(path, doors.event("down", message))).status == 503
    assert (await doors.client.get(f"/sandbox/book?reference={message.info.message_id}")).body == b""
