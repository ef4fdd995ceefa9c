"""Lodgments of every kind, whoever pushes them through a dying broker, and what must be true when all is calm again."""

import random
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from queue import SimpleQueue

from pipeline.broker.producer import Producer
from pipeline.broker.pushing import UnconfirmedError
from tests.doubles.jobs import document, job
from tests.services.pipeline_processes import WORKERS, Servers, Site, until
from tests.services.postgres import PrivatePostgres
from tests.services.processes import Service
from tests.services.rabbitmq import PrivateRabbit

PATIENCE = 180.0

_SCENARIOS = {
    # scenario: share, final state
    "accept": (10, "accepted"),
    "reject": (2, "rejected"),
    "accept-with-warnings": (1, "accepted"),
    "lost-reply": (2, "accepted"),
    "truncated-reply": (2, "accepted"),
    "slow": (2, "accepted"),
    "reset-before": (1, "accepted"),
    "delayed": (1, "accepted"),
    "unavailable": (1, "accepted"),
    "result-fault": (1, "accepted"),
}
_LANES = 5


def seeded(seed: int) -> random.Random:
    """Chance that can be repeated."""
    return random.Random(seed)  # noqa: S311  - repeatable trouble, not a secret


@dataclass(frozen=True, slots=True)
class Batch:
    """Jobs by id, and the final state of each."""

    jobs: Mapping[str, bytes]
    ends: Mapping[str, str]


def mixed_batch(size: int, chance: random.Random, name: str = "job") -> Batch:
    """Synthetic lodgments that meet every trouble; every tenth belongs to an ordered lane."""
    kinds = list(_SCENARIOS)
    chosen = chance.choices(kinds, [share for share, _ in _SCENARIOS.values()], k=size)
    jobs: dict[str, bytes] = {}
    for number, scenario in enumerate(chosen):
        job_id = f"{name}-{number:05d}"
        lane = {"order_key": f"{name}-lane-{number // 10 % _LANES}"} if number % 10 == 0 else {}
        body = document(scenario, seconds=round(chance.uniform(0.5, 2), 1), name=f"Synthetic {job_id}")
        jobs[job_id] = job(job_id, payload={"inline": body}, **lane)
    return Batch(jobs, {job_id: _SCENARIOS[kind][1] for job_id, kind in zip(jobs, chosen, strict=True)})


class Pusher:
    """A producer as `docs/amqp-contract.md` wants one, in a thread: what is not confirmed is pushed again."""

    def __init__(self, servers: Servers, brokers: Sequence[str] = ()) -> None:
        """`brokers`: the nodes, where there are several."""
        self._producer = Producer(list(brokers) or [servers.broker_url], servers.namespace, confirm_timeout=10)
        self._waiting: SimpleQueue[Mapping[str, bytes] | None] = SimpleQueue()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.failure: BaseException | None = None
        self.setbacks = 0
        """How often the broker did not confirm."""
        self._thread.start()

    def push(self, jobs: Mapping[str, bytes]) -> None:
        self._waiting.put(jobs)

    def finish(self) -> None:
        """Return once the broker has everything."""
        self._waiting.put(None)
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive(), "the producer did not come to an end"
        if self.failure is not None:
            raise self.failure

    def abandon(self) -> None:
        self._stopped.set()

    def _run(self) -> None:
        with self._producer:
            while (jobs := self._waiting.get()) is not None and not self._stopped.is_set():
                try:
                    self._insist(jobs)
                except BaseException as error:  # noqa: BLE001  - told by `finish`, in the test's own thread
                    self.failure = error
                    return

    def _insist(self, jobs: Mapping[str, bytes]) -> None:
        missing: Sequence[str] = list(jobs)
        while missing and not self._stopped.is_set():
            try:
                self._producer.push_many([jobs[job_id] for job_id in missing])
            except UnconfirmedError as error:
                missing = error.job_ids
                self.setbacks += 1
                self._stopped.wait(0.5)
            else:
                return


