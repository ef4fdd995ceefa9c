"""seal and submit: a large pay event stays in the ledger, and what is sent verifies and is the same to the byte."""

import random
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from cryptography.x509 import load_der_x509_certificate

from pipeline.channels.sbr2_stp import NAME
from pipeline.gateway.exchange import Exchange, Request, Streamed
from pipeline.ledger import artifacts, lodgments, tokens
from pipeline.ledger.artifact_rows import NewArtifact
from pipeline.ledger.document_form import LARGE
from pipeline.ledger.lodgment_rows import NewLodgment
from pipeline.ledger.tables import ArtifactKind
from pipeline.lodgment.references import MessageReferenceNumber
from pipeline.lodgment.states import State, Step
from pipeline.protocol.as4_verify import PUSH_POLICY, verify_message
from pipeline.protocol.credential import Credential
from pipeline.protocol.mime import read_package
from pipeline.stages.seal import Seal
from pipeline.stages.submit import Submit
from tests.doubles.asic import make_credential, make_token
from tests.doubles.lodgments import NOW, a_lodgment
from tests.doubles.sbr2 import make_channel, prepared, taken
from tests.doubles.stp import pay_event
from tests.integration.stages.conftest import deliveries, drive

if TYPE_CHECKING:
    from pipeline.lodgment.lodgment import Lodgment
    from pipeline.stages.contract import Context
    from tests.integration.stages.conftest import Bench

PAYLOAD = random.Random(1).randbytes(2 * LARGE)  # noqa: S311  - stands for what gzip makes of a document


@dataclass
class Keys:
    """One credential, whichever is asked for."""

    credential: Credential = field(default_factory=make_credential)

    def get(self, credential_id: str) -> Credential:  # noqa: ARG002  - the contract's signature
        return self.credential


@dataclass
class Agency:
    """Takes what is sent, piece by piece as a socket would."""

    received: list[bytes] = field(default_factory=list)
    streamed: list[int] = field(default_factory=list)

    async def exchange(self, request: Request) -> Exchange:
        body = b""
        for part in request.body:
            if isinstance(part, Streamed):
                self.streamed.append(part.size)
                body += b"".join([piece async for piece in part.pieces()])
            else:
                body += part
        self.received.append(body)
        return Exchange(NOW, NOW, NOW, 200, "application/soap+xml", b"<reply/>")


async def _authorised(bench: "Bench", payload: bytes) -> "Lodgment":
    channel, own = make_channel(), a_lodgment()
    made = taken(prepared(pay_event()))
    key = channel.token_key(made)
    assert key is not None
    row = replace(
        made,
        id=own.id,
        reference=MessageReferenceNumber(str(own.id)),
        job_id=own.job_id,
        payload_id=own.payload_id,
        state=State.AUTHORISED,
        token_key=key.hash(),
        token_expires_at=None,
        due_at=bench.now,
    )
    async with bench.ledger.transaction() as tx:
        await lodgments.add(tx, [NewLodgment(row, "{}", {})])
        await artifacts.add(tx, [NewArtifact(row.payload_id, row.id, ArtifactKind.PAYLOAD, payload, NOW)])
        await tokens.claim(tx, [key], "test", NOW, NOW + timedelta(minutes=1))
        await tokens.store(tx, key.hash(), "test", make_token(), NOW)
    return row


def _context(bench: "Bench") -> "Context":
    return replace(bench.context(), channels={NAME: make_channel()})


@pytest.mark.parametrize("payload", [PAYLOAD, PAYLOAD[:1000]], ids=["large", "small"])
async def test_a_pay_event_is_sealed_and_sent_to_the_byte(bench: "Bench", payload: bytes) -> None:
    row, keys, agency = await _authorised(bench, payload), Keys(), Agency()
    [onwards] = await drive(Seal(_context(bench), keys), deliveries(Step.SEAL, row))
    assert onwards.routing_key == Step.SUBMIT
    [to_record] = await drive(Submit(_context(bench), agency), deliveries(Step.SUBMIT, await bench.lodgment(row)))
    assert to_record.routing_key == Step.RECORD
    assert agency.streamed == ([len(payload)] if len(payload) > LARGE else [])
    ((_, content_type),) = make_channel().headers(row)
    [body] = agency.received
    package = read_package(content_type, (body,))
    ours = load_der_x509_certificate(keys.credential.certificate_der)
    verify_message(package.root, package.attachments, PUSH_POLICY, lambda named: ours if named == ours else None)
    assert [one.content for one in package.attachments] == [payload]
    sealed = await bench.lodgment(row)
    assert sealed.envelope_id is not None
    async with bench.ledger.transaction(read_only=True) as tx:
        stored = (await artifacts.read_envelopes(tx, [sealed.envelope_id]))[sealed.envelope_id]
    assert stored.head + stored.payload + stored.tail == body
