"""One stage at a time on a real ledger, on SQLite and on PostgreSQL, with a clock that tests set."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from pipeline.broker.port import Delivery, Outgoing
from pipeline.channels.asic_bn import AsicBusinessNames
from pipeline.channels.contract import SealOrder
from pipeline.ledger import artifacts, attempts, lodgments
from pipeline.ledger.artifact_rows import NewArtifact, NewEnvelope
from pipeline.ledger.lodgment_rows import NewLodgment
from pipeline.ledger.session import Ledger, Tx
from pipeline.ledger.tables import ArtifactKind
from pipeline.ledger.vault import Vault
from pipeline.lodgment.errors import DependencyDownError
from pipeline.lodgment.failures import Failure
from pipeline.lodgment.lodgment import Attempt, Lodgment, Purpose
from pipeline.lodgment.references import Ids
from pipeline.lodgment.states import State, Step
from pipeline.stages.contract import Context, Settled, Stage, Timing, to_step
from tests.doubles.asic import PAYLOAD, make_basic_channel
from tests.doubles.lodgments import NOW, a_lodgment, fresh_id


class DoubtfulLedger(Ledger):
    """Commits, and then loses the connection before it can say so, as often as it is told."""

    doubts = 0

    @asynccontextmanager
    async def transaction(self, *, read_only: bool = False) -> AsyncIterator[Tx]:
        async with super().transaction(read_only=read_only) as tx:
            yield tx
        if self.doubts and not read_only:
            self.doubts -= 1
            raise DependencyDownError("ledger.down", "lost in the middle of a commit")


class Bench:
    """A ledger, a channel without tokens, a clock."""

    def __init__(self, ledger: DoubtfulLedger) -> None:
        self.ledger = ledger
        self.now = NOW
        self.timing = Timing()
        self.channel: AsicBusinessNames = make_basic_channel()
        self._ids = Ids()

    def context(self, worker: str = "worker-1") -> Context:
        return Context(
            self.ledger, {self.channel.name: self.channel}, "sandbox", self.clock, self.timing, worker, self._ids
        )

    def clock(self) -> datetime:
        return self.now

    async def add(self, *rows: Lodgment) -> None:
        async with self.ledger.transaction() as tx:
            await lodgments.add(tx, [NewLodgment(row, "{}", {}) for row in rows])
            await artifacts.add(
                tx, [NewArtifact(row.payload_id, row.id, ArtifactKind.PAYLOAD, PAYLOAD, NOW) for row in rows]
            )

    async def sealed(self, **changes: object) -> Lodgment:
        """A lodgment whose envelope is stored."""
        row = replace(a_lodgment(), state=State.AUTHORISED, **changes)  # type: ignore[arg-type]  # fields by name
        await self.add(row)
        after = replace(row.moved(State.SEALED, due_at=self.now + timedelta(minutes=5)), envelope_id=fresh_id())
        assert after.envelope_id is not None
        made = self.channel.seal(SealOrder(row, PAYLOAD, None, None, NOW, after.envelope_id.hex))
        wire = made.measure(PAYLOAD)
        stored = NewEnvelope(
            after.envelope_id, row.id, row.payload_id, made.head, made.tail, wire.sha256.hex(), wire.size, NOW
        )
        async with self.ledger.transaction() as tx:
            assert await lodgments.move(tx, [(row, after)])
            await artifacts.add_envelopes(tx, [stored])
        return after

    async def sent(self, row: Lodgment, answer: bytes | Failure | None) -> tuple[Lodgment, Attempt]:
        """The lodgment claimed and its attempt ended by a reply or a failure; with None, it is still under way."""
        assert row.envelope_id is not None
        attempt = Attempt(
            id=self._ids.new(self.now, fresh_id().bytes[6:]),
            lodgment_id=row.id,
            number=row.attempts + 1,
            purpose=Purpose.SUBMIT,
            worker="worker-1",
            url="https://asic.example.test",
            envelope_id=row.envelope_id,
            started_at=self.now,
        )
        claimed = replace(
            row.moved(State.SENDING, due_at=self.now + Timing().lease),
            attempt_id=attempt.id,
            attempts=attempt.number,
            sent_at=row.sent_at or self.now,
        )
        async with self.ledger.transaction() as tx:
            assert await lodgments.move(tx, [(row, claimed)])
            await attempts.add(tx, [attempt])
        if answer is not None:
            await self.answered(attempt, answer)
        return claimed, attempt

    async def answered(self, attempt: Attempt, answer: bytes | Failure) -> None:
        ended = replace(attempt, wire_started_at=self.now, finished_at=self.now)
        async with self.ledger.transaction() as tx:
            if isinstance(answer, Failure):
                await attempts.finish(tx, [replace(ended, failure=answer)])
                return
            reply = NewArtifact(fresh_id(), attempt.lodgment_id, ArtifactKind.REPLY, answer, self.now)
            await artifacts.add(tx, [reply])
            await attempts.finish(
                tx, [replace(ended, http_status=200, content_type="application/soap+xml", reply_id=reply.id)]
            )

    async def moved(self, before: Lodgment, after: Lodgment) -> Lodgment:
        async with self.ledger.transaction() as tx:
            assert await lodgments.move(tx, [(before, after)])
        return after

    async def lodgment(self, row: Lodgment) -> Lodgment:
        (found,) = await self.lodgments([row])
        return found

    async def lodgments(self, rows: Sequence[Lodgment]) -> list[Lodgment]:
        async with self.ledger.transaction(read_only=True) as tx:
            found = await lodgments.load(tx, [row.id for row in rows])
        return [found[row.id] for row in rows]


def delivery(message: Outgoing) -> Delivery:
    return Delivery(message.body, message.message_id, message.headers, redelivered=False, token=object())


def deliveries(step: Step, *rows: Lodgment, attempt: Attempt | None = None) -> list[Delivery]:
    return [delivery(to_step(step, row, None if attempt is None else attempt.id)) for row in rows]


async def drive(stage: Stage, batch: Sequence[Delivery]) -> list[Outgoing]:
    """Handle a batch to its end; what it publishes. Every delivery must be settled once."""
    settled: list[Settled] = [one async for one in stage.handle(batch)]
    assert sorted(id(d) for one in settled for d in one.deliveries) == sorted(map(id, batch))
    return [message for one in settled for message in one.publications]


@pytest.fixture(params=["sqlite", "postgresql"])
async def bench(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    url = str(request.getfixturevalue(f"{request.param}_url"))
    ledger = DoubtfulLedger(url, Vault([b"synthetic master key, 32 bytes!!"]))
    yield Bench(ledger)
    await ledger.close()