class Crew:
    """The six workers, the broker and the ledger's server: everything that can be killed, by name."""

    def __init__(self, site: Site, servers: Servers, rabbit: PrivateRabbit, postgres: PrivatePostgres) -> None:
        self.site = site
        self.servers = servers
        self.rabbit = rabbit
        self.postgres = postgres
        self.workers: dict[str, Service] = {}
        self.kills: Counter[str] = Counter()

    def start(self) -> None:
        self._launch()
        self._await_ready()

    def strike(self, name: str) -> None:
        """SIGKILL and start again."""
        self.kills[name] += 1
        servers: Mapping[str, PrivateRabbit | PrivatePostgres] = {"broker": self.rabbit, "ledger": self.postgres}
        if name in servers:
            servers[name].kill()
            servers[name].start()
            return
        self.site.kill(self.workers[name])
        self.workers[name] = self.site.start_worker(name)

    def kill_everything(self) -> None:
        """As when the machine loses power; only the agency lives on."""
        for worker in self.workers.values():
            self.site.kill(worker)
        self.rabbit.kill()
        self.postgres.kill()
        self.kills.update((*self.workers, "broker", "ledger"))

    def start_everything(self) -> None:
        """The workers first: what they need comes later."""
        self._launch()
        self.postgres.start()
        self.rabbit.start()
        self._await_ready()

    def _launch(self) -> None:
        self.workers = {name: self.site.launch_worker(name) for name in WORKERS}

    def _await_ready(self) -> None:
        for worker in self.workers.values():
            worker.await_ready()


def check_calm(site: Site, batch: Batch, patience: float = PATIENCE) -> None:
    """Everything is final as its scenario says, and the agency processed each reference exactly once."""
    until("every lodgment is final", lambda: site.states() == batch.ends, patience, lambda: _unsettled(site, batch))
    book = site.book()
    lodged = site.query("SELECT reference FROM lodgment_outcome")
    assert sorted(line["reference"] for line in book) == sorted(reference for (reference,) in lodged)
    assert {line["processed"] for line in book} == {1}
    assert [line for line in book if line["violations"]] == []
    assert site.query("SELECT step, code, reason FROM quarantine") == []
    assert site.surprises() == []


def check_queues_empty(crew: Crew) -> None:
    """No message is left in any queue, unacknowledged ones included."""
    until("every queue is empty", lambda: not _left_in_queues(crew), 60, lambda: _left_in_queues(crew))


def _left_in_queues(crew: Crew) -> dict[str, tuple[int, int]]:
    """Queues that hold messages: how many are ready, how many unacknowledged."""
    listed = crew.rabbit.ctl("list_queues", "name", "messages_ready", "messages_unacknowledged")
    rows = [line.split() for line in listed.splitlines()]
    depths = {row[0]: (int(row[1]), int(row[2])) for row in rows if row[0].startswith(f"{crew.servers.namespace}.")}
    assert len(depths) >= len(WORKERS), "the queues are not listed"
    return {name: depth for name, depth in depths.items() if depth != (0, 0)}


def seen_histogram(site: Site) -> dict[int, int]:
    """How many references the agency saw once, twice, and so on."""
    return dict(sorted(Counter(line["seen"] for line in site.book()).items()))


def _unsettled(site: Site, batch: Batch) -> object:
    states = site.states()
    open_rows = site.query(
        "SELECT job_id, state, reason_code, attempts FROM lodgment_outcome WHERE finished_at IS NULL"
    )
    wrong = {job_id: state for job_id, state in states.items() if batch.ends.get(job_id) != state}
    return {"missing": len(batch.ends) - len(states), "wrong": len(wrong), "open": open_rows[:10]}


def lodge_through(crew: Crew, batch: Batch, blows: Sequence[str], chance: random.Random) -> None:
    """Push the batch in portions, each while one of `blows` falls at a moment that chance draws."""
    pusher = Pusher(crew.servers)
    try:
        for number, blow in enumerate(blows):
            pusher.push(_portion(batch.jobs, number, len(blows)))
            time.sleep(chance.uniform(0, 1))
            crew.strike(blow)
        pusher.finish()
    finally:
        pusher.abandon()


def _portion(jobs: Mapping[str, bytes], number: int, of: int) -> Mapping[str, bytes]:
    return dict(islice(jobs.items(), len(jobs) * number // of, len(jobs) * (number + 1) // of))
