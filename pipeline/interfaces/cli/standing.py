"""How submitted jobs stand, whoever told it, and the table that `lodge submit` ends with."""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from rich.console import Console

from pipeline.broker.messages import OutcomeEvent
from pipeline.interfaces.cli.screen import table
from pipeline.lodgment.failures import Party
from pipeline.lodgment.lodgment import TOKEN_REQUESTED, Lodgment
from pipeline.lodgment.states import FINAL, State

REFUSED = "refused"
OPEN = "open"
"""Nothing was heard of it yet."""
_WRONG = frozenset({REFUSED, OPEN, State.REJECTED, State.HELD, State.CANCELLED})
_RESTING = frozenset({State.PARKED, State.AWAITING, State.UNKNOWN})
_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Standing:
    """Where one job is: a state, or refused, or open."""

    job_id: str
    state: str = OPEN
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
    """How many ended in which way and why, then those to look at one by one, with where each job came from."""
    counted = Counter((one.state, one.code) for one in standings)
    texts = {(one.state, one.code): one.text for one in standings}
    rows = [(state, count, code, texts[state, code]) for (state, code), count in counted.most_common()]
    console.print(table("Outcomes", ("state", "count", "reason", "in words"), rows))
    odd = [one for one in standings if one.state not in {State.ACCEPTED, OPEN}]
    if not odd:
        return
    columns = ("state", "job", "reason", "who acts", "from")
    shown = [(one.state, one.job_id, one.code, one.who, origins[one.job_id]) for one in odd[:_SHOWN]]
    console.print()
    console.print(table("To look at", columns, shown))
    if len(odd) > _SHOWN:
        console.print(f"… and {len(odd) - _SHOWN} more.")
    console.print("The story of each: lodge explain JOB")
