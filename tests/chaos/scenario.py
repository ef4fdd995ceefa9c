"""What a scenario is, and what it is given to play with."""

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

from tests.acceptance.havoc import seeded
from tests.chaos.batches import Marked
from tests.chaos.ground import Ground, database
from tests.services.pipeline_processes import Servers
from tests.services.postgres import PrivatePostgres
from tests.services.rabbitmq import PrivateRabbit


class NotHereError(RuntimeError):
    """This machine cannot play the scenario; the text says why."""


class House:
    """The servers of one run of the battery, started when first needed; `close` stops them."""

    def __init__(self) -> None:
        self._rabbit: PrivateRabbit | None = None
        self._postgres: PrivatePostgres | None = None

    @property
    def rabbit(self) -> PrivateRabbit:
        if self._rabbit is None:
            self._rabbit = PrivateRabbit()
            self._rabbit.start()
        return self._rabbit

    @property
    def postgres(self) -> PrivatePostgres:
        if self._postgres is None:
            self._postgres = PrivatePostgres()
            self._postgres.start()
        return self._postgres

    def close(self) -> None:
        for server in (self._rabbit, self._postgres):
            if server is not None:
                server.stop()


@dataclass
class Field:
    """One scenario's means. `size` is how many lodgments it should use about."""

    house: House
    folder: Path
    seed: int
    size: int
    broker_url: str | None = None
    """A broker that the scenario must leave alone, in place of the house's."""
    server_url: str | None = None
    """The same for the database server."""
    chance: random.Random = field(init=False)
    marked: Marked = field(init=False)
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.chance = seeded(self.seed)
        self.marked = Marked(self.chance)
        self._since = time.monotonic()

    def note(self, text: str) -> None:
        """Keep what was done, with the seconds since the start."""
        self.notes.append(f"{time.monotonic() - self._since:6.1f} s  {text}")

    @contextmanager
    def ground(
        self, *, broker_url: str | None = None, tablespace: str = "pg_default", **terms: Any
    ) -> Iterator[Ground]:
        """A ground of the scenario's own, on the house's servers unless told otherwise. `terms` are Ground's."""
        broker = broker_url or self.broker_url or self.house.rabbit.url
        server = self.server_url or self.house.postgres.url
        name = f"chaos_{uuid4().hex[:12]}"
        with database(server, name, tablespace) as ledger_url:
            ground = Ground(self.folder / name, Servers(broker, ledger_url, name), self.marked, **terms)
            try:
                yield ground
            finally:
                ground.close()


@dataclass(frozen=True, slots=True)
class Scenario:
    """One trouble. `play` raises AssertionError when a promise was broken."""

    family: str
    name: str
    what: str
    play: Callable[[Field], None]
    size: int = 100

    @property
    def full_name(self) -> str:
        return f"{self.family}/{self.name}"
