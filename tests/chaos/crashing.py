"""Places at which a worker dies by its own SIGKILL, and a clock that is set from outside: only in processes of tests.

The pipeline knows nothing of it. `arm` wraps, in the process that calls it, the ledger's transaction, the broker's
publishing and acknowledging, and the gateway's exchange; nothing is wrapped in a worker that is started ordinarily.
"""

import os
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from pipeline import bootstrap
from pipeline.broker import publishing
from pipeline.broker.consuming import RabbitSubscription
from pipeline.broker.port import Delivery, Outgoing
from pipeline.broker.rabbitmq import RabbitBroker
from pipeline.gateway import client
from pipeline.gateway.client import Gateway
from pipeline.gateway.exchange import Exchange, Request
from pipeline.gateway.reply import Reply
from pipeline.gateway.wire import PiecewiseBody
from pipeline.ledger.session import Ledger, Tx
from pipeline.sandbox import server


class Point(StrEnum):
    """Where a worker can die, in the order in which it passes them."""

    COMMIT_BEFORE = "commit.before"
    """Rows are written and nothing of it is committed."""
    COMMIT_AFTER = "commit.after"
    """Committed, and nobody knows it yet."""
    SEND_BEFORE = "send.before"
    """The attempt is committed, no byte has left."""
    SEND_WRITTEN = "send.written"
    """The whole request was handed to the socket, no reply was read."""
    SEND_ANSWERED = "send.answered"
    """The reply is in this process's memory only."""
    PUBLISH_BEFORE = "publish.before"
    """What follows is committed and not published."""
    PUBLISH_UNCONFIRMED = "publish.unconfirmed"
    """Handed to the socket, not confirmed."""
    PUBLISH_AFTER = "publish.after"
    """Confirmed, and what it follows from is not acknowledged."""
    ACK_BEFORE = "ack.before"
    ACK_AFTER = "ack.after"
    """The acknowledgement was handed to the socket."""


@dataclass(frozen=True, slots=True)
class Harness:
    """How a process differs from an ordinary one, put on before its command runs: it dies at the nth pass of a point,
    and goes by a clock in a file.
    """

    point: Point | None = None
    nth: int = 1
    clock: Path | None = None

    def __call__(self) -> None:
        if self.clock is not None:
            shift_clock(self.clock)
        if self.point is not None:
            arm(self.point, self.nth)


class Crash:
    """Dies when `point` is passed for the `nth` time, counted from 1."""

    def __init__(self, point: Point, nth: int) -> None:
        self._point = point
        self._left = nth

    def passing(self, point: Point) -> None:
        if point is self._point:
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)


_wrote: ContextVar[list[bool] | None] = ContextVar("wrote", default=None)
_CHANGES = ("INSERT", "UPDATE", "DELETE", "WITH")


def arm(point: Point, nth: int) -> None:
    """Let this process die at `point`. Only commits that change rows are counted: idle looks at the ledger are none."""
    crash = Crash(point, nth)
    _wrap_ledger(crash)
    _wrap_broker(crash)
    _wrap_gateway(crash)


def _wrap_ledger(crash: Crash) -> None:
    original = Ledger.transaction

    def note(_: object, cursor: Any, statement: str, *__: object) -> None:
        changes = _wrote.get()
        if changes is not None and statement.lstrip().upper().startswith(_CHANGES) and cursor.rowcount > 0:
            changes.append(True)

    @asynccontextmanager
    async def transaction(self: Ledger, *, read_only: bool = False) -> AsyncIterator[Tx]:
        changes: list[bool] = []
        async with original(self, read_only=read_only) as tx:
            token = _wrote.set(changes)
            try:
                yield tx
            finally:
                _wrote.reset(token)
            if changes and not read_only:
                crash.passing(Point.COMMIT_BEFORE)
        if changes and not read_only:
            crash.passing(Point.COMMIT_AFTER)

    sa.event.listen(sa.Engine, "after_cursor_execute", note)
    Ledger.transaction = transaction  # type: ignore[method-assign]


def _wrap_broker(crash: Crash) -> None:
    publish, send, ack = RabbitBroker.publish, publishing._ConfirmingChannel.send, RabbitSubscription.ack

    async def publishing_all(self: RabbitBroker, messages: Sequence[Outgoing]) -> None:
        if messages:
            crash.passing(Point.PUBLISH_BEFORE)
        await publish(self, messages)
        if messages:
            crash.passing(Point.PUBLISH_AFTER)

    async def sending(self: Any, messages: Sequence[Outgoing], batch: Any) -> None:
        await send(self, messages, batch)
        crash.passing(Point.PUBLISH_UNCONFIRMED)

    async def acking(self: RabbitSubscription, deliveries: Sequence[Delivery]) -> None:
        crash.passing(Point.ACK_BEFORE)
        await ack(self, deliveries)
        crash.passing(Point.ACK_AFTER)

    RabbitBroker.publish = publishing_all  # type: ignore[method-assign]
    publishing._ConfirmingChannel.send = sending  # type: ignore[method-assign]
    RabbitSubscription.ack = acking  # type: ignore[method-assign]


def _wrap_gateway(crash: Crash) -> None:
    module = vars(client)
    exchange, write, read = Gateway.exchange, PiecewiseBody.write, module["read_reply"]

    async def exchanging(self: Gateway, request: Request) -> Exchange:
        crash.passing(Point.SEND_BEFORE)
        return await exchange(self, request)

    async def writing(self: PiecewiseBody, writer: Any) -> None:
        await write(self, writer)
        crash.passing(Point.SEND_WRITTEN)

    async def reading(*arguments: Any) -> Reply:
        reply: Reply = await read(*arguments)
        crash.passing(Point.SEND_ANSWERED)
        return reply

    Gateway.exchange = exchanging  # type: ignore[method-assign]
    PiecewiseBody.write = writing  # type: ignore[method-assign]
    module["read_reply"] = reading


def shift_clock(path: Path) -> None:
    """Let this process, worker or sandbox, go by the clock that `set_clock` last set in the file."""

    def shifted(real: Callable[[], datetime]) -> Callable[[], datetime]:
        return lambda: real() + timedelta(seconds=float(path.read_text()))

    clock = shifted(lambda: datetime.now(UTC))
    bootstrap.now = clock
    defaults = dict(server.Sandbox.__init__.__kwdefaults__ or {})
    server.Sandbox.__init__.__kwdefaults__ = {**defaults, "clock": clock}


def set_clock(path: Path, seconds: float) -> None:
    """Step every process that goes by this file: `seconds` ahead of the true time, or behind it."""
    fresh = path.with_suffix(".new")
    fresh.write_text(str(seconds))
    fresh.replace(path)
