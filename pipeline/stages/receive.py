"""receive: validate the job, allocate its message reference number, store the payload and the row."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

import structlog

from pipeline.broker.messages import outcome_event, refusal_event
from pipeline.broker.port import Delivery, Outgoing
from pipeline.channels.contract import Channel, Prepared
from pipeline.gateway.documents import DocumentStore
from pipeline.ledger import (
    artifacts,
    identity,
    lane_history,
    lodgments,
    outcomes,
    payees,
    quarantine,
    software_ids,
)
from pipeline.ledger.artifact_rows import NewArtifact
from pipeline.ledger.artifacts import AT_ONCE
from pipeline.ledger.lodgment_rows import NewLodgment
from pipeline.ledger.quarantine import Quarantined
from pipeline.ledger.session import Tx
from pipeline.ledger.tables import ArtifactKind
from pipeline.lodgment.deadlines import least_first
from pipeline.lodgment.job import JobRefusedError, LodgmentJob, read_job
from pipeline.lodgment.lodgment import NOT_BEFORE, Lodgment, Reason
from pipeline.lodgment.references import message_reference_number
from pipeline.lodgment.replacement import Verdict, event_of, judge
from pipeline.lodgment.states import NEXT_STEP, State, Step
from pipeline.lodgment.subscription import (
    Checked,
    RegisteredId,
    Subscription,
    software_id_for,
    subscription_of,
    unused_id,
)
from pipeline.stages.contract import Context, Settled, onward
from pipeline.stages.doors import slack_of

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Taken:
    """A job that can be lodged: its row to be, and its payload in the form in which it is sealed."""

    delivery: Delivery
    job: LodgmentJob
    lodgment: Lodgment
    prepared: Prepared
    subscription: Subscription | None
    """Whose software id it goes under, where its channel carries one."""

    def same_as(self, other: Lodgment) -> bool:
        return self.lodgment.content_digest == other.content_digest


@dataclass(frozen=True, slots=True)
class _Refused:
    delivery: Delivery
    error: JobRefusedError


class Receive:
    """The intake's use case. `credential` and `product` are the defaults for jobs that name none.

    Documents of a batch are held up to `at_once` bytes, and one beyond: a batch of the largest would not fit in memory.
    """

    step = Step.RECEIVE

    def __init__(
        self,
        context: Context,
        documents: DocumentStore,
        credential: str,
        product: str | None = None,
        at_once: int = AT_ONCE,
    ) -> None:
        self._context = context
        self._documents = documents
        self._credential = credential
        self._product = product
        self._at_once = at_once
        self._ledger_id: UUID | None = None

    async def handle(self, batch: Sequence[Delivery]) -> AsyncIterator[Settled]:
        ledger_id = await self._identity()
        rest = deque(batch)
        while rest:
            portion: list[Delivery] = []
            taken: dict[str, _Taken] = {}
            refused: list[_Refused] = []
            held = 0
            while rest and held < self._at_once:
                portion.append(delivery := rest.popleft())
                try:
                    one = await self._take(delivery, ledger_id)
                    held += len(one.prepared.content)
                    if not one.same_as(taken.setdefault(one.job.job_id, one).lodgment):
                        raise _conflict(one.job.job_id)
                except JobRefusedError as error:
                    refused.append(_Refused(delivery, error))
            yield Settled(tuple(portion), tuple(await self._store(taken, refused)))

    async def _identity(self) -> UUID:
        """The ledger's own id, which references are derived from: it never changes."""
        if self._ledger_id is None:
            async with self._context.ledger.transaction(read_only=True) as tx:
                self._ledger_id = (await identity.read(tx)).id
        return self._ledger_id

    async def _take(self, delivery: Delivery, ledger_id: UUID) -> _Taken:
        job = read_job(delivery.body)
        try:
            channel = self._channel(job)
            if job.payload.reference is None:
                prepared, sha256 = self._prepare(channel, job)
            else:
                # A document by reference may be large; heartbeats must not wait for it.
                prepared, sha256 = await asyncio.to_thread(self._prepare, channel, job)
            whose = subscription_of(job, self._product) if channel.needs_software_id else None
            carried = unused_id(job) if whose is None else None
        except JobRefusedError as error:
            raise JobRefusedError(error.code, error.problems, job.job_id) from error
        row = self._row(job, job.content_digest(sha256), prepared, carried, ledger_id)
        return _Taken(delivery, job, row, prepared, whose)

    def _prepare(self, channel: Channel, job: LodgmentJob) -> tuple[Prepared, str]:
        """The document as it will be sent, and the SHA-256 of the producer's own."""
        with self._documents.open(job.payload) as document:
            try:
                prepared = channel.prepare(job, document, self._now())
            except JobRefusedError:
                document.checked()  # not the document that was meant: that is the better explanation
                raise
            return prepared, document.checked()

    def _channel(self, job: LodgmentJob) -> Channel:
        try:
            return self._context.channels[job.channel]
        except KeyError:
            known = ", ".join(sorted(self._context.channels))
            raise JobRefusedError("job.channel", (f"channel: unknown; this pipeline has {known}",)) from None

    def _row(
        self, job: LodgmentJob, digest: str, prepared: Prepared, software_id: str | None, ledger_id: UUID
    ) -> Lodgment:
        now = self._context.clock()
        lodgment_id = self._context.new_id()
        received = Lodgment(
            id=lodgment_id,
            reference=message_reference_number(ledger_id, self._context.environment, job.sender.id, job.job_id),
            job_id=job.job_id,
            content_digest=digest,
            channel=job.channel,
            service=job.service,
            action=job.action,
            environment=self._context.environment,
            sender_id=job.sender.id,
            sender_type=job.sender.type,
            party_abn=job.party_abn(),
            credential=job.credential or self._credential,
            software_id=software_id,
            order_key=prepared.order_key or job.order_key,
            priority=job.priority,
            due_date=job.due_date,
            received_at=now,
            payload_id=self._context.new_id(),
            facts=prepared.facts,
            state=State.RECEIVED,
            due_at=now + self._context.timing.stuck_after,
        )
        if job.not_before is None or job.not_before <= now:
            return received
        reason = Reason(NOT_BEFORE, f"The producer asked to wait until {job.not_before.isoformat()}.")
        return received.moved(State.PARKED, due_at=job.not_before, resume=State.RECEIVED, reason=reason)

    async def _store(self, taken: dict[str, _Taken], refused: list[_Refused]) -> list[Outgoing]:
        """All of the batch in one transaction: a payload is stored only with its row, a row only with its payload."""
        asked_at = self._now()
        async with self._context.ledger.transaction() as tx:
            known = await lodgments.known_jobs(tx, list(taken))
            unknown = [one for job_id, one in taken.items() if job_id not in known]
            fresh, without = await _with_software_ids(tx, unknown)
            fresh, forbidden = await self._judged(tx, fresh)
            refused += forbidden
            added = await lodgments.add(tx, [NewLodgment(o.lodgment, o.job.stored_form(), o.job.labels) for o in fresh])
            if len(added) < len(fresh):
                # Another intake stored some of these jobs since the look-up: its rows are the originals.
                known |= await lodgments.known_jobs(tx, [o.job.job_id for o in fresh if o.lodgment.id not in added])
            new = [one for one in fresh if one.lodgment.id in added]
            await artifacts.add(tx, [_payload(one) for one in new])
            await payees.add(tx, [(one.lodgment.id, one.prepared.payees) for one in new])
            again = [known[job_id] for job_id, one in taken.items() if job_id in known and one.same_as(known[job_id])]
            refused += without
            refused += [
                _Refused(one.delivery, _conflict(job_id))
                for job_id, one in taken.items()
                if job_id in known and not one.same_as(known[job_id])
            ]
            await quarantine.add(tx, [self._kept(bad) for bad in refused])
            publications = self._onward([one.lodgment for one in new])
            publications += await self._answers_again(tx, again, asked_at)
        publications += [refusal_event(b.error.job_id, b.error.code, b.error.problems, self._now()) for b in refused]
        _tell(new, again, refused)
        return publications

    def _onward(self, new: Sequence[Lodgment]) -> list[Outgoing]:
        now = self._now()
        going = [row for row in new if row.state in NEXT_STEP]
        return [onward(row) for row in least_first(going, lambda row: slack_of(self._context, row, now))]

    async def _judged(self, tx: Tx, fresh: Sequence[_Taken]) -> tuple[list[_Taken], list[_Refused]]:
        """Those that may be lodged, and the full file replacements of which it is known already that they may not."""
        replacing = [one.lodgment for one in fresh if one.lodgment.facts.get("replaces")]
        if not replacing:
            return list(fresh), []
        history = await lane_history.before(tx, replacing)
        allowed: list[_Taken] = []
        refused: list[_Refused] = []
        for one in fresh:
            row = one.lodgment
            found = Verdict()
            if row.id in history:
                beside = [event_of(o.lodgment) for o in allowed if o.lodgment.order_key == row.order_key]
                found = judge(row, [*history[row.id], *beside])
            if found.refusal is not None:
                error = JobRefusedError(found.refusal.code, (found.refusal.text,), one.job.job_id)
                refused.append(_Refused(one.delivery, error))
                continue
            allowed.append(one)
            if found.elsewhere:
                log.info("receive.replacement_elsewhere", lodgment=str(row.id), job=row.job_id)
        return allowed, refused

    async def _answers_again(self, tx: Tx, originals: Sequence[Lodgment], asked_at: datetime) -> list[Outgoing]:
        """A job pushed again gets the original lodgment: its outcome once more, or a nudge where it stands.

        `asked_at`, before it was read: it may have moved on since, and the telling of that must stay the later one.
        """
        answers = []
        for original in originals:
            if original.state in NEXT_STEP:
                answers.append(onward(original))
            else:
                answers.append(outcome_event(original, await outcomes.of(tx, original.id), asked_at))
        return answers

    def _kept(self, bad: _Refused) -> Quarantined:
        return Quarantined(
            id=self._context.new_id(),
            step=self.step,
            code=bad.error.code,
            reason=str(bad.error),
            job_id=bad.error.job_id,
            lodgment_id=None,
            message_id=bad.delivery.message_id,
            body=bad.delivery.body,
            received_at=self._now(),
        )

    def _now(self) -> datetime:
        return self._context.clock()


