"""The pipeline's stages under a clock that jumps from one due time to the next: weeks of polling in a minute.

The agency answers at once and truly: what is pushed and pulled is sealed and read by the SBR2 channel. Tokens are
given, not asked for.
"""

import random
import time
from collections import defaultdict, deque
from collections.abc import Awaitable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TypeVar

import sqlalchemy as sa

from pipeline.broker.messages import read_step_message
from pipeline.broker.port import Delivery, Exchange, Outgoing
from pipeline.channels.contract import Prepared
from pipeline.channels.sbr2_profile import usual_policy
from pipeline.channels.sbr2_stp import NAME, Sbr2Stp
from pipeline.ledger import artifacts, lodgments
from pipeline.ledger.artifact_rows import NewArtifact
from pipeline.ledger.lodgment_rows import NewLodgment
from pipeline.ledger.session import Ledger
from pipeline.ledger.tables import ArtifactKind, TokenState, lodgment, security_token
from pipeline.ledger.token_rows import seal_secrets
from pipeline.lodgment.decisions import Closedown, RetryPolicy
from pipeline.lodgment.lodgment import Lodgment
from pipeline.lodgment.references import Ids, MessageReferenceNumber, TokenKeyHash
from pipeline.lodgment.states import State, Step
from pipeline.protocol.credential import Credential
from pipeline.stages.contract import Context, Stage, Timing, onward
from pipeline.stages.record import Record
from pipeline.stages.reschedule import Reschedule
from pipeline.stages.seal import Seal
from pipeline.stages.submit import Submit
from tests.doubles import sbr2, stp
from tests.doubles.asic import make_credential, make_token
from tests.doubles.patient_agency import PatientAgency

T = TypeVar("T")

START = sbr2.NOW
CLOSEDOWN = Closedown(START + timedelta(hours=2), START + timedelta(days=9, hours=2))
PUSHED_WITHIN = timedelta(hours=3)
"""Lodgments go out from the start until well into the closedown, in which the agency takes them."""
_PORTION = 250
_TICK = timedelta(minutes=1)
"""The clock goes so much past what is due next: a clock that stops for every lodgment would make batches of one."""
_YEAR = timedelta(days=365)


class _Keys:
    """The one credential."""

    def __init__(self) -> None:
        self._credential = make_credential()

    def get(self, credential_id: str) -> Credential:
        del credential_id
        return self._credential


