"""For payroll applications: push lodgment jobs and know which the broker has taken. Synchronous, over kombu."""

import hashlib
import json
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from types import TracebackType
from typing import Self

import amqp
from amqp.exceptions import NotFound
from kombu.connection import Connection

from pipeline.broker.port import Exchange
from pipeline.broker.synchronous import LOST, abandon, connect
from pipeline.broker.topology import MESSAGE_TYPES, Topology
from pipeline.lodgment.errors import DependencyDownError, PipelineError
from pipeline.lodgment.job import JobRefusedError, LodgmentJob, read_job
from pipeline.lodgment.states import Step

Job = LodgmentJob | str | bytes
"""A job as the contract's type, or as its JSON."""


class UnconfirmedError(DependencyDownError):
    """The broker has not confirmed the jobs in `job_ids`; all others it has.

    Push just these again: a job that did arrive after all is known by its id and lodged once.
    """

    def __init__(self, code: str, text: str, job_ids: Sequence[str]) -> None:
        super().__init__(code, f"{text}; {len(job_ids)} jobs unconfirmed: {', '.join(job_ids[:5])}")
        self.job_ids = tuple(job_ids)


class Producer:
    """Pushes jobs with confirms. Safe in threads, which take turns, and after a fork, which makes a connection of its own.

    The workers declare the exchange; a producer needs permission to write to it and nothing else.
    """

    def __init__(
        self,
        urls: Sequence[str],
        namespace: str = "lodge",
        *,
        confirm_timeout: float = 30.0,
        connect_timeout: float = 10.0,
        ca_file: str | None = None,
    ) -> None:
        """`urls` are tried in order; `confirm_timeout` is the longest wait, in seconds, for the next confirm."""
        self._dial = _Dial(tuple(urls), Topology(namespace).exchange_name(Exchange.JOBS), connect_timeout, ca_file)
        self._confirm_timeout = confirm_timeout
        self._lines: dict[int, _Line] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def push(self, job: Job, *, raw: bool = False) -> None:
        """Return once the broker has the job; otherwise as `push_many`."""
        self.push_many([job], raw=raw)

    def push_many(
        self,
        jobs: Iterable[Job],
        *,
        window: int = 200,
        on_confirmed: Callable[[str], None] | None = None,
        raw: bool = False,
    ) -> None:
        """Return once the broker has every job; `on_confirmed` is told each job id as it is confirmed.

        At most `window` jobs are under way; `jobs` is read no further ahead. Each is checked against the job contract
        before it is sent, unless `raw`.

        Raises:
            UnconfirmedError: names the jobs to push again: `broker.unconfirmed` (no confirm in time, or refused by a full
                queue), `broker.down` (no broker could be reached), `broker.unroutable` (no such namespace).
            JobRefusedError: a job breaks the contract. All jobs before it are confirmed, none after it was sent.
            ConfigurationError: the broker refuses this user, password or virtual host.
        """
        push = _Push(jobs, window, on_confirmed, raw=raw)
        line = self._line()
        with line.lock:
            line.carry(push, self._confirm_timeout)

    def close(self) -> None:
        """Close the connection; a later push opens another."""
        line = self._line()
        with line.lock:
            line.close()

    def _line(self) -> "_Line":
        """This process's connection and lock; those inherited in a fork are the parent's, to be left alone."""
        pid = os.getpid()
        for other in [each for each in self._lines if each != pid]:
            inherited = self._lines.pop(other, None)
            if inherited is not None:
                inherited.drop()
        return self._lines.setdefault(pid, _Line(self._dial))


@dataclass(frozen=True, slots=True)
class _Dial:
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


class _Push:
    """One call of `push_many`: what is still to be sent, what is under way, what was refused."""

    def __init__(
        self, jobs: Iterable[Job], window: int, on_confirmed: Callable[[str], None] | None, *, raw: bool
    ) -> None:
        self._jobs = iter(jobs)
        self._window = window
        self._on_confirmed = on_confirmed
        self._raw = raw
        self._again: deque[_Message] = deque()
        self.under_way: dict[int, _Message] = {}
        self.returned: set[str] = set()
        self.refused: list[_Message] = []
        self.breach: JobRefusedError | None = None

    def next(self) -> _Message | None:
        """The next message to send, unless the window is full or something is wrong already."""
        if len(self.under_way) >= self._window:
            return None
        if self._again:
            return self._again.popleft()
        if self.refused or self.breach is not None:
            return None
        try:
            for job in self._jobs:
                return _message(job, raw=self._raw)
        except JobRefusedError as error:
            self.breach = error
        return None

    def settle(self, number: int, *, multiple: bool, taken: bool) -> None:
        """The broker's word on one message, or on all up to it."""
        for each in [n for n in self.under_way if n <= number] if multiple else [number]:
            message = self.under_way.pop(each)
            if taken and message.job_id not in self.returned:
                if self._on_confirmed is not None:
                    self._on_confirmed(message.job_id)
            else:
                self.refused.append(message)

    def lost(self) -> None:
        """The connection is gone: what was under way is to be sent again, first."""
        self._again.extendleft(reversed(self.under_way.values()))
        self.under_way.clear()

    def unconfirmed(self) -> list[str]:
        known = (message.job_id for message in chain(self.refused, self.under_way.values(), self._again))
        return [*known, *(_job_id(job) for job in self._jobs)]


