"""What is sent to RabbitMQ in one turn of the loop leaves in one write, and all of it arrives."""

import asyncio
from typing import TYPE_CHECKING

import pytest

from pipeline.broker.port import Exchange, Outgoing
from pipeline.broker.rabbitmq import RabbitBroker
from pipeline.broker.writing import GatheringConnection
from pipeline.lodgment.states import Step

if TYPE_CHECKING:
    from pipeline.broker.topology import Topology


async def test_a_batch_is_published_with_one_write(
    amqp_url: str, topology: "Topology", monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[bool] = []
    write = GatheringConnection._write

    def counted(self: GatheringConnection) -> None:
        written.append(bool(self._gathered))
        write(self)

    broker = RabbitBroker([amqp_url], topology)
    await broker.open()
    messages = [Outgoing(Exchange.STEPS, Step.SEAL, b"{}", f"synthetic-{number}") for number in range(101)]
    await broker.publish(messages[:1])  # opens the channel
    monkeypatch.setattr(GatheringConnection, "_write", counted)
    await broker.publish(messages[1:])
    assert written == [True]
    monkeypatch.undo()
    assert (await broker.depths())[Step.SEAL] == 101
    await broker.close()


async def test_what_was_sent_in_the_turn_that_closes_the_stream_leaves_before_it() -> None:
    """Nothing is written to a stream that is gone, whoever still sends to it."""
    connection = GatheringConnection.__new__(GatheringConnection)
    stream = _Stream()
    connection._transport, connection._opened = stream, True
    connection._adapter_emit_data(b"synthetic ")
    connection._adapter_emit_data(b"bytes")
    connection._adapter_disconnect_stream()
    assert stream.seen == [b"synthetic bytes", None]
    connection._adapter_emit_data(b"late")
    connection._transport = None
    await asyncio.sleep(0)
    assert stream.seen == [b"synthetic bytes", None]


class _Stream:
    """The end of a connection; None is its closing."""

    def __init__(self) -> None:
        self.seen: list[bytes | None] = []

    def write(self, data: bytes) -> None:
        self.seen.append(data)

    def abort(self) -> None:
        self.seen.append(None)
