"""Several of each worker, and several that want to send one reference at a time."""

from datetime import datetime

from pipeline.broker.messages import step_message
from tests.chaos.batches import TROUBLED
from tests.chaos.ground import Ground
from tests.chaos.scenario import Field, Scenario
from tests.services.pipeline_processes import until

_ATTEMPTS = "SELECT reference, started_at, wire_started_at, finished_at FROM attempt_history ORDER BY reference, number"


def everybody_twice(field: Field) -> None:
    """Two of each worker, three schedulers."""
    with field.ground(agency_timeout=10) as ground:
        ground.open()
        ground.crew()
        ground.hire("scheduler").await_ready()
        ground.push(field.marked.batch(field.size, "company", TROUBLED))
        ground.verdict()
        _one_at_a_time(ground)


def one_reference(field: Field) -> None:
    """Three transport workers are told to send the same lodgments at the same moment, again and again."""
    with field.ground(agency_timeout=10) as ground:
        ground.open(but=("transport",))
        batch = field.marked.batch(field.size, "wanted", ("slow",), seconds=2)
        ground.push(batch)
        until("all are sealed", lambda: set(ground.states().values()) == {"sealed"} and _count(ground) == field.size)
        bodies = [step_message(row[0]) for row in ground.query("SELECT lodgment_id FROM lodgment_outcome")] * 5
        field.chance.shuffle(bodies)
        ground.inject("submit", *bodies)
        for _ in range(3):
            ground.hire("transport")
        field.note(f"three workers, each reference asked for {1 + 5} times")
        ground.verdict()
        _one_at_a_time(ground)
        seen = {line["seen"] for line in ground.book()}
        assert seen == {1}, f"the agency was sent references so often: {seen}"


def _count(ground: Ground) -> int:
    return len(ground.states())


def _one_at_a_time(ground: Ground) -> None:
    """No attempt of a reference began before the one before had ended, and the agency saw just those on record."""
    sent: dict[str, int] = {}
    ended: dict[str, datetime] = {}
    for reference, started_at, wire_started_at, finished_at in ground.query(_ATTEMPTS):
        sent[reference] = sent.get(reference, 0) + (wire_started_at is not None)
        assert reference not in ended or ended[reference] <= started_at, f"{reference} was sent by two at a time"
        ended[reference] = finished_at
    seen = {line["reference"]: line["seen"] for line in ground.book()}
    assert seen == {reference: count for reference, count in sent.items() if count}, "the book and the attempts differ"


SCENARIOS = (
    Scenario("company", "everybody-twice", "two of each worker and three schedulers share the work", everybody_twice),
    Scenario("company", "one-reference", "three transport workers are told to send one reference", one_reference),
)
