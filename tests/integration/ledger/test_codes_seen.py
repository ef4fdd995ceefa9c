from dataclasses import replace
from datetime import timedelta

from pipeline.ledger import attempts, holds, lodgments, outcomes
from pipeline.ledger.codes_seen import CodeSeen, Heard, codes_seen
from pipeline.ledger.session import Ledger
from pipeline.lodgment.failures import Blast, Party
from pipeline.lodgment.holds import Hold, Reach
from pipeline.lodgment.lodgment import Purpose, Reason
from pipeline.lodgment.outcome import MessageEvent, Outcome, Result, Severity
from pipeline.lodgment.states import State
from tests.doubles.lodgments import NOW, a_lodgment, fresh_id
from tests.integration.ledger.samples import an_attempt, new, parked

HOUR = timedelta(hours=1)
RULE, ODD = MessageEvent("CMN.NEW.1", Severity.ERROR, "new"), MessageEvent("CMN.OLD.1", Severity.WARNING, "old")


async def test_codes_are_counted_by_channel_with_when_they_were_met_and_an_example(ledger: Ledger) -> None:
    first, second = (replace(a_lodgment(at), state=State.REJECTED, due_at=None) for at in (NOW, NOW + HOUR))
    other = replace(a_lodgment(NOW), channel="other", state=State.REJECTED, due_at=None)
    async with ledger.transaction() as tx:
        await lodgments.add(tx, new([first, second, other]))
        for row, at in ((first, NOW), (second, NOW + HOUR), (other, NOW)):
            one_try = replace(an_attempt(row), id=fresh_id(at))
            await attempts.add(tx, [one_try])
            await outcomes.add(tx, [(row.id, one_try.id, Outcome(Result.REJECTED, "r", events=(RULE,)))], at)
        assert await codes_seen(tx, NOW - HOUR) == [
            CodeSeen("CMN.NEW.1", "asic_bn", Heard.EVENT, 2, NOW, NOW + HOUR, second.id),
            CodeSeen("CMN.NEW.1", "other", Heard.EVENT, 1, NOW, NOW, other.id),
        ]


async def test_what_was_met_before_the_time_asked_for_is_left_out(ledger: Ledger) -> None:
    row = replace(a_lodgment(NOW - 3 * HOUR), state=State.REJECTED, due_at=None)
    old = parked(a_lodgment(NOW - 3 * HOUR), "CMN.OLD.2")
    async with ledger.transaction() as tx:
        await lodgments.add(tx, new([row, old]))
        one_try = replace(an_attempt(row), id=fresh_id(NOW - 2 * HOUR))
        await outcomes.add(tx, [(row.id, one_try.id, Outcome(Result.REJECTED, "r", events=(ODD,)))], NOW - 2 * HOUR)
        assert await codes_seen(tx, NOW - HOUR) == []
        assert {one.code for one in await codes_seen(tx, NOW - 4 * HOUR)} == {"CMN.OLD.1", "CMN.OLD.2"}


async def test_reasons_of_open_lodgments_count_and_those_of_final_ones_do_not(ledger: Ledger) -> None:
    reason = Reason("CMN.NEW.2", "unheard of", Party.OPERATOR)
    held = replace(a_lodgment(NOW), state=State.HELD, due_at=None, reason=reason, sent_at=NOW + HOUR)
    final = replace(a_lodgment(NOW), state=State.REJECTED, due_at=None, reason=reason)
    async with ledger.transaction() as tx:
        await lodgments.add(tx, new([held, final, a_lodgment(NOW)]))
        assert await codes_seen(tx, NOW - HOUR) == [
            CodeSeen("CMN.NEW.2", "asic_bn", Heard.REASON, 1, NOW, NOW + HOUR, held.id)
        ]


async def test_a_code_that_is_left_in_a_hold_alone_is_still_seen(ledger: Ledger) -> None:
    reach = Reach("sbr2_stp", Blast.EMPLOYER, "51824753556")
    hold = Hold(fresh_id(), reach, "SBR.GEN.AUTH.099", "unheard of", Party.OPERATOR, Purpose.SUBMIT, since=NOW)
    kept = replace(a_lodgment(NOW), state=State.HELD, due_at=None, hold_id=hold.id, channel="sbr2_stp")
    async with ledger.transaction() as tx:
        await holds.establish(tx, [hold])
        alone = CodeSeen("SBR.GEN.AUTH.099", "sbr2_stp", Heard.HOLD, 1, NOW, NOW, None)
        assert await codes_seen(tx, NOW - HOUR) == [alone]
        await lodgments.add(tx, new([kept]))
        assert await codes_seen(tx, NOW - HOUR) == [replace(alone, example=kept.id)]
        assert await codes_seen(tx, NOW + HOUR) == []
