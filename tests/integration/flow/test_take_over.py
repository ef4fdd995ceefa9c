"""What an embedded process takes over from the one before, which was killed."""

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from pipeline.ledger import lodgments, tokens
from pipeline.lodgment.lodgment import TOKEN_REQUESTED, Reason
from pipeline.lodgment.states import State
from tests.doubles.jobs import job
from workers.process import Worker

if TYPE_CHECKING:
    from tests.integration.flow.conftest import Pipeline


@pytest.mark.parametrize("pipeline", ["embedded"], indirect=True)
async def test_a_token_that_the_killed_process_had_asked_for_is_asked_for_again_at_once(pipeline: "Pipeline") -> None:
    async with pipeline.running([Worker.INTAKE]):
        await pipeline.push(job("one"), job("two"))
        one = await pipeline.until("one", State.RECEIVED)
        key = pipeline.parts.context.channels[one.channel].token_key(one)
        assert key is not None
        now = datetime.now(UTC)
        lease_ends = now + timedelta(hours=1)
        reason = Reason(TOKEN_REQUESTED, "Another worker is asking for this token.")
        parked = one.moved(State.PARKED, due_at=lease_ends, resume=State.RECEIVED, reason=reason)
        async with pipeline.parts.ledger.transaction() as tx:
            assert await tokens.claim(tx, [key], "killed", now, lease_ends)
            assert await lodgments.move(tx, [(one, parked)])
    async with pipeline.running():
        await pipeline.until("one", State.ACCEPTED)
        await pipeline.until("two", State.ACCEPTED)
