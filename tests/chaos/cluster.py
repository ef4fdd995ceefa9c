"""A broker of three nodes loses its leader, then its quorum, and heals."""

from contextlib import ExitStack

from tests.acceptance.havoc import Pusher
from tests.chaos.batches import TROUBLED
from tests.chaos.scenario import Field, Scenario
from tests.services.pipeline_processes import until
from tests.services.rabbitmq import PrivateRabbit


def cluster(field: Field) -> None:
    """One node of three lost: everything goes on. Two lost: nothing is confirmed. All back: everything is lodged."""
    with ExitStack() as stack:
        nodes = [first := PrivateRabbit()]
        nodes += [PrivateRabbit(beside=first) for _ in range(2)]
        for node in nodes:
            stack.callback(node.stop)
        for node in nodes:
            node.start()
        for node in nodes[1:]:
            node.join(first)
        # The workers come to the last node, the queues' leaders are where they were declared.
        brokers = [node.url for node in reversed(nodes)]
        ground = stack.enter_context(field.ground(broker_url=first.url, brokers=brokers))
        field.note("three nodes, quorum queues on all of them")
        ground.open()
        pusher = Pusher(ground.servers, brokers)
        stack.callback(pusher.abandon)
        batches = [field.marked.batch(field.size // 3, name, TROUBLED) for name in ("three", "two", "one")]
        for batch in batches:
            ground.confirm(batch)
        pusher.push(batches[0].jobs)
        until("some are in the ledger", lambda: len(ground.states()) > 0, 120)
        leader = nodes[_leader(nodes[1], ground.servers.namespace, nodes)]
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
        alive = [node for node in nodes if node is not leader]
        alive[0].kill()
        pusher.push(batches[2].jobs)
        until("workers get no confirmation", lambda: ground.logged('"broker.') > 0 and pusher.busy, 120)
        until("the workers wait", lambda: ground.logged("dependency_down") > 0, 120)
        in_the_ledger = len(ground.states())
        field.note(f"the quorum was lost; {in_the_ledger} lodgments in the ledger, {len(ground.ends)} pushed")
        assert in_the_ledger < len(ground.ends), "jobs went through a broker without a quorum"
        for node in (leader, alive[0]):
            node.start()
        pusher.finish()
        field.note("the nodes are back, and the producer has every confirmation")
        ground.verdict()


def _leader(asked: PrivateRabbit, namespace: str, nodes: list[PrivateRabbit]) -> int:
    """The node that leads the queue of jobs."""
    rows = [line.split() for line in asked.ctl("list_queues", "name", "leader").splitlines()]
    [name] = [row[1] for row in rows if row[0] == f"{namespace}.receive"]
    return [node.name for node in nodes].index(name)


SCENARIOS = (
    Scenario("cluster", "quorum", "a broker of three nodes loses its leader, then its quorum, and heals", cluster, 90),
)