class _Line:
    """A connection in confirm mode and the lock around it; the broker numbers what is published on it from 1."""

    def __init__(self, dial: _Dial) -> None:
        self.lock = threading.RLock()
        self._dial = dial
        self._connection: Connection | None = None
        self._channel: amqp.Channel | None = None
        self._number = 0
        self._push: _Push | None = None
        self._heard_at = 0.0

    def carry(self, push: _Push, patience: float) -> None:
        """Send the whole of it, over new connections where needed; give up after as many in a row without a confirm."""
        self._push = push
        setbacks = 0
        try:
            while True:
                heard_at = self._heard_at
                try:
                    return self._send(push, patience)
                except NotFound as error:
                    raise DependencyDownError("broker.unroutable", f"no exchange {self._dial.exchange}") from error
                except LOST as error:
                    self.drop()
                    push.lost()
                    setbacks = 1 if self._heard_at != heard_at else setbacks + 1
                    if setbacks > len(self._dial.urls):
                        raise DependencyDownError("broker.down", f"the connection was lost: {error}") from error
        except DependencyDownError as error:
            self.drop()
            raise UnconfirmedError(error.code, str(error), push.unconfirmed()) from error
        except BaseException:
            # The caller's own doing, or a refusal to let us in: nothing may be under way for the next push.
            self.drop()
            raise
        finally:
            self._push = None

    def close(self) -> None:
        if self._connection is not None:
            self._connection.release()
        self._connection = self._channel = None

    def drop(self) -> None:
        if self._connection is not None:
            abandon(self._connection)
        self._connection = self._channel = None

    def _send(self, push: _Push, patience: float) -> None:
        channel = self._ready()
        self._heard_at = time.monotonic()
        while True:
            while (message := push.next()) is not None:
                self._publish(channel, push, message)
            if not push.under_way:
                break
            self._hear(patience)
        if push.breach is not None:
            raise push.breach
        if push.returned:
            raise DependencyDownError("broker.unroutable", f"no queue takes jobs from {self._dial.exchange}")
        if push.refused:
            raise DependencyDownError("broker.unconfirmed", "the broker refused jobs: the queue is full")

    def _publish(self, channel: amqp.Channel, push: _Push, message: _Message) -> None:
        self._number += 1
        push.under_way[self._number] = message
        channel.basic_publish(
            channel.prepare_message(
                message.body,
                priority=message.priority,
                content_type="application/json",
                content_encoding="utf-8",
                properties={
                    "message_id": message.job_id,
                    "delivery_mode": 2,
                    "type": MESSAGE_TYPES[Exchange.JOBS],
                },
            ),
            self._dial.exchange,
            Step.RECEIVE,
            mandatory=True,
        )

    def _hear(self, patience: float) -> None:
        """One event from the broker, if any is due within what is left of the patience."""
        left = self._heard_at + patience - time.monotonic()
        try:
            self._channel.connection.drain_events(timeout=max(left, 0.001))
        except TimeoutError as error:
            raise DependencyDownError("broker.unconfirmed", f"no confirm within {patience:g} s") from error

    def _ready(self) -> amqp.Channel:
        if self._channel is None:
            self._connection = self._dial()
            channel = self._connection.channel()
            channel.events["basic_ack"].add(self._on_ack)
            channel.events["basic_nack"].add(self._on_nack)
            channel.events["basic_return"].add(self._on_return)
            channel.confirm_select()
            self._channel, self._number = channel, 0
        return self._channel

    def _on_ack(self, number: int, multiple: bool) -> None:  # noqa: FBT001 - called by py-amqp, by position
        self._heard(number, multiple=multiple, taken=True)

    def _on_nack(self, number: int, multiple: bool) -> None:  # noqa: FBT001 - called by py-amqp, by position
        self._heard(number, multiple=multiple, taken=False)

    def _on_return(self, _: Exception, __: str, ___: str, message: amqp.Message) -> None:
        if self._push is not None:
            self._push.returned.add(message.properties["message_id"])

    def _heard(self, number: int, *, multiple: bool, taken: bool) -> None:
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
            case {"job_id": str(job_id)}:
                return job_id[:128]
    except ValueError:
        pass
    return f"unread-{hashlib.sha256(body).hexdigest()[:16]}"
