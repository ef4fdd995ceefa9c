"""seal: build and store the secured envelope, once for every token it may be sent with."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from uuid import UUID

import structlog

from pipeline.broker.messages import outcome_event
from pipeline.broker.port import Delivery, Outgoing
from pipeline.channels.contract import Envelope, SealOrder
from pipeline.ledger import artifacts, lodgments, tokens
from pipeline.ledger.artifact_rows import NewEnvelope
from pipeline.ledger.artifacts import AT_ONCE
from pipeline.ledger.large_documents import LargeDocument
from pipeline.ledger.session import Tx
from pipeline.lodgment.failures import Failure
from pipeline.lodgment.lodgment import Lodgment, Reason
from pipeline.lodgment.references import TokenKeyHash
from pipeline.lodgment.states import NEXT_STEP, State, Step
from pipeline.protocol.credential import Credential
from pipeline.protocol.gzip_stream import Measure, Meter
from pipeline.protocol.wstrust import SecurityToken
from pipeline.stages.contract import Context, Credentials, Settled, ids_in, onward

log = structlog.get_logger(__name__)

_Payload = bytes | LargeDocument


class Seal:
    """The signer's use case. Payload and reference never change; a new token means a new envelope around them.

    A large payload that its channel attaches is not held: it passes once, for the hash of what will be sent.
    """

    step = Step.SEAL

    def __init__(self, context: Context, credentials: Credentials | None, at_once: int = AT_ONCE) -> None:
        """Documents of a batch are held up to `at_once` bytes, and one beyond."""
        self._context = context
        self._credentials = credentials
        self._at_once = at_once

    async def handle(self, batch: Sequence[Delivery]) -> AsyncIterator[Settled]:
        deliveries = ids_in(batch)
        async with self._context.ledger.transaction(read_only=True) as tx:
            rows = await lodgments.load(tx, deliveries.keys())
            due = [row for row in rows.values() if row.state is State.AUTHORISED]
            security = await self._tokens(tx, due)
            payloads = await self._payloads(tx, due)
        # What was done when these were here before; those messages may not have left.
        publications = [onward(row) for row in rows.values() if row.state in {State.SEALED, State.RECEIVED}]
        while True:
            later = self._later(due, payloads)
            portion = [row for row in due if row.id not in later]
            publications += await self._seal_all(portion, payloads, security)
            if not later:
                break
            # A batch whose documents are too large to be held at once.
            yield Settled(tuple(d for row in portion for d in deliveries.pop(row.id)), tuple(publications))
            publications, due = [], list(later.values())
            async with self._context.ledger.transaction(read_only=True) as tx:
                payloads = await self._payloads(tx, due)
        yield Settled(tuple(d for each in deliveries.values() for d in each), tuple(publications))

    async def _payloads(self, tx: Tx, due: Sequence[Lodgment]) -> dict[UUID, _Payload]:
        wanted = {row.payload_id: row for row in due if not self._asks(row)}
        found = await artifacts.look_portion(tx, wanted, self._at_once)
        for payload_id, one in found.items():
            if isinstance(one, LargeDocument) and not self._context.channels[wanted[payload_id].channel].attaches:
                found[payload_id] = await one.read(tx)
        return found

    def _later(self, due: Sequence[Lodgment], payloads: Mapping[UUID, _Payload]) -> dict[UUID, Lodgment]:
        """Those whose documents come after the portion at hand."""
        last = max(payloads, default=None)
        if last is None:
            return {}
        return {row.id: row for row in due if row.payload_id > last and not self._asks(row)}

    async def _seal_all(
        self,
        due: Sequence[Lodgment],
        payloads: Mapping[UUID, _Payload],
        security: Mapping[TokenKeyHash, SecurityToken],
    ) -> list[Outgoing]:
        moves: list[tuple[Lodgment, Lodgment]] = []
        envelopes: list[NewEnvelope] = []
        for row in due:
            payload = payloads.get(row.payload_id, b"")
            after, envelope = self._seal(row, payload, security)
            moves.append((row, after))
            if envelope is not None:
                envelopes.append(await self._measured(after, envelope, payload))
        return await self._store(moves, envelopes)

    def _asks(self, row: Lodgment) -> bool:
        return self._context.channels[row.channel].asks(row)

    async def _tokens(self, tx: Tx, due: Sequence[Lodgment]) -> Mapping[TokenKeyHash, SecurityToken]:
        wanted = {row.token_key for row in due if row.token_key is not None}
        stored = await tokens.load(tx, wanted)
        return {key: one.token for key, one in stored.items() if one.token is not None}

    def _seal(
        self, row: Lodgment, payload: _Payload, security: Mapping[TokenKeyHash, SecurityToken]
    ) -> tuple[Lodgment, Envelope | None]:
        """The lodgment's next state, and its envelope when it could be sealed."""
        channel = self._context.channels[row.channel]
        now = self._context.clock()
        token: SecurityToken | None = None
        credential: Credential | None = None
        if channel.token_key(row) is not None:
            token = security.get(row.token_key) if row.token_key is not None else None
            if token is None or token.expires_at <= now + self._context.timing.token_margin:
                return row.moved(State.RECEIVED, due_at=self._stuck_at(now), reason=_TOKEN_AGED), None
            assert self._credentials is not None  # noqa: S101  - an environment with tokens has a keystore
            found = self._credentials.get(row.credential)
            if isinstance(found, Failure):
                return row.moved(State.HELD, reason=Reason.of(found)), None
            credential = found
        envelope_id = self._context.new_id()
        envelope = channel.seal(_order(row, payload, credential, token, now, envelope_id.hex))
        sealed = replace(
            row.moved(State.SEALED, due_at=self._stuck_at(now), reason=row.reason),
            envelope_id=envelope_id,
            token_expires_at=token.expires_at if token is not None else None,
        )
        return sealed, envelope

    async def _measured(self, row: Lodgment, envelope: Envelope, payload: _Payload) -> NewEnvelope:
        """The envelope of a lodgment that is sealed now, as it is stored."""
        assert row.envelope_id is not None  # noqa: S101  - a sealed lodgment has its envelope
        around = None if self._asks(row) else row.payload_id
        measure = await self._measure(envelope, payload)
        return NewEnvelope(
            row.envelope_id,
            row.id,
            around,
            envelope.head,
            envelope.tail,
            measure.sha256.hex(),
            measure.size,
            self._context.clock(),
        )

    async def _measure(self, envelope: Envelope, payload: _Payload) -> Measure:
        if isinstance(payload, bytes):
            return envelope.measure(payload)
        meter = Meter()
        meter.count(envelope.head)
        async for piece in payload.pieces(partial(self._context.ledger.transaction, read_only=True)):
            meter.count(piece)
        meter.count(envelope.tail)
        return meter.measure()

    async def _store(
        self, moves: Sequence[tuple[Lodgment, Lodgment]], envelopes: Sequence[NewEnvelope]
    ) -> list[Outgoing]:
        if not moves:
            return []
        async with self._context.ledger.transaction() as tx:
            won = await lodgments.move(tx, moves)
            await artifacts.add_envelopes(tx, [one for one in envelopes if one.lodgment_id in won])
        publications = []
        for _, after in moves:
            if after.id not in won:
                continue
            log.info("seal.completed", lodgment=str(after.id), state=after.state)
            if after.state in NEXT_STEP:
                publications.append(onward(after))
            else:
                publications.append(outcome_event(after, (), self._context.clock()))
        return publications

    def _stuck_at(self, now: datetime) -> datetime:
        return now + self._context.timing.stuck_after


def _order(
    row: Lodgment,
    payload: _Payload,
    credential: Credential | None,
    token: SecurityToken | None,
    now: datetime,
    nonce: str,
) -> SealOrder:
    if isinstance(payload, bytes):
        return SealOrder(row, payload, credential, token, now, nonce)
    attached = Measure(payload.size, bytes.fromhex(payload.sha256))
    return SealOrder(row, b"", credential, token, now, nonce, attached)


_TOKEN_AGED = Reason(
    "token.aged", "The security token would expire while the envelope is under way; a new one is asked for."
)