class Compressed:
    """Lodgments that are opened, polled and settled in a time of their own."""

    def __init__(self, ledger: Ledger, size: int, chance: random.Random) -> None:
        self.now = [START]
        self.policy = replace(usual_policy(), closedowns=(CLOSEDOWN,))
        channel = Sbr2Stp(replace(sbr2.make_profile(), policy=self.policy))
        context = Context(ledger, {NAME: channel}, "sandbox", lambda: self.now[0], Timing(), "worker", Ids())
        self.agency = PatientAgency(CLOSEDOWN, self.now)
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.sweeps = 0
        self._ledger, self._context, self._channel = ledger, context, channel
        self._stages: dict[Step, Stage] = {
            Step.SEAL: Seal(context, _Keys()),
            Step.SUBMIT: Submit(context, self.agency),
            Step.RECORD: Record(context),
        }
        self._scheduler = Reschedule(context, 500)
        self._queues: dict[Step, deque[Outgoing]] = {step: deque() for step in (Step.AUTHORISE, *self._stages)}
        self._opening = deque(sorted(START + PUSHED_WITHIN * chance.random() for _ in range(size)))
        self._chance = chance
        self._prepared = sbr2.prepared(stp.pay_event())

    async def run(self) -> None:
        """Until every lodgment is final."""
        await self._give_token()
        while True:
            await self._open_due()
            await self._drain()
            while swept := await self._timed("sweep", self._scheduler.sweep()):
                self.sweeps += 1
                self._queue(swept)
                await self._drain()
            moments = [moment for moment in (await self._next_due(), next(iter(self._opening), None)) if moment]
            if not moments:
                return
            self.now[0] = max(self.now[0], min(moments)) + _TICK

    async def states(self) -> dict[str, int]:
        """How many lodgments are in each state."""
        counted = sa.select(lodgment.c.state, sa.func.count().label("number")).group_by(lodgment.c.state)
        async with self._ledger.transaction(read_only=True) as tx:
            rows = await tx.connection.execute(counted)
            return {row.state: row.number for row in rows}

    async def _open_due(self) -> None:
        due = []
        while self._opening and self._opening[0] <= self.now[0]:
            due.append(self._opening.popleft())
        for start in range(0, len(due), _PORTION):
            rows = [self._new(self._prepared) for _ in due[start : start + _PORTION]]
            async with self._ledger.transaction() as tx:
                await lodgments.add(tx, [NewLodgment(row, "{}", {}) for row in rows])
                await artifacts.add(
                    tx,
                    [
                        NewArtifact(row.payload_id, row.id, ArtifactKind.PAYLOAD, self._prepared.content, self.now[0])
                        for row in rows
                    ],
                )
            self._queue([onward(row) for row in rows])

    def _new(self, prepared: Prepared) -> Lodgment:
        lodgment_id = self._context.new_id()
        reference = MessageReferenceNumber(str(lodgment_id))
        # Most answers come within an hour of open time, some after a day and more.
        hours = self._chance.choices((0.1, 0.5, 1.0, 30.0), (700, 200, 96, 4))[0] * self._chance.random()
        self.agency.outcome_after[reference] = timedelta(hours=hours)
        row = sbr2.taken(
            prepared,
            id=lodgment_id,
            reference=reference,
            job_id=str(lodgment_id),
            state=State.RECEIVED,
            received_at=self.now[0],
            due_at=self.now[0] + Timing().stuck_after,
        )
        return replace(row, payload_id=self._context.new_id(), order_key=None)

    async def _drain(self) -> None:
        while any(self._queues.values()):
            for step, queue in self._queues.items():
                while queue:
                    batch = [queue.popleft() for _ in range(min(_PORTION, len(queue)))]
                    await self._timed(step, self._handle(step, batch))

    async def _handle(self, step: Step, batch: Sequence[Outgoing]) -> None:
        if step is Step.AUTHORISE:
            self._queue(await self._authorise(batch))
            return
        deliveries = [Delivery(m.body, m.message_id, m.headers, redelivered=False, token=object()) for m in batch]
        async for settled in self._stages[step].handle(deliveries):
            self._queue(settled.publications)

    async def _authorise(self, batch: Sequence[Outgoing]) -> list[Outgoing]:
        """The token is there already."""
        ids = [read_step_message(message.body).lodgment_id for message in batch]
        async with self._ledger.transaction() as tx:
            rows = [row for row in (await lodgments.load(tx, ids)).values() if row.state is State.RECEIVED]
            due_at = self.now[0] + Timing().stuck_after
            moves = [
                (row, replace(row.moved(State.AUTHORISED, due_at=due_at, reason=row.reason), token_key=self._token_key))
                for row in rows
            ]
            await lodgments.move(tx, moves)
        return [onward(after) for _, after in moves]

    def _queue(self, messages: Sequence[Outgoing]) -> None:
        for message in messages:
            if message.exchange is Exchange.STEPS:
                self._queues[Step(message.routing_key)].append(message)

    async def _give_token(self) -> None:
        key = self._channel.token_key(self._new(self._prepared))
        assert key is not None
        self.agency.outcome_after.clear()
        self._token_key = TokenKeyHash(key.hash())
        token = replace(make_token(), created_at=START, expires_at=START + _YEAR)
        async with self._ledger.transaction() as tx:
            row = {
                "key_hash": self._token_key,
                "environment": key.environment,
                "sts": key.sts,
                "applies_to": key.applies_to,
                "credential": key.credential,
                "claims": list(key.claims),
                "key_size": key.key_size,
                "state": TokenState.VALID,
                "assertion_id": token.assertion_id,
                "created_at": token.created_at,
                "expires_at": token.expires_at,
                "requested_at": START,
                "renewals": 0,
                "last_used_at": START,
                **seal_secrets(tx.vault, self._token_key, token),
            }
            await tx.connection.execute(sa.insert(security_token).values(row))

    async def _timed(self, what: str, work: Awaitable[T]) -> T:
        started = time.perf_counter()
        try:
            return await work
        finally:
            self.seconds[what] += time.perf_counter() - started

    async def _next_due(self) -> datetime | None:
        async with self._ledger.transaction(read_only=True) as tx:
            rows = await tx.connection.execute(sa.select(sa.func.min(lodgment.c.due_at)))
            found: datetime | None = rows.scalar_one()
            return found


def unscheduled(agency: PatientAgency, policy: RetryPolicy) -> list[str]:
    """Polls that came earlier than the schedule says, or while the calendar says that nobody answers."""
    wrong = []
    for reference, pulls in agency.pulls.items():
        before = agency.pushed[reference]
        for number, moment in enumerate(pulls):
            least = policy.reopened(before + policy.poll.after(number, 0))
            if moment < least:
                wrong.append(f"{reference}: poll {number + 1} at {moment}, not before {least}")
            before = moment
    return wrong
