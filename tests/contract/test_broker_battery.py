"""What the port promises, of both brokers."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

import pytest

from pipeline.broker.embedded import EmbeddedBroker
from pipeline.broker.port import Broker, Delivery, Exchange, Outgoing, Subscription
from pipeline.broker.rabbitmq import RabbitBroker
from pipeline.broker.topology import Topology
from pipeline.lodgment.errors import DependencyDownError

PATIENCE = 20.0


@pytest.fixture(params=["embedded", "rabbitmq"])
async def broker(request: pytest.FixtureRequest) -> AsyncIterator[Broker]:
    made: Broker
    if request.param == "embedded":
        made = EmbeddedBroker(Topology(delivery_limit=2))
    else:
        own: Topology = request.getfixturevalue("topology")
        made = RabbitBroker([request.getfixturevalue("amqp_url")], replace(own, delivery_limit=2))
    await made.open()
    yield made
    await made.close()


def step(number: int, queue: str = "seal") -> Outgoing:
    return Outgoing(Exchange.STEPS, queue, f"body {number}".encode(), f"id-{number}", {"trace": f"t{number}"})


def outcome(key: str) -> Outgoing:
    return Outgoing(Exchange.OUTCOMES, key, b"{}", key)


async def take(subscription: Subscription, count: int, limit: int = 100) -> list[Delivery]:
    """Exactly so many deliveries, in as many takes as it needs."""
    taken: list[Delivery] = []
    async with asyncio.timeout(PATIENCE):
        while len(taken) < count:
            taken += await subscription.take(min(limit, count - len(taken)), 0.05)
    return taken


async def eventually(depth: dict[str, int], broker: Broker) -> None:
    """Wait until the queues hold what `depth` says."""
    deadline = time.monotonic() + PATIENCE
    while not depth.items() <= (await broker.depths()).items():
        assert time.monotonic() < deadline, f"{await broker.depths()} is not {depth}"
        await asyncio.sleep(0.02)


async def test_carries_body_id_and_headers_unchanged(broker: Broker) -> None:
    message = Outgoing(Exchange.STEPS, "seal", b"\x00\xff{", "id-\u00e9", {"traceparent": "00-1"})
    await broker.publish([message])
    (delivery,) = await take(await broker.subscribe("seal", 10), 1)
    assert (delivery.body, delivery.message_id, delivery.headers) == (message.body, "id-\u00e9", message.headers)
    assert not delivery.redelivered


@pytest.mark.parametrize("queue", ["receive", "authorise", "seal", "submit", "record"])
async def test_each_step_has_its_queue(broker: Broker, queue: str) -> None:
    exchange = Exchange.JOBS if queue == "receive" else Exchange.STEPS
    await broker.publish([Outgoing(exchange, queue, b"x", "1")])
    await eventually({queue: 1}, broker)
    assert sum((await broker.depths()).values()) == 1


async def test_keeps_the_order_of_a_batch(broker: Broker) -> None:
    await broker.publish([step(n) for n in range(50)])
    taken = await take(await broker.subscribe("seal", 100), 50, limit=7)
    assert [delivery.message_id for delivery in taken] == [f"id-{n}" for n in range(50)]


async def test_takes_no_more_than_the_limit(broker: Broker) -> None:
    await broker.publish([step(n) for n in range(10)])
    subscription = await broker.subscribe("seal", 100)
    assert len(await subscription.take(4, 5)) == 4


async def test_lingers_for_what_arrives_after_the_first(broker: Broker) -> None:
    subscription = await broker.subscribe("seal", 100)
    taking = asyncio.create_task(subscription.take(3, 60))
    for n in range(3):
        await broker.publish([step(n)])
    assert len(await asyncio.wait_for(taking, PATIENCE)) == 3


async def test_lingers_for_the_rest_when_a_part_is_at_hand_already(broker: Broker) -> None:
    subscription = await broker.subscribe("seal", 10)
    await broker.publish([step(1), step(2)])
    await subscription.take(1, 0)
    taking = asyncio.create_task(subscription.take(2, 60))
    await asyncio.wait({taking}, timeout=0.1)
    await broker.publish([step(3)])
    assert [delivery.message_id for delivery in await asyncio.wait_for(taking, PATIENCE)] == ["id-2", "id-3"]


async def test_ends_lingering_with_what_it_has(broker: Broker) -> None:
    subscription = await broker.subscribe("seal", 100)
    await broker.publish([step(1)])
    assert len(await asyncio.wait_for(subscription.take(3, 0.05), PATIENCE)) == 1


async def test_waits_for_a_first_delivery_without_polling_out(broker: Broker) -> None:
    subscription = await broker.subscribe("seal", 100)
    taking = asyncio.create_task(subscription.take(3, 0))
    done, _ = await asyncio.wait({taking}, timeout=0.2)
    assert not done
    await broker.publish([step(1)])
    assert len(await asyncio.wait_for(taking, PATIENCE)) == 1


async def test_an_acknowledged_message_is_gone(broker: Broker) -> None:
    await broker.publish([step(n) for n in range(5)])
    subscription = await broker.subscribe("seal", 10)
    await subscription.ack(await take(subscription, 5))
    await subscription.close()
    await eventually({"seal": 0, "quarantine": 0}, broker)


@pytest.mark.parametrize("acked", [[0, 1, 2], [4, 0], [1, 3], [5, 4, 3, 2, 1, 0]], ids=str)
async def test_acknowledges_just_what_it_is_told(broker: Broker, acked: Sequence[int]) -> None:
    await broker.publish([step(n) for n in range(6)])
    subscription = await broker.subscribe("seal", 10)
    taken = await take(subscription, 6)
    await subscription.ack([taken[n] for n in acked])
    await subscription.close()
    left = sorted({f"id-{n}" for n in range(6)} - {f"id-{n}" for n in acked})
    await eventually({"seal": len(left)}, broker)
    again = await broker.subscribe("seal", 10)
    if left:
        returned = await take(again, len(left))
        assert sorted(delivery.message_id for delivery in returned) == left


async def test_acknowledging_twice_harms_nothing(broker: Broker) -> None:
    await broker.publish([step(1), step(2)])
    subscription = await broker.subscribe("seal", 10)
    taken = await take(subscription, 2)
    await subscription.ack(taken[:1])
    await subscription.ack(taken[:1])
    await subscription.reject(taken[:1])
    await subscription.ack(taken)
    await broker.publish([step(3)])
    assert [delivery.message_id for delivery in await take(subscription, 1)] == ["id-3"]
    await eventually({"seal": 0, "quarantine": 0}, broker)


async def test_gives_unacknowledged_messages_out_again(broker: Broker) -> None:
    await broker.publish([step(n) for n in range(3)])
    first = await broker.subscribe("seal", 10)
    assert not any("x-delivery-count" in delivery.headers for delivery in await take(first, 3))
    await first.close()
    again = await take(await broker.subscribe("seal", 10), 3)
    assert {delivery.message_id for delivery in again} == {"id-0", "id-1", "id-2"}
    assert all(delivery.redelivered for delivery in again)
    assert {delivery.headers["x-delivery-count"] for delivery in again} == {"1"}


async def test_an_ack_after_the_subscription_closed_is_ignored(broker: Broker) -> None:
    await broker.publish([step(1)])
    first = await broker.subscribe("seal", 10)
    taken = await take(first, 1)
    await first.close()
    await first.ack(taken)
    await eventually({"seal": 1}, broker)


async def test_a_rejected_message_goes_to_quarantine_with_its_reason(broker: Broker) -> None:
    await broker.publish([step(1), step(2)])
    subscription = await broker.subscribe("seal", 10)
    taken = await take(subscription, 2)
    await subscription.reject(taken[:1])
    await subscription.ack(taken[1:])
    (dead,) = await take(await broker.subscribe("quarantine", 10), 1)
    assert (dead.body, dead.message_id) == (b"body 1", "id-1")
    assert dead.headers["x-first-death-reason"] == "rejected"
    assert dead.headers["x-first-death-queue"].endswith(".seal")


async def test_a_message_can_be_put_into_quarantine_with_a_reason_of_our_own(broker: Broker) -> None:
    await broker.publish([Outgoing(Exchange.DEAD, "seal", b"body 1", "id-1", {"reason": "message.step"})])
    (dead,) = await take(await broker.subscribe("quarantine", 10), 1)
    assert (dead.body, dead.message_id, dead.headers) == (b"body 1", "id-1", {"reason": "message.step"})


async def test_what_is_rejected_from_quarantine_stays_there(broker: Broker) -> None:
    await broker.publish([step(1)])
    subscription = await broker.subscribe("seal", 10)
    await subscription.reject(await take(subscription, 1))
    quarantine = await broker.subscribe("quarantine", 10)
    for _ in range(5):
        await quarantine.reject(await take(quarantine, 1))
    assert (await take(quarantine, 1))[0].headers["x-first-death-queue"].endswith(".seal")


async def test_a_message_that_keeps_coming_back_is_quarantined(broker: Broker) -> None:
    """The fixture's delivery limit is two: the third return is one too many."""
    await broker.publish([step(1)])
    for _ in range(3):
        subscription = await broker.subscribe("seal", 10)
        await take(subscription, 1)
        await subscription.close()
    (dead,) = await take(await broker.subscribe("quarantine", 10), 1)
    assert dead.headers["x-first-death-reason"] == "delivery_limit"