def _payload(one: _Taken) -> NewArtifact:
    row = one.lodgment
    return NewArtifact(row.payload_id, row.id, ArtifactKind.PAYLOAD, one.prepared.content, row.received_at)


async def _with_software_ids(tx: Tx, fresh: Sequence[_Taken]) -> tuple[list[_Taken], list[_Refused]]:
    """The jobs with the ids that they go under, looked up for all of the batch at once; and those that have none.

    Asked only of jobs that are not known yet: what was lodged keeps its id, whatever becomes of that later.
    """
    registered = await software_ids.registered(tx, {one.subscription for one in fresh if one.subscription is not None})
    taken, refused = [], []
    for one in fresh:
        if one.subscription is None:
            taken.append(one)
            continue
        try:
            taken.append(_under(one, one.subscription, registered.get(one.subscription)))
        except JobRefusedError as error:
            refused.append(_Refused(one.delivery, error))
    return taken, refused


def _under(one: _Taken, whose: Subscription, registered: RegisteredId | None) -> _Taken:
    software_id = software_id_for(one.job, whose, registered)
    if registered is not None and registered.checked is Checked.ALLOWED:
        log.warning("receive.software_id_allowed", lodgment=str(one.lodgment.id), job=one.job.job_id)
    return replace(one, lodgment=replace(one.lodgment, software_id=software_id.digits))


def _conflict(job_id: str) -> JobRefusedError:
    rule = "job_id: already used for a job with other content; give the changed job an id of its own"
    return JobRefusedError("job.conflict", (rule,), job_id)


def _tell(new: Sequence[_Taken], again: Sequence[Lodgment], refused: Sequence[_Refused]) -> None:
    for one in new:
        log.info("receive.completed", lodgment=str(one.lodgment.id), job=one.job.job_id, state=one.lodgment.state)
    for original in again:
        log.info("receive.repeated", lodgment=str(original.id), job=original.job_id, state=original.state)
    for bad in refused:
        log.warning("receive.refused", job=bad.error.job_id, code=bad.error.code)
