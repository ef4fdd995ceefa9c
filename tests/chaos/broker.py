"""The broker dies and comes back, with messages ready and in hand."""

from collections.abc import Iterator
from contextlib import contextmanager

import pika

from tests.acceptance.havoc import Pusher
from tests.chaos.batches import PLAIN, TROUBLED
from tests.chaos.ground import Ground
from tests.chaos.scenario import Field, Scenario
from tests.services.pipeline_processes import until

_KILLS = 3


def killed(field: Field) -> None:
    """SIGKILL to the node while jobs come in and lodgments flow."""
    rabbit = field.house.rabbit
    with field.ground() as ground:
        ground.open()
        pusher = Pusher(ground.servers)
        try:
            for number in range(_KILLS):
                batch = field.marked.batch(field.size // _KILLS, f"kill-{number}", TROUBLED)
                ground.confirm(batch)
                pusher.push(batch.jobs)
                before = len(ground.states())
                until("some of it is under way", lambda before=before: len(ground.states()) > before, 120)  # type: ignore[misc]
                rabbit.kill()
                rabbit.start()
                field.note("the node was killed and started again")
            pusher.finish()
        finally:
            pusher.abandon()
        ground.verdict()


def full_of_messages(field: Field) -> None:
    """Half of the jobs are in the hands of a consumer that does nothing, the others ready; killed again half way."""
    rabbit = field.house.rabbit
    # The sandbox is one process, and slow with so many before it: that is no outage of the agency.
    with field.ground(agency_timeout=30, settings={"LODGE_BATCH": "200"}) as ground:
        ground.start_sandbox()
        ground.push(field.marked.batch(field.size, "many", PLAIN))
        with _in_hand(ground, field.size // 2) as count:
            field.note(f"{count} messages are unacknowledged, {ground.queues()['receive']} ready")
            rabbit.kill()
        rabbit.start()
        until("all are ready again", lambda: ground.queues()["receive"] == field.size, 120, ground.queues)
        field.note(f"after the restart {field.size} messages are ready")
        ground.crew()
        until("half are in the ledger", lambda: len(ground.states()) * 2 > field.size, 600)
        rabbit.kill()
        rabbit.start()
        field.note(f"killed and started again with {len(ground.states())} in the ledger")
        ground.verdict(patience=900)
        field.note(f"{field.size} lodgments final, each processed once")


@contextmanager
def _in_hand(ground: Ground, count: int) -> Iterator[int]:
    """A consumer that has `count` jobs and acknowledges none."""
    connection = pika.BlockingConnection(pika.URLParameters(ground.servers.broker_url))
    channel = connection.channel()
    channel.basic_qos(prefetch_count=count)
    taken = 0
    for method, _, _ in channel.consume(f"{ground.servers.namespace}.receive", inactivity_timeout=10):
        assert method is not None, f"only {taken} of {count} messages came"
        taken += 1
        if taken == count:
            break
    yield taken


SCENARIOS = (
    Scenario("broker", "killed", "the broker is killed and started again, three times", killed),
    Scenario(
        "broker",
        "ten-thousand",
        "the broker is killed with ten thousand messages, half of them unacknowledged",
        full_of_messages,
        size=10_000,
    ),
)
