"""How submitted jobs stand, whoever told it, and the table that `lodge submit` ends with."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from uuid import UUID

from rich.console import Console

from pipeline.broker.messages import WARNED, OutcomeEvent
from pipeline.interfaces.cli.screen import table
from pipeline.ledger import channel_states, tokens
from pipeline.ledger.session import Tx
from pipeline.lodgment.breaker import BreakerScope
from pipeline.lodgment.failures import Party
from pipeline.lodgment.lodgment import TOKEN_REQUESTED, Lodgment, Reason
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
    def of_lodgment(cls, row: Lodgment, no_token: Reason | None = None) -> "Standing":
        """`no_token`: why it still waits for its token, see `token_failures`; says more than that it waits."""
        reason = no_token or row.reason
        if reason is None:
            return cls(row.job_id, row.state)
        return cls(row.job_id, row.state, reason.code, reason.text, reason.who)

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


async def token_failures(tx: Tx, rows: Iterable[Lodgment]) -> dict[UUID, Reason]:
    """Of lodgments that wait for a token: why none could be had, where one was asked for and the answer was a failure.

    What is behind an open breaker is not asked for; the breaker's cause is its answer too.
    """
    waiting = {row.id: row.token_key for row in rows if waits_for_token(row)}
    if not waiting:
        return {}
    stored = await tokens.look(tx, {key for key in waiting.values() if key is not None})
    open_ = await channel_states.not_closed(tx, BreakerScope.STS)
    down = next((one.cause for one in open_.values() if one.cause is not None), None)
    failed = {id_: stored[key].failed if key in stored else None for id_, key in waiting.items()}
    return {id_: reason for id_, own in failed.items() if (reason := own or down) is not None}


def waits_for_token(row: Lodgment) -> bool:
    """Whether the answer of the token service is what it waits for."""
    return row.state is State.PARKED and row.reason is not None and row.reason.code == TOKEN_REQUESTED


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
