"""How submitted jobs stand, whoever told it, and the table that `lodge submit` ends with."""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from rich.console import Console

from pipeline.broker.messages import WARNED, OutcomeEvent
from pipeline.interfaces.cli.screen import table
from pipeline.lodgment.failures import Party
from pipeline.lodgment.lodgment import TOKEN_REQUESTED, Lodgment
from pipeline.lodgment.states import FINAL, State

REFUSED = "refused"
PUSHED = "pushed"
"""Nothing was heard of it yet."""
_WRONG = frozenset({REFUSED, PUSHED, State.REJECTED, State.HELD, State.CANCELLED})
_RESTING = frozenset({State.PARKED, State.AWAITING, State.UNKNOWN})
_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Standing:
    """Where one job is: a state, or refused, or pushed."""

    job_id: str
    state: str = PUSHED
    code: str = ""
    text: str = ""
    who: Party = Party.NOBODY

    @classmethod
    def of_lodgment(cls, row: Lodgment) -> "Standing":
        if row.reason is None:
            return cls(row.job_id, row.state)
        return cls(row.job_id, row.state, row.reason.code, row.reason.text, row.reason.who)

    @classmethod
    def of_event(cls, event: OutcomeEvent) -> "Standing":
        job_id = event.job_id or ""
        if event.event == WARNED:
            return cls(job_id, event.state or PUSHED)
        if event.reason is None:
            return cls(job_id, event.event)
        return cls(job_id, event.event, event.reason.code, event.reason.text, event.reason.who)

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen by itself."""
        return self.state in FINAL or self.state in {State.HELD, REFUSED}

    @property
    def at_rest(self) -> bool:
        """Whether it ended, or waits until a time or for the agency."""
        return self.ended or (self.state in _RESTING and self.code != TOKEN_REQUESTED)

    @property
    def is_wrong(self) -> bool:
        """Whether whoever submitted it must take notice."""
        return self.state in _WRONG


def tell(standings: Collection[Standing], origins: Mapping[str, str], console: Console) -> None:
    """How many ended in which way and why; then one by one, of many only those that were not accepted."""
    counted = Counter((one.state, one.code) for one in standings)
    texts = {(one.state, one.code): one.text for one in standings}
    rows = [(state, count, code, texts[state, code]) for (state, code), count in counted.most_common()]
    console.print(table("Outcomes", ("state", "count", "reason", "in words"), rows))
    odd = [one for one in standings if one.state != State.ACCEPTED]
    tell_jobs(standings if len(standings) <= _SHOWN else odd, origins, console)


def tell_jobs(standings: Collection[Standing], origins: Mapping[str, str], console: Console) -> None:
    """Each job with where it came from; of many, the first ones."""
    if not standings:
        return
    rows = [(one.state, one.job_id, one.code, one.who if one.code else "", origins[one.job_id]) for one in standings]
    console.print()
    console.print(table("Jobs", ("state", "job", "reason", "who acts", "from"), rows[:_SHOWN]))
    if len(rows) > _SHOWN:
        console.print(f"… and {len(rows) - _SHOWN} more: lodge status")
    console.print("The story of each: lodge explain JOB")
