"""A broker of three nodes loses its leader, then its quorum, and heals."""

from contextlib import ExitStack

from tests.acceptance.havoc import Pusher
from tests.chaos.batches import TROUBLED
from tests.chaos.scenario import Field, Scenario
from tests.services.pipeline_processes import until
from tests.services.rabbitmq import PrivateCluster


def cluster(field: Field) -> None:
    """One node of three lost: everything goes on. Two lost: nothing is confirmed. All back: everything is lodged."""
    with ExitStack() as stack:
        rabbits = PrivateCluster()
        stack.callback(rabbits.stop)
        rabbits.start()
        ground = stack.enter_context(field.ground(broker_url=rabbits.urls[0], brokers=rabbits.urls))
        field.note("three nodes, quorum queues on all of them")
        ground.open()
        pusher = Pusher(ground.servers, rabbits.urls)
        stack.callback(pusher.abandon)
        batches = [field.marked.batch(field.size // 3, name, TROUBLED) for name in ("three", "two", "one")]
        for batch in batches:
            ground.confirm(batch)
        pusher.push(batches[0].jobs)
        until("some are in the ledger", lambda: len(ground.states()) > 0, 120)
        leader = rabbits.leader_of(f"{ground.servers.namespace}.receive", rabbits.nodes[-1])
        leader.kill()
        pusher.push(batches[1].jobs)
        both = len(batches[0].jobs) + len(batches[1].jobs)
        until(
            "two nodes carry on",
            lambda: len(ground.states()) == both,
            120,
            lambda: (len(ground.states()), ground.queues(), pusher.failure),
        )
        field.note("the leader was killed, and two nodes carried on")
        alive = [node for node in rabbits.nodes if node is not leader]
        setbacks = pusher.setbacks
        alive[0].kill()
        pusher.push(batches[2].jobs)
        until("the producer is told that nothing was confirmed", lambda: pusher.setbacks > setbacks, 120)
        in_the_ledger = len(ground.states())
        field.note(f"the quorum was lost; {in_the_ledger} lodgments in the ledger, {len(ground.ends)} pushed")
        assert in_the_ledger == both, "jobs went through a broker without a quorum"
        for node in (leader, alive[0]):
            node.start()
        pusher.finish()
        field.note("the nodes are back, and the producer has every confirmation")
        ground.verdict()


SCENARIOS = (
    Scenario("cluster", "quorum", "a broker of three nodes loses its leader, then its quorum, and heals", cluster, 90),
)
