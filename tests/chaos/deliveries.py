"""Deliveries that come twice, in another order, never, or with garbage in them."""

import json
from collections.abc import Sequence
from uuid import uuid4

from pipeline.broker.messages import step_message
from tests.chaos.batches import PLAIN, TROUBLED
from tests.chaos.crashing import Harness, Point
from tests.chaos.ground import Ground
from tests.chaos.scenario import Field, Scenario
from tests.services.pipeline_processes import WORKERS, until

_STEPS = {"authorise": "token", "seal": "signer", "submit": "transport", "record": "outcome"}
_POISON: Sequence[bytes] = (
    b"",
    b"\x00\xff\xfe not text",
    b"[]",
    b'{"v":2}',
    b'{"v":1,"lodgment":"no id"}',
    b'{"v":1,"lodgment":"00000000-0000-0000-0000-000000000000","more":1}',
    b"[" * 1000,
    b'{"v":1,"lodgment":"' + b"x" * 5000 + b'"}',
)
_REFUSED_LOUDLY = ("runner.poison", "quarantine.kept")


def duplicates(field: Field) -> None:
    """Every job three times, and every message of every step again, to every step, while lodgments flow and after."""
    with field.ground() as ground:
        ground.open()
        batch = field.marked.batch(field.size, "twice", TROUBLED)
        for _ in range(3):
            ground.push(batch)
            _every_message_again(field, ground)
        until("half of it is final", lambda: _final(ground) * 2 >= field.size, 180)
        _every_message_again(field, ground)
        until("all is final", lambda: _final(ground) == field.size, 180)
        _every_message_again(field, ground)
        ground.verdict()


def _final(ground: Ground) -> int:
    return len([state for state in ground.states().values() if state in {"accepted", "rejected"}])


def _every_message_again(field: Field, ground: Ground) -> None:
    """In an order that chance draws, and to steps whose turn it is not."""
    ids = [row[0] for row in ground.query("SELECT lodgment_id FROM lodgment_outcome")]
    replies = ground.query("SELECT lodgment_id, attempt_id FROM attempt_history")
    messages = [(step, step_message(one)) for one in ids for step in _STEPS if step != "record"]
    messages += [("record", step_message(lodgment, attempt)) for lodgment, attempt in replies]
    field.chance.shuffle(messages)
    for step in _STEPS:
        ground.inject(step, *(body for name, body in messages if name == step))
    field.note(f"{len(messages)} messages published again, in another order")


def lost(field: Field) -> None:
    """One step after the other loses everything that waits for it; the scheduler finds what is missing."""
    with field.ground() as ground:
        ground.open()
        for step, worker in _STEPS.items():
            ground.strike(worker)
            ground.push(field.marked.batch(field.size // 4, step, PLAIN))
            until(f"messages wait for {step}", lambda step=step: ground.queues()[step] > 0, 120)  # type: ignore[misc]
            field.note(f"{ground.purge(step)} messages to {step} were lost")
            ground.hire(worker).await_ready()
        ground.verdict()


def poison(field: Field) -> None:
    """Garbage in the queue of every step, in the middle of batches that are sound."""
    with field.ground() as ground:
        ground.open(but=tuple(_STEPS.values()))
        ground.push(field.marked.batch(field.size, "among", PLAIN))
        until("all of it waits for its token", lambda: ground.queues()["authorise"] == field.size, 120)
        for step in _STEPS:
            ground.inject(step, *_POISON)
        ground.push(field.marked.batch(field.size // 4, "behind", PLAIN))
        for worker in _STEPS.values():
            ground.hire(worker)
        field.note(f"{len(_POISON)} kinds of garbage in {len(_STEPS)} queues, among {field.size} sound messages")
        ground.verdict(kept={"message.step": len(_POISON) * len(_STEPS)}, errors=_REFUSED_LOUDLY)


def strangers(field: Field) -> None:
    """Well-formed messages about lodgments and attempts that do not exist."""
    with field.ground() as ground:
        ground.open()
        for step in _STEPS:
            bodies = [step_message(uuid4(), uuid4() if step == "record" else None) for _ in range(10)]
            ground.inject(step, *bodies)
        ground.push(field.marked.batch(field.size, "known", PLAIN))
        ground.verdict()


def bad_jobs(field: Field) -> None:
    """What is no job, among jobs: refused with a reason that its producer is told, and kept."""
    with field.ground() as ground:
        ground.open()
        good = field.marked.batch(field.size, "good", PLAIN)
        bad = [b"", b"\xff\xfe", b"null", b"[]", b"{" * 2000, json.dumps({"version": 1, "job_id": "x y"}).encode()]
        ground.inject("receive", *bad)
        ground.push(good)
        ground.inject("receive", *bad)
        ground.await_calm_states()
        codes = dict(ground.query("SELECT code, count(*) FROM quarantine GROUP BY code"))
        field.note(f"refused and kept: {codes}")
        assert all(code.startswith("job.") for code in codes), codes
        assert sum(codes.values()) == 2 * len(bad), codes
        ground.verdict(kept=codes)


def worn_out(field: Field) -> None:
    """A message that kills its worker each time is set aside by the broker; its lodgment is held until released."""
    with field.ground(settings={"LODGE_DELIVERY_LIMIT": "2", "LODGE_BATCH": "1"}) as ground:
        ground.open(but=("signer",))
        [job_id] = (batch := field.marked.batch(1, "deadly", ("accept",))).jobs
        ground.push(batch)
        for _ in range(3):
            ground.await_crash(ground.hire("signer", Harness(Point.COMMIT_BEFORE)))
        until("it is held", lambda: ground.states() == {job_id: "held"}, 120)
        field.note("the signer died of one message three times, and its lodgment is held")
        ground.hire("signer").await_ready()
        ground.push(field.marked.batch(field.size, "others", PLAIN))
        ground.run_command("release", "--held-for", "delivery.limit", "--reason", "mended")
        ground.verdict(kept={"delivery.limit": 1}, errors=("quarantine.kept",))


SCENARIOS = (
    Scenario("deliveries", "duplicates", "every job and every message come again and again, in any order", duplicates),
    Scenario("deliveries", "lost", "the queue of one step after the other is emptied by nobody's order", lost),
    Scenario("deliveries", "poison", "garbage stands in the queue of every step among sound messages", poison),
    Scenario("deliveries", "strangers", "messages speak of lodgments that do not exist", strangers),
    Scenario("deliveries", "bad-jobs", "what is no job is pushed among jobs", bad_jobs),
    Scenario("deliveries", "worn-out", "a message kills its worker each time", worn_out, size=30),
)
assert set(_STEPS.values()) < set(WORKERS)
