"""Two lodgments as a ledger keeps them when they are done: one by SBR2, one by ASIC, everything in them synthetic."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

from lxml import etree

from pipeline.channels.contract import Envelope
from pipeline.ledger import artifacts, attempts, lodgments, operators, outcomes, tokens
from pipeline.ledger.artifact_rows import NewArtifact, NewEnvelope
from pipeline.ledger.lodgment_rows import NewLodgment
from pipeline.ledger.operators import OperatorAction
from pipeline.ledger.session import Tx
from pipeline.ledger.tables import ArtifactKind
from pipeline.lodgment.failures import Failure, FailureClass, Party
from pipeline.lodgment.lodgment import Attempt, Lodgment, Purpose, Reason
from pipeline.lodgment.outcome import Attachment, MessageEvent, Outcome, Result, Severity
from pipeline.lodgment.references import TokenKey, message_reference_number
from pipeline.lodgment.states import State
from pipeline.protocol.algorithms import Algorithm
from pipeline.protocol.as4_signed_info import references_of
from pipeline.protocol.ebms3 import SignedReference
from pipeline.protocol.namespaces import Ns
from tests.doubles import asic, sbr2
from tests.doubles.asic import NOW, make_credential, make_token
from tests.doubles.lodgments import fresh_id
from tests.doubles.stp import pay_event

LATER = NOW + timedelta(minutes=2)
PROOF_KEY = b"a synthetic proof key that must not leave the ledger"
LOST = Failure(FailureClass.UNKNOWN, "transport.reset", "", "It may have left.", Party.NOBODY)
KNOWN = MessageEvent(
    "CMN.ATO.GEN.402043", Severity.ERROR, "The number is odd", "/tns:PAYEVNTEMP", ("number: 7",), "SYN-1", "1.2"
)
UNHEARD_OF = MessageEvent("CMN.NEW.000001", Severity.WARNING, "unheard of")


async def keep_pay_event(
    tx: Tx, document: bytes | None = None, *, signed: bool = True, agreeing: bool = True
) -> Lodgment:
    """A push that was lost, the same bytes again and their receipt, a pull and its response; partially accepted.

    `signed` is the response; `agreeing` the receipt, which else acknowledges another message.
    """
    made = sbr2.prepared(document or pay_event())
    row = _of_its_own(sbr2.taken(made))
    message_id = f"{row.reference}@{sbr2.DOMAIN}"
    push = sbr2.sealed(row, made.content, "n1")
    asked = replace(row, agency_reference=message_id)
    pull = sbr2.sealed(asked, b"", "n2")
    receipt = sbr2.receipt(message_id, _references(push if agreeing else pull))
    said = sbr2.events(("CMN.ATO.GEN.402043", "Error", "1.2"), ("CMN.NEW.000001", "Warning", None), maximum="Error")
    content_type, response = sbr2.response(message_id, said, make_credential("Agency") if signed else None)
    key = sbr2.make_channel().token_key(row)
    await _begin(tx, row, made.content, key)
    push_id, pull_id = await _store(tx, row, push, made.content), await _store(tx, row, pull)
    tries = [
        replace(_attempt(row, 1, Purpose.SUBMIT, push_id), failure=LOST),
        await _answered(tx, _attempt(row, 2, Purpose.RESUBMIT, push_id), "application/soap+xml", receipt),
        await _answered(tx, _attempt(row, 3, Purpose.POLL, pull_id), content_type, response),
    ]
    outcome = Outcome(Result.PARTIALLY_ACCEPTED, row.reference, events=(KNOWN, UNHEARD_OF))
    return await _end(tx, asked, tries, State.PARTIALLY_ACCEPTED, outcome, key)


async def keep_business_name(tx: Tx, *, basic: bool = False) -> Lodgment:
    """An application to ASIC that was accepted at once; `basic` without signatures, by HTTP Basic."""
    row = _of_its_own(asic.make_lodgment())
    channel = asic.make_basic_channel() if basic else asic.make_channel()
    envelope = channel.seal(replace(asic.make_order(), lodgment=row))
    key = channel.token_key(row)
    await _begin(tx, row, asic.PAYLOAD, key)
    envelope_id = await _store(tx, row, envelope, asic.PAYLOAD)
    reply = b"<soap:Envelope xmlns:soap='http://www.w3.org/2003/05/soap-envelope'>SYNTHETIC</soap:Envelope>"
    one = await _answered(tx, _attempt(row, 1, Purpose.SUBMIT, envelope_id), "application/soap+xml", reply)
    letter = Attachment("letter", "letter.pdf", None, "https://documents.example.test/letter.pdf", "7E000")
    outcome = Outcome(Result.ACCEPTED, row.reference, attachments=(letter,))
    return await _end(tx, row, [one], State.ACCEPTED, outcome, key)


def _of_its_own(row: Lodgment) -> Lodgment:
    own = fresh_id(NOW)
    return replace(
        row,
        id=own,
        reference=message_reference_number(own, row.environment, row.sender_id, f"job-{own}"),
        job_id=f"job-{own}",
        payload_id=fresh_id(NOW),
        received_at=NOW,
        state=State.RECEIVED,
        due_at=NOW + timedelta(minutes=5),
    )


def _references(envelope: Envelope) -> tuple[SignedReference, ...]:
    head = envelope.head[envelope.head.index(b"<?xml") :]
    root = etree.fromstring(head[: head.index(b"</soap:Envelope>") + len(b"</soap:Envelope>")])
    (signature,) = root.iter(Ns.DS("Signature"))
    return tuple(one.value for one in references_of(signature, {Algorithm.SHA256}))


async def _begin(tx: Tx, row: Lodgment, payload: bytes, key: TokenKey | None) -> None:
    await lodgments.add(tx, [NewLodgment(row, '{"version": 1}', {"run": "synthetic"})])
    await artifacts.add(tx, [NewArtifact(row.payload_id, row.id, ArtifactKind.PAYLOAD, payload, NOW)])
    if key is not None:
        token = make_token(proof_key=PROOF_KEY)
        await tokens.claim(tx, [key], "test", NOW, NOW + timedelta(minutes=1))
        await tokens.store(tx, key.hash(), "test", token, NOW)


async def _store(tx: Tx, row: Lodgment, envelope: Envelope, payload: bytes | None = None) -> UUID:
    """A question has no payload."""
    key = fresh_id(NOW)
    payload_id = None if payload is None else row.payload_id
    wire = envelope.measure(payload or b"")
    new = NewEnvelope(key, row.id, payload_id, envelope.head, envelope.tail, wire.sha256.hex(), wire.size, NOW)
    await artifacts.add_envelopes(tx, [new])
    return key


def _attempt(row: Lodgment, number: int, purpose: Purpose, envelope_id: UUID) -> Attempt:
    at = NOW + timedelta(seconds=number)
    return Attempt(
        id=fresh_id(at),
        lodgment_id=row.id,
        number=number,
        purpose=purpose,
        worker="transport-1",
        url="https://agency.example.test/services",
        envelope_id=envelope_id,
        started_at=at,
        wire_started_at=at,
        finished_at=at + timedelta(milliseconds=500),
    )


async def _answered(tx: Tx, attempt: Attempt, content_type: str, body: bytes) -> Attempt:
    reply = NewArtifact(fresh_id(NOW), attempt.lodgment_id, ArtifactKind.REPLY, body, LATER)
    await artifacts.add(tx, [reply])
    return replace(attempt, http_status=200, reply_id=reply.id, content_type=content_type)


async def _end(
    tx: Tx, row: Lodgment, tries: Sequence[Attempt], state: State, outcome: Outcome, key: TokenKey | None
) -> Lodgment:
    await attempts.add(tx, tries)
    await outcomes.add(tx, [(row.id, tries[-1].id, outcome)], LATER)
    action = OperatorAction(fresh_id(LATER), LATER, "operator@example", "release", row.id, "the cause was mended")
    await operators.add(tx, [action])
    reason = Reason(KNOWN.code, KNOWN.description) if outcome.events else None
    after = replace(
        row,
        state=state,
        version=9,
        due_at=None,
        reason=reason,
        token_key=None if key is None else key.hash(),
        token_expires_at=None if key is None else make_token().expires_at,
        envelope_id=tries[-1].envelope_id,
        attempt_id=tries[-1].id,
        attempts=len(tries),
        sent_at=tries[0].started_at,
        finished_at=LATER,
    )
    before = (await lodgments.load(tx, [row.id]))[row.id]
    assert await lodgments.move(tx, [(before, after)]) == {row.id}
    return after
