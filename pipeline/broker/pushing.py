"""Jobs on their way to the broker: a window of unconfirmed ones, and the connection that carries them."""

import hashlib
import json
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

import amqp
from amqp.exceptions import AccessRefused, NotFound
from kombu.connection import Connection

from pipeline.broker.port import Exchange
from pipeline.broker.synchronous import LOST, abandon, connect
from pipeline.broker.topology import MESSAGE_TYPES
from pipeline.lodgment.errors import ConfigurationError, DependencyDownError
from pipeline.lodgment.job import JobRefusedError, LodgmentJob, read_job
from pipeline.lodgment.states import Step

Job = LodgmentJob | str | bytes
"""A job as the contract's type, or as its JSON."""


class UnconfirmedError(DependencyDownError):
    """The broker has not confirmed the jobs in `job_ids`; all others it has.

    Push just these again: a job that did arrive after all is known by its id, and lodged once.
    """

    def __init__(self, code: str, text: str, job_ids: Sequence[str]) -> None:
        super().__init__(code, f"{text}; {len(job_ids)} jobs unconfirmed: {', '.join(job_ids[:5])}")
        self.job_ids = tuple(job_ids)


@dataclass(frozen=True, slots=True)
class Dial:
    """How to reach the broker, and the exchange to publish to."""

    urls: tuple[str, ...]
    exchange: str
    timeout: float
    ca_file: str | None

    def __call__(self) -> Connection:
        return connect(self.urls, connect_timeout=self.timeout, answer_timeout=self.timeout, ca_file=self.ca_file)


@dataclass(frozen=True, slots=True)
class _Message:
    job_id: str
    body: bytes
    priority: int


class Push:
    """One call of `push_many`: what is still to be sent, what is under way, what was refused."""

    def __init__(
        self, jobs: Iterable[Job], window: int, on_confirmed: Callable[[str], None] | None, *, raw: bool
    ) -> None:
        self._jobs = iter(jobs)
        self._window = window
        self._on_confirmed = on_confirmed
        self._raw = raw
        self._again: deque[_Message] = deque()
        self._unroutable: set[str] = set()
        self._refused: list[_Message] = []
        self._breach: JobRefusedError | None = None
        self.under_way: dict[int, _Message] = {}
        self.settled = 0

    def next(self) -> _Message | None:
        """The next message to send, unless the window is full or something is wrong already."""
        if len(self.under_way) >= self._window:
            return None
        if self._again:
            return self._again.popleft()
        if self._refused or self._breach is not None:
            return None
        try:
            for job in self._jobs:
                return _message(job, raw=self._raw)
        except JobRefusedError as error:
            self._breach = error
        return None

    def returned(self, job_id: str) -> None:
        """No queue took it; its confirm follows nevertheless."""
        self._unroutable.add(job_id)

    def settle(self, number: int, *, multiple: bool, taken: bool) -> None:
        """The broker's word on one message, or on all up to it."""
        for each in [n for n in self.under_way if n <= number] if multiple else [number]:
            message = self.under_way.pop(each)
            self.settled += 1
            if not taken or message.job_id in self._unroutable:
                self._refused.append(message)
            elif self._on_confirmed is not None:
                self._on_confirmed(message.job_id)

    @property
    def refused(self) -> bool:
        """Whether the broker took something not."""
        return bool(self._refused)

    def lost(self) -> None:
        """The connection is gone: what was under way is to be sent again, first."""
        self._again.extendleft(reversed(self.under_way.values()))
        self.under_way.clear()

    def conclude(self, exchange: str) -> None:
        """Raise what was found wrong on the way."""
        if self._unroutable:
            raise UnconfirmedError("broker.unroutable", f"no queue takes jobs from {exchange}", self.unconfirmed())
        if self._refused:
            text = "the broker refused: its queue is full, or moving to another node"
            raise UnconfirmedError("broker.unconfirmed", text, self.unconfirmed())
        if self._breach is not None:
            raise self._breach

    def unconfirmed(self) -> list[str]:
        known = chain(self._refused, self.under_way.values(), self._again)
        return [*(message.job_id for message in known), *(_job_id(job) for job in self._jobs)]


