"""Lodgments for the battery. Each document carries texts that must turn up in no log: a name, a number like a TFN."""

import random
from collections.abc import Mapping, Sequence

from tests.acceptance.havoc import Batch
from tests.doubles.jobs import document, job

PLAIN = ("accept", "accept", "accept", "reject", "accept-with-warnings")
TROUBLED = (*PLAIN, "lost-reply", "truncated-reply", "reset-before", "slow", "unavailable", "delayed")
_ENDS: Mapping[str, str] = {"reject": "rejected"}
_WEIGHTS = (1, 4, 3, 7, 5, 8, 6, 9, 10)
"""Of the digits of a tax file number; a real one's weighted sum is a multiple of 11."""


def synthetic_tfn(chance: random.Random) -> str:
    """Nine digits with the shape of a tax file number and check digits that no real one has."""
    digits = [chance.randrange(1, 10) for _ in range(9)]
    if sum(weight * digit for weight, digit in zip(_WEIGHTS, digits, strict=True)) % 11 == 0:
        digits[-1] = digits[-1] % 9 + 1
    return "".join(map(str, digits))


class Marked:
    """Makes batches, and remembers every text that stands in their documents only."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self.texts: list[str] = []
        self.documents: dict[str, str] = {}

    def batch(self, size: int, name: str, kinds: Sequence[str] = PLAIN, *, seconds: float = 0.5) -> Batch:
        """`size` jobs with ids `<name>-<number>`; every scenario of `kinds` in turn, in an order that chance draws."""
        jobs: dict[str, bytes] = {}
        ends: dict[str, str] = {}
        scenarios = [kinds[number % len(kinds)] for number in range(size)]
        self._chance.shuffle(scenarios)
        for number, scenario in enumerate(scenarios):
            job_id = f"{name}-{number:05d}"
            trader, tfn = f"Trader {self._chance.randrange(16**8):08x}", synthetic_tfn(self._chance)
            self.texts += (trader, tfn)
            self.documents[job_id] = document(scenario, seconds=seconds, name=f"{trader} {tfn}")
            jobs[job_id] = job(job_id, payload={"inline": self.documents[job_id]})
            ends[job_id] = _ENDS.get(scenario, "accepted")
        return Batch(jobs, ends)
