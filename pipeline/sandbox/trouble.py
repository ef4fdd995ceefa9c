"""Trouble for a whole service, scripted over HTTP or by a test: outages, latency, a share of faults."""

import random
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from pipeline.sandbox.sts_script import Event, FaultShape, Variant

ServiceName = Literal["sts", "asic", "sbr2-push", "sbr2-pull"]


class Trouble(BaseModel):
    """What to do to one service. Replaces what was scripted for it; the defaults lift everything.

    An outage of `sbr2-pull` tells everybody that there is nothing yet (EBMS:0006), as the agency does while it is
    closed; of `sbr2-push`, HTTP 503.

    `outage` answers every request with the service's own fault for being unavailable, for `seconds` or until lifted.
    `latency` in seconds delays every reply. `fault_rate` is the share of requests that meet that fault by chance; the
    same `seed` gives the same sequence.

    For the token service alone: the `event` and `shape` of that fault, the `status` of a page in place of one, in how
    many seconds the fault says that the service is back, and the `variant` in which tokens are answered.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    service: ServiceName
    outage: bool = False
    seconds: float | None = Field(default=None, ge=0, le=86_400)
    latency: float = Field(default=0.0, ge=0, le=600)
    fault_rate: float = Field(default=0.0, ge=0, le=1)
    seed: int = 0
    event: Event = Event.INTERNAL
    shape: FaultShape = FaultShape.DETAIL
    status: int = Field(default=503, ge=200, le=599)
    available_in: float | None = Field(default=None, ge=-86_400_000, le=86_400_000)
    variant: Variant | None = None

    @model_validator(mode="after")
    def _of_the_token_service(self) -> Self:
        wrong = self.model_fields_set & _STS_ONLY if self.service != "sts" else set()
        if wrong:
            raise ValueError(f"only the token service has {', '.join(sorted(wrong))}")
        return self


_STS_ONLY = {"event", "shape", "status", "available_in", "variant"}


@dataclass(slots=True)
class Weather:
    """The trouble that one service is in."""

    trouble: Trouble
    since: datetime
    _chance: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self._chance = random.Random(self.trouble.seed)  # noqa: S311  - repeatable trouble, not a secret

    def strikes(self, now: datetime) -> bool:
        """Whether this request meets the fault."""
        if self.trouble.outage and not self._over(now):
            return True
        return self._chance.random() < self.trouble.fault_rate

    def _over(self, now: datetime) -> bool:
        seconds = self.trouble.seconds
        return seconds is not None and now >= self.since + timedelta(seconds=seconds)
