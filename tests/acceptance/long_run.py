"""Thousands of lodgments while the workers, the broker and the ledger are killed in turn.

python -m tests.acceptance.long_run --lodgments 2000
"""

import argparse
import secrets
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from tests.acceptance.havoc import (
    Crew,
    check_calm,
    check_queues_empty,
    lodge_through,
    mixed_batch,
    seeded,
    seen_histogram,
)
from tests.services.pipeline_processes import WORKERS, Servers, Site
from tests.services.postgres import PrivatePostgres
from tests.services.rabbitmq import PrivateRabbit

_PATIENCE = 900.0


def main() -> None:
    """Exit code 0 and the figures if every promise was kept; else the assertion that was not."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lodgments", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=6, help="how often each is killed")
    parser.add_argument("--seed", type=int, default=None)
    arguments = parser.parse_args()
    seed = secrets.randbelow(1_000_000) if arguments.seed is None else arguments.seed
    chance = seeded(seed)
    batch = mixed_batch(arguments.lodgments, chance)
    blows = [name for _ in range(arguments.rounds) for name in chance.sample((*WORKERS, "broker", "ledger"), 8)]
    folder = Path(tempfile.mkdtemp(prefix="lodge-long-run-"))
    _say(f"seed {seed}; {len(batch.jobs)} lodgments, {len(blows)} kills; logs in {folder}")
    with ExitStack() as stack:
        crew = set_up(folder, stack)
        started = time.monotonic()
        lodge_through(crew, batch, blows, chance)
        _say(f"{time.monotonic() - started:.0f} s: the last job is pushed, the last blow has fallen")
        check_calm(crew.site, batch, _PATIENCE)
        check_queues_empty(crew)
        _say(f"{time.monotonic() - started:.0f} s: everything is final, each reference processed exactly once")
        _say(f"kills {dict(crew.kills)}; references by how often the agency saw them {seen_histogram(crew.site)}")


def set_up(folder: Path, stack: ExitStack, agency_timeout: float = 4, **settings: str) -> Crew:
    """The six workers and the sandbox on servers of their own; `stack` ends them. `settings` as in the environment."""
    rabbit, postgres = PrivateRabbit(), PrivatePostgres()
    for server in (rabbit, postgres):
        stack.callback(server.stop)
        server.start()
    servers = Servers(rabbit.url, postgres.url, "long-run")
    site = Site(folder, servers, agency_timeout=agency_timeout)
    site.set(**settings)
    stack.callback(site.close)
    site.start_sandbox()
    crew = Crew(site, servers, rabbit, postgres)
    crew.start()
    return crew


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201  - a command's output


if __name__ == "__main__":
    main()
