"""recover: put every message back that a lost broker carried, and doubt what a restored ledger believes unsent.

Both are safe while workers run, and safe to repeat: a step that gets a message twice finds its work done.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

import structlog

from pipeline.broker.port import Outgoing
from pipeline.ledger import attempts, identity, lodgments, recovery
from pipeline.ledger.session import Ledger
from pipeline.lodgment.recovery import doubted
from pipeline.lodgment.states import State, Step
from pipeline.stages.contract import Clock, onward, to_step

log = structlog.get_logger(__name__)

_APART = timedelta(microseconds=1)
"""Between the wake-ups of two doubted lodgments: the scheduler takes them in this order."""


class Recover:
    """The use case of `lodge recover`; each portion is a transaction of its own."""

    def __init__(self, ledger: Ledger, clock: Clock, stuck_after: timedelta) -> None:
        self._ledger = ledger
        self._clock = clock
        self._stuck_after = stuck_after

    async def put_back(self, portion: Sequence[UUID]) -> list[Outgoing]:
        """The messages of those that still need one; publish them. A crash before that only means doing it again."""
        async with self._ledger.transaction() as tx:
            rows = await recovery.lock(tx, portion)
            sending = [row for row in rows if row.state is State.SENDING]
            known = await attempts.load(tx, [row.attempt_id for row in sending if row.attempt_id is not None])
            stuck_at = self._clock() + self._stuck_after
            await lodgments.postpone(tx, [row.id for row in rows if row.state is not State.SENDING], stuck_at)
        answered = {one.lodgment_id for one in known.values() if one.finished_at is not None}
        messages = [
            onward(row) if row.state is not State.SENDING else to_step(Step.RECORD, row, row.attempt_id)
            for row in rows
            if row.state is not State.SENDING or row.id in answered
        ]
        log.info("recover.put_back", published=len(messages), passed_over=len(portion) - len(messages))
        return messages

    async def restored(self) -> None:
        """Note that the ledger was restored, before anything is doubted."""
        async with self._ledger.transaction() as tx:
            await identity.restored(tx, self._clock())

    async def doubt(self, portion: Sequence[UUID], since: datetime, first: int) -> int:
        """Mark what may have been sent since the copy was made; how many. `first` counts those before this portion."""
        async with self._ledger.transaction() as tx:
            known = await lodgments.load(tx, portion)
            moves = []
            for place, lodgment_id in enumerate(portion, first):
                row = known[lodgment_id]
                after = doubted(row, since, since + _APART * place)
                if after is not None:
                    moves.append((row, after))
            won = await lodgments.move(tx, moves)
        log.info("recover.doubted", lodgments=len(won), passed_over=len(portion) - len(won))
        return len(won)