async def test_a_message_in_quarantine_comes_back_without_limit(broker: Broker) -> None:
    await broker.publish([step(1)])
    subscription = await broker.subscribe("seal", 10)
    await subscription.reject(await take(subscription, 1))
    for _ in range(5):
        quarantine = await broker.subscribe("quarantine", 10)
        await take(quarantine, 1)
        await quarantine.close()
    await eventually({"quarantine": 1}, broker)


async def test_refuses_a_message_that_no_queue_takes(broker: Broker) -> None:
    with pytest.raises(DependencyDownError, match="id-7") as refusal:
        await broker.publish([step(1), step(7, "nowhere"), step(2)])
    assert refusal.value.code == "broker.unroutable"
    await eventually({"seal": 2}, broker)


async def test_an_outcome_without_a_listener_is_no_error(broker: Broker) -> None:
    await broker.publish([outcome("outcome.asic_bn.accepted.51824753556")])


async def test_outcomes_reach_the_listeners_whose_pattern_fits(broker: Broker) -> None:
    everything = await broker.listen("outcome.#")
    rejected = await broker.listen("outcome.*.rejected.*")
    one_employer = await broker.listen("outcome.*.*.51824753556")
    a, b = "outcome.asic_bn.rejected.53004085616", "outcome.asic_bn.accepted.51824753556"
    await broker.publish([outcome(a), outcome(b)])
    assert [delivery.message_id for delivery in await take(everything, 2)] == [a, b]
    assert [delivery.message_id for delivery in await take(rejected, 1)] == [a]
    assert [delivery.message_id for delivery in await take(one_employer, 1)] == [b]


