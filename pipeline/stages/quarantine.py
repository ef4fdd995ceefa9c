"""quarantine: keep what no stage could handle, with its reason, where operators see it; hold the lodgment concerned."""

from collections.abc import AsyncIterator, Sequence
from hashlib import sha256

import structlog

from pipeline.broker.messages import outcome_event, read_step_message
from pipeline.broker.port import Delivery, Outgoing, step_of
from pipeline.ledger import lodgments, quarantine
from pipeline.ledger.quarantine import Quarantined
from pipeline.ledger.session import Tx
from pipeline.lodgment.errors import RefusedError
from pipeline.lodgment.failures import Party
from pipeline.lodgment.lodgment import Lodgment, Reason
from pipeline.lodgment.states import NEXT_STEP, State, Step
from pipeline.stages.contract import Context, Settled

log = structlog.get_logger(__name__)

STEP_HEADER = "x-lodge-step"
CODE_HEADER = "x-lodge-code"
REASON_HEADER = "x-lodge-reason"
"""Set by the runner; a message that the broker itself dead-lettered (delivery limit) has none of them."""
_DEATH_QUEUE_HEADER = "x-first-death-queue"

WORN_OUT_CODE = "delivery.limit"
WORN_OUT = "The message was delivered again and again without being handled to its end."


class Quarantine:
    """Runs in the scheduler process. A held lodgment goes on when an operator releases it."""

    step = Step.QUARANTINE

    def __init__(self, context: Context) -> None:
        self._context = context

    async def handle(self, batch: Sequence[Delivery]) -> AsyncIterator[Settled]:
        items = [self._kept(delivery) for delivery in batch]
        async with self._context.ledger.transaction() as tx:
            await quarantine.add(tx, items)
            publications = await self._hold(tx, items)
        for item in items:
            log.error("quarantine.kept", step=item.step, code=item.code, message=item.message_id)
        yield Settled(tuple(batch), tuple(publications))

    def _kept(self, delivery: Delivery) -> Quarantined:
        try:
            lodgment_id = read_step_message(delivery.body).lodgment_id
        except RefusedError:
            lodgment_id = None
        step = delivery.headers.get(STEP_HEADER) or _died_in(delivery)
        code = delivery.headers.get(CODE_HEADER, WORN_OUT_CODE)
        return Quarantined(
            id=self._context.new_id(),
            step=step,
            code=code,
            reason=delivery.headers.get(REASON_HEADER, WORN_OUT),
            job_id=None,
            lodgment_id=lodgment_id,
            message_id=delivery.message_id,
            body=delivery.body,
            received_at=self._context.clock(),
            identity=_identity(step, code, delivery),
        )

    async def _hold(self, tx: Tx, items: Sequence[Quarantined]) -> list[Outgoing]:
        reasons = {
            item.lodgment_id: Reason(item.code, item.reason, Party.OPERATOR) for item in items if item.lodgment_id
        }
        unread = {item.lodgment_id for item in items if item.step == Step.RECORD}
        now = self._context.clock()
        rows = await lodgments.load(tx, [lodgment_id for lodgment_id in reasons if lodgment_id is not None])
        moves: list[tuple[Lodgment, Lodgment]] = [
            (row, row.moved(State.HELD, reason=reasons[row.id]))
            for row in rows.values()
            # One that is `sending` has a worker, unless its reply is what could not be read.
            if row.state in NEXT_STEP or (row.state is State.SENDING and row.id in unread)
        ]
        won = await lodgments.move(tx, moves)
        told = [after for _, after in moves if after.id in won]
        # Held when their message was here before; that telling may not have left.
        told += [row for row in rows.values() if row.state is State.HELD and _is_why(row, reasons[row.id])]
        return [outcome_event(row, (), now) for row in told]


def _is_why(row: Lodgment, reason: Reason) -> bool:
    return row.reason is not None and row.reason.code == reason.code


def _identity(step: str, code: str, delivery: Delivery) -> str:
    """The same for a message that comes again because we, or whoever put it here, died before the acknowledgement."""
    texts = (step, code, delivery.message_id or "")
    parts = (*(text.encode(errors="surrogatepass") for text in texts), delivery.body)
    return sha256(b"".join(sha256(part).digest() for part in parts)).hexdigest()


def _died_in(delivery: Delivery) -> str:
    """The step whose queue the broker took the message from; queues are named `<namespace>.<short name>`."""
    return step_of(delivery.headers.get(_DEATH_QUEUE_HEADER, "unknown").rpartition(".")[2])