class Line:
    """A connection in confirm mode and the lock around it; the broker numbers what is published on it from 1."""

    def __init__(self, dial: Dial) -> None:
        self.lock = threading.RLock()
        self._dial = dial
        self._connection: Connection | None = None
        self._channel: amqp.Channel | None = None
        self._number = 0
        self._push: Push | None = None
        self._heard_at = 0.0

    def carry(self, push: Push, patience: float) -> None:
        """Send the whole of it and wait for the confirms; whatever goes wrong, nothing is under way afterwards."""
        if self._push is not None:
            raise RuntimeError("on_confirmed must not push")
        self._push = push
        try:
            self._persist(push, patience)
        except DependencyDownError as error:
            self.drop()
            raise UnconfirmedError(error.code, str(error), push.unconfirmed()) from error
        except BaseException:
            self.drop()
            raise
        finally:
            self._push = None
        if push.refused:
            self._leave_channel()
        push.conclude(self._dial.exchange)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.release()
        self._connection = self._channel = None

    def drop(self) -> None:
        """End the connection without a word to the broker."""
        if self._connection is not None:
            abandon(self._connection)
        self._connection = self._channel = None

    def _leave_channel(self) -> None:
        """The next push gets a channel of its own: one that was refused once may be refused for ever (decision 32)."""
        if self._channel is not None:
            try:
                self._channel.close()
            except LOST:
                self.drop()
        self._channel = None

    def _persist(self, push: Push, patience: float) -> None:
        """Send, over new connections where needed; give up when one for each URL was lost without a confirm between."""
        setbacks = 0
        while True:
            settled = push.settled
            try:
                return self._send(push, patience)
            except NotFound as error:
                raise DependencyDownError("broker.unroutable", f"no exchange {self._dial.exchange}") from error
            except AccessRefused as error:
                raise ConfigurationError("broker.access", f"not allowed to publish: {error.reply_text}") from error
            except LOST as error:
                self.drop()
                push.lost()
                setbacks = 1 if push.settled > settled else setbacks + 1
                if setbacks > len(self._dial.urls):
                    raise DependencyDownError("broker.down", f"the connection was lost: {error}") from error

    def _send(self, push: Push, patience: float) -> None:
        channel = self._ready()
        self._heard_at = time.monotonic()
        while True:
            while (message := push.next()) is not None:
                self._publish(channel, push, message)
            if not push.under_way:
                return
            left = self._heard_at + patience - time.monotonic()
            try:
                channel.connection.drain_events(timeout=max(left, 0.001))
            except TimeoutError as error:
                raise DependencyDownError("broker.unconfirmed", f"no confirm within {patience:g} s") from error

    def _publish(self, channel: amqp.Channel, push: Push, message: _Message) -> None:
        self._number += 1
        push.under_way[self._number] = message
        prepared = channel.prepare_message(
            message.body,
            priority=message.priority,
            content_type="application/json",
            properties={"message_id": message.job_id, "delivery_mode": 2, "type": MESSAGE_TYPES[Exchange.JOBS]},
        )
        channel.basic_publish(prepared, self._dial.exchange, Step.RECEIVE, mandatory=True)

    def _ready(self) -> amqp.Channel:
        if self._channel is None:
            if self._connection is None:
                self._connection = self._dial()
            channel = self._connection.channel()
            channel.events["basic_ack"].add(self._on_ack)
            channel.events["basic_nack"].add(self._on_nack)
            channel.events["basic_return"].add(self._on_return)
            channel.confirm_select()
            self._channel, self._number = channel, 0
        return self._channel

    def _on_ack(self, number: int, multiple: bool) -> None:
        self._hear(number, multiple=multiple, taken=True)

    def _on_nack(self, number: int, multiple: bool) -> None:
        self._hear(number, multiple=multiple, taken=False)

    def _on_return(self, _: Exception, __: str, ___: str, message: amqp.Message) -> None:
        if self._push is not None:
            self._push.returned(message.properties["message_id"])

    def _hear(self, number: int, *, multiple: bool, taken: bool) -> None:
        self._heard_at = time.monotonic()
        if self._push is not None:
            self._push.settle(number, multiple=multiple, taken=taken)


def _message(job: Job, *, raw: bool) -> _Message:
    if isinstance(job, LodgmentJob):
        return _Message(job.job_id, job.model_dump_json(exclude_none=True).encode(), job.priority)
    body = job.encode() if isinstance(job, str) else job
    if raw:
        return _Message(_job_id(body), body, 5)
    checked = read_job(body)
    return _Message(checked.job_id, body, checked.priority)


def _job_id(job: Job) -> str:
    """The id of a job that was not checked; where it has none, one made of its bytes, so that it can be named."""
    if isinstance(job, LodgmentJob):
        return job.job_id
    body = job.encode() if isinstance(job, str) else job
    try:
        match json.loads(body):
            case {"job_id": str(job_id)} if job_id.isascii():
                return job_id[:128]
    except (ValueError, RecursionError):
        pass
    return f"unread-{hashlib.sha256(body).hexdigest()[:16]}"
