import re
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from pipeline.ledger import attempts, lodgments, operators, outcomes, reports
from pipeline.ledger.operators import OperatorAction
from pipeline.ledger.reports import OutcomeCount, RuleCount, StateCount
from pipeline.ledger.session import Ledger
from pipeline.lodgment.errors import RefusedError
from pipeline.lodgment.lodgment import Reason
from pipeline.lodgment.outcome import Attachment, MessageEvent, Outcome, Result, Severity
from pipeline.lodgment.states import State
from tests.doubles.lodgments import NOW, a_lodgment, fresh_id
from tests.integration.ledger.samples import SOON, an_attempt, new, parked

RULE, HINT = MessageEvent("0001", Severity.ERROR, "no name", "/a"), MessageEvent("0002", Severity.WARNING, "odd")
REJECTED = Outcome(Result.REJECTED, "r", events=(RULE, HINT), attachments=(Attachment("letter"),))
HOUR = timedelta(hours=1)


async def test_count_what_is_open_and_what_was_finished_lately(ledger: Ledger) -> None:
    longest, old, final = a_lodgment(NOW - 9 * HOUR), a_lodgment(NOW - 8 * HOUR), a_lodgment(NOW)
    items = [
        longest,
        old,
        replace(a_lodgment(NOW - 7 * HOUR), state=State.HELD, due_at=None),
        replace(final, state=State.ACCEPTED, due_at=None),
        replace(a_lodgment(NOW - 9 * HOUR), state=State.ACCEPTED, due_at=None),
        replace(a_lodgment(NOW), channel="other", environment="evte"),
    ]
    async with ledger.transaction() as tx:
        await lodgments.add(tx, new(items))
        assert await reports.state_counts(tx, NOW - HOUR) == [
            StateCount("asic_bn", "sandbox", State.ACCEPTED, 1, final.received_at),
            StateCount("asic_bn", "sandbox", State.HELD, 1, items[2].received_at),
            StateCount("asic_bn", "sandbox", State.RECEIVED, 2, longest.received_at),
            StateCount("other", "evte", State.RECEIVED, 1, items[5].received_at),
        ]


async def test_summarise_outcomes_by_reason_within_a_time(ledger: Ledger) -> None:
    rejected = [
        replace(a_lodgment(), state=State.REJECTED, due_at=None, reason=Reason("0001", "no name")) for _ in range(3)
    ]
    outside = [a_lodgment(NOW - HOUR - timedelta(seconds=1)), a_lodgment(NOW + HOUR)]
    async with ledger.transaction() as tx:
        await lodgments.add(tx, new([*rejected, parked(a_lodgment(), "lane.turn"), a_lodgment(NOW - HOUR), *outside]))
        assert await reports.outcome_summary(tx, NOW - HOUR, NOW + HOUR) == [
            OutcomeCount(State.REJECTED, "0001", 3),
            OutcomeCount(State.PARKED, "lane.turn", 1),
            OutcomeCount(State.RECEIVED, None, 1),
        ]


async def test_count_events_by_rule(ledger: Ledger) -> None:
    async with ledger.transaction() as tx:
        for moment in (NOW, NOW, NOW - 2 * HOUR):
            await outcomes.add(tx, [(fresh_id(), fresh_id(moment), Outcome(Result.REJECTED, "r", events=(RULE,)))], NOW)
        await outcomes.add(tx, [(fresh_id(), fresh_id(), Outcome(Result.ACCEPTED, "r", events=(HINT,)))], NOW)
        assert await reports.events_by_rule(tx, NOW - HOUR, NOW + HOUR) == [
            RuleCount("0001", Severity.ERROR, 2),
            RuleCount("0002", Severity.WARNING, 1),
        ]


async def test_tell_the_whole_story_of_one_lodgment(ledger: Ledger) -> None:
    lodgment = a_lodgment()
    tries = [an_attempt(lodgment, number) for number in (1, 2)]
    action = OperatorAction(fresh_id(), SOON, "operator@example", "release", lodgment.id, "the name was right")
    async with ledger.transaction() as tx:
        await lodgments.add(tx, new([lodgment]))
        await attempts.add(tx, tries)
        await outcomes.add(tx, [(lodgment.id, tries[1].id, REJECTED)], SOON)
        await operators.add(tx, [action])
        await operators.add(tx, [])
        story = await reports.timeline(tx, lodgment.id)
        assert await reports.timeline(tx, fresh_id()) is None
    assert story is not None
    assert (story.lodgment, story.document.labels) == (lodgment, {"run": "synthetic"})
    assert (story.attempts, story.events) == (tries, [RULE, HINT])
    assert (story.attachments, story.actions) == ([Attachment("letter")], [action])


async def test_refuse_an_action_on_a_lodgment_that_does_not_exist(ledger: Ledger) -> None:
    async with ledger.transaction() as tx:
        await operators.add(tx, [OperatorAction(fresh_id(), NOW, "operator@example", "drain", None, "closedown")])
    with pytest.raises(RefusedError):
        async with ledger.transaction() as tx:
            await operators.add(tx, [OperatorAction(fresh_id(), NOW, "operator@example", "cancel", fresh_id(), "why")])


COLUMNS = {
    "lodgment_outcome": "lodgment_id reference job_id abn channel environment service action state reason_code "
    "reason_text reason_who received_at due_date sent_at finished_at attempts agency_reference document_number labels",
    "rejection_event": "event_id lodgment_id reference job_id abn channel environment service action state code "
    "description location recorded_at payee record",
    "attempt_history": "attempt_id lodgment_id reference abn channel environment number purpose started_at "
    "wire_started_at finished_at http_status failure_kind failure_code failure_who",
}


@pytest.mark.parametrize("view", COLUMNS)
async def test_views_keep_their_columns_for_analysts(ledger: Ledger, view: str) -> None:
    async with ledger.transaction(read_only=True) as tx:
        rows = await tx.connection.execute(sa.text(f"SELECT * FROM {view}"))  # noqa: S608  - a fixed name
    assert list(rows.keys()) == COLUMNS[view].split()


def test_the_documented_views_are_those_of_the_ledger() -> None:
    page = (Path(__file__).parents[3] / "docs" / "views.md").read_text()
    rows = [line.strip("|").split("|") for line in page.splitlines() if line.startswith("| `")]
    documented = {view.strip(" `"): re.findall(r"`(\w+)`", columns) for view, _, columns in rows}
    assert documented == {view: columns.split() for view, columns in COLUMNS.items()}


async def test_views_answer_who_was_rejected_under_which_rule(ledger: Ledger) -> None:
    rejected = replace(a_lodgment(), state=State.REJECTED, due_at=None, finished_at=SOON, document_number="7E0000000")
    one_try = an_attempt(rejected)
    async with ledger.transaction() as tx:
        await lodgments.add(tx, new([rejected, a_lodgment()]))
        await attempts.add(tx, [one_try])
        await outcomes.add(tx, [(rejected.id, one_try.id, REJECTED)], SOON)
        execute = tx.connection.exec_driver_sql
        outcome = await execute("SELECT reference, abn, document_number FROM lodgment_outcome WHERE state = 'rejected'")
        assert [tuple(row) for row in outcome] == [(rejected.reference, rejected.party_abn, "7E0000000")]
        events = await execute("SELECT reference, code, description, location FROM rejection_event")
        assert [tuple(row) for row in events] == [(rejected.reference, "0001", "no name", "/a")]
        history = await execute("SELECT reference, number, purpose FROM attempt_history")
        assert [tuple(row) for row in history] == [(rejected.reference, 1, "submit")]