async def test_a_listener_that_closed_hears_and_holds_nothing(broker: Broker) -> None:
    listener = await broker.listen("outcome.#")
    await broker.publish([outcome("outcome.a.b.c")])
    await take(listener, 1)
    await listener.close()
    await broker.publish([outcome("outcome.a.b.d")])
    assert await listener.take(1, 0) == []
    assert sum((await broker.depths()).values()) == 0


async def test_hands_out_no_more_than_the_prefetch_unacknowledged(broker: Broker) -> None:
    await broker.publish([step(n) for n in range(10)])
    subscription = await broker.subscribe("seal", 4)
    taken = await asyncio.wait_for(subscription.take(10, 60), PATIENCE)
    assert len(taken) == 4, "lingering for what the prefetch forbids would be idle"
    more = asyncio.create_task(subscription.take(10, 0))
    done, _ = await asyncio.wait({more}, timeout=0.2)
    assert not done
    await subscription.ack(taken)
    assert await asyncio.wait_for(more, PATIENCE)


async def test_two_consumers_share_a_queue(broker: Broker) -> None:
    one, two = await broker.subscribe("seal", 5), await broker.subscribe("seal", 5)
    await broker.publish([step(n) for n in range(10)])
    taken = await take(one, 5) + await take(two, 5)
    assert {delivery.message_id for delivery in taken} == {f"id-{n}" for n in range(10)}


async def test_closing_ends_a_waiting_take(broker: Broker) -> None:
    subscription = await broker.subscribe("seal", 10)
    taking = asyncio.create_task(subscription.take(5, 5))
    await asyncio.sleep(0)
    await subscription.close()
    assert await asyncio.wait_for(taking, PATIENCE) == []
    assert await subscription.take(5, 5) == []


async def test_closing_a_subscription_returns_what_was_prefetched(broker: Broker) -> None:
    await broker.publish([step(n) for n in range(10)])
    subscription = await broker.subscribe("seal", 10)
    taken = await take(subscription, 3)
    await subscription.ack(taken)
    await subscription.close()
    await eventually({"seal": 7}, broker)


async def test_closing_twice_is_allowed(broker: Broker) -> None:
    subscription = await broker.subscribe("seal", 10)
    await subscription.close()
    await subscription.close()
    await broker.close()


async def test_publishes_from_many_tasks_at_once(broker: Broker) -> None:
    batches = [[step(100 * batch + n) for n in range(100)] for batch in range(30)]
    await asyncio.gather(*(broker.publish(batch) for batch in batches))
    taken = await take(await broker.subscribe("seal", 5000), 3000, limit=500)
    assert {delivery.message_id for delivery in taken} == {f"id-{n}" for n in range(3000)}


async def test_publishing_nothing_is_allowed(broker: Broker) -> None:
    await broker.publish([])


async def test_a_cancelled_take_loses_nothing(broker: Broker) -> None:
    subscription = await broker.subscribe("seal", 10)
    taking = asyncio.create_task(subscription.take(5, 60))
    await broker.publish([step(1)])
    await asyncio.wait({taking}, timeout=0.1)
    taking.cancel()
    await asyncio.wait({taking})
    assert [delivery.message_id for delivery in await take(subscription, 1)] == ["id-1"]


async def test_two_embedded_brokers_never_meet() -> None:
    one, two = EmbeddedBroker(), EmbeddedBroker()
    await one.open()
    await two.open()
    await one.publish([step(1)])
    assert (await two.depths())["seal"] == 0
    await one.close()
    await two.publish([step(2)])
    assert (await two.depths())["seal"] == 1
    await two.close()


async def test_a_closed_embedded_broker_says_so() -> None:
    broker = EmbeddedBroker()
    with pytest.raises(DependencyDownError, match="not open"):
        await broker.publish([step(1)])
    await broker.open()
    await broker.close()
    with pytest.raises(DependencyDownError, match="not open"):
        await broker.publish([step(1)])
