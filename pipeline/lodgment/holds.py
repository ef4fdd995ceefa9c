"""Holds: what an agency refuses one lodgment for and would refuse others for too, by how far the cause reaches.

A refusal sets a hold, and nothing under it is sent. Released, one lodgment goes first; what the agency says of that one
ends the hold or sets it again.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from pipeline.lodgment.decisions import Tally
from pipeline.lodgment.failures import Blast, Failure, FailureClass, Party
from pipeline.lodgment.lodgment import Lodgment, Purpose, Reason
from pipeline.lodgment.outcome import Outcome, Result
from pipeline.lodgment.states import State

WAVE = 20
"""So many employers refused within `WAVE_WITHIN` are rarely all at fault themselves."""
WAVE_WITHIN = timedelta(minutes=10)

_REFUSED = frozenset({FailureClass.THEIR_PERMISSION, FailureClass.OUR_CREDENTIAL})
_SAYS_NOTHING = frozenset(
    {FailureClass.NOT_SENT, FailureClass.UNKNOWN, FailureClass.UNAVAILABLE, FailureClass.STALE_TOKEN}
)


class HoldState(StrEnum):
    """Where a hold is."""

    STANDING = "standing"
    """Nothing under it is sent until a person releases it."""
    PROBING = "probing"
    """Released: one lodgment goes first, the others wait for what the agency says of it."""
    ENDING = "ending"
    """The agency did not refuse the first one: the others are being let go."""
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class Reach:
    """Whom a hold stops on one channel. `key` is the employer's ABN or WPN, the practice's agent number (where a
    channel notes none, the sender id), the credential's id, or the channel's name, as `scope` says.
    """

    channel: str
    scope: Blast
    key: str


@dataclass(frozen=True, slots=True)
class Hold:
    """A row of the table `hold`. `purpose` is that of the attempt that was refused: a refusal that came with the
    outcome is not disproved by a receipt.
    """

    id: UUID
    reach: Reach
    code: str
    text: str
    who: Party
    purpose: Purpose
    since: datetime
    state: HoldState = HoldState.STANDING
    canary_id: UUID | None = None
    released_at: datetime | None = None
    released_by: str | None = None

    @property
    def reason(self) -> Reason:
        """Why a lodgment under this hold is held without having been sent."""
        text = f"Not sent: the agency refuses this {self.reach.scope} ({self.reach.key}). {self.text}"
        return Reason(self.code, text, self.who)


def reaches(row: Lodgment) -> tuple[Reach, ...]:
    """Every reach that the lodgment lies in, the widest first."""
    agent = row.facts.get("party", "") if row.facts.get("party_kind") == "tan" else row.sender_id
    keys = (
        (Blast.CHANNEL, row.channel),
        (Blast.CREDENTIAL, row.credential),
        (Blast.AGENT, agent),
        (Blast.EMPLOYER, row.party_abn),
    )
    return tuple(Reach(row.channel, scope, key) for scope, key in keys)


def reach_of(failure: Failure, row: Lodgment) -> Reach | None:
    """Whom a failure of this lodgment stops beside it; None where it stops nobody else."""
    if failure.kind not in _REFUSED:
        return None
    return next((reach for reach in reaches(row) if reach.scope is failure.blast), None)


def after_canary(hold: Hold, verdict: Outcome | Failure) -> HoldState:
    """Where the hold goes when this is said of the lodgment that went first; `PROBING` while nothing is decided."""
    if isinstance(verdict, Outcome):
        undecided = verdict.result is Result.FAULT or (
            verdict.result is Result.DELAYED and hold.purpose is Purpose.POLL
        )
        return HoldState.PROBING if undecided else HoldState.ENDING
    if verdict.kind in _SAYS_NOTHING:
        return HoldState.PROBING
    if verdict.kind in _REFUSED and verdict.code == hold.code:
        return HoldState.STANDING
    return HoldState.ENDING


def let_go(row: Lodgment, now: datetime, reason: Reason) -> Lodgment:
    """A held lodgment on its way again: with its bytes if they can still be sent, else from the token on.

    What the agency has is asked about, not sent again.
    """
    unsettled = row.envelope_id is not None and row.agency_reference is None
    usable = unsettled and (row.token_expires_at is None or row.token_expires_at > now)
    target = State.SEALED if usable else State.RECEIVED
    return row.moved(target, due_at=now, reason=reason, tally=Tally())
