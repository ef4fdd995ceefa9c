"""Replay: which ways of sending a lodgment once more are legal, judged by what is known of it, and why.

One reference for ever is what makes replay safe. So the reference stays, and the agency itself answers what it has
processed already; a new reference is only ever that of a new lodgment, made from one that is final and was not lodged.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from pipeline.lodgment.decisions import Tally
from pipeline.lodgment.lodgment import LANE_TURN, NOT_BEFORE, Lodgment, Reason
from pipeline.lodgment.references import message_reference_number
from pipeline.lodgment.shares import SHARE_TURN
from pipeline.lodgment.states import State

_CLOSEDOWN = "replacement.closedown"
TURNS = frozenset({LANE_TURN, SHARE_TURN, NOT_BEFORE, _CLOSEDOWN})
"""Reasons for waiting that are rules, not trouble: a replay does not jump them."""


class Mode(StrEnum):
    """How a lodgment goes out once more."""

    SAFEST = "safest"
    """The stored bytes where they can still be sent, else signed again; never a new reference."""
    SAME_BYTES = "same-bytes"
    """The stored envelope again, under its reference."""
    SAME_REFERENCE = "same-reference"
    """A new token and a new envelope around the same document, under the same reference."""
    NEW_REFERENCE = "new-reference"
    """A new lodgment of the same document that cites the old one; needs a second person."""


class Known(StrEnum):
    """What is known of a lodgment, as far as replay is concerned."""

    UNDER_WAY = "under-way"
    WITH_AGENCY = "with-agency"
    UNSETTLED = "unsettled"
    NEVER_SENT = "never-sent"
    SENT_BEFORE = "sent-before"
    AGENCY_HAS_IT = "agency-has-it"
    WAITS_ITS_TURN = "waits-its-turn"
    UNDER_HOLD = "under-hold"
    LODGED = "lodged"
    REJECTED = "rejected"
    WITHDRAWN = "withdrawn"
    CLAIMED = "claimed"
    """Said by the ledger alone: another replay has it."""
    LODGED_AGAIN = "lodged-again"
    """Said by the ledger alone: a new lodgment was made from it before."""
    JOB_ID_TAKEN = "job-id-taken"
    """Said by the ledger alone: the job id of the new lodgment is in use."""


_NOTHING: frozenset[Mode] = frozenset()
_SAME = frozenset({Mode.SAME_BYTES, Mode.SAME_REFERENCE})
_NEW = frozenset({Mode.NEW_REFERENCE})

LEGAL: Mapping[Known, frozenset[Mode]] = {
    Known.UNDER_WAY: _NOTHING,
    Known.WITH_AGENCY: _NOTHING,
    Known.UNSETTLED: _SAME,
    Known.NEVER_SENT: _SAME,
    Known.SENT_BEFORE: _SAME,
    Known.AGENCY_HAS_IT: frozenset({Mode.SAME_REFERENCE}),
    Known.WAITS_ITS_TURN: _NOTHING,
    Known.UNDER_HOLD: _NOTHING,
    Known.LODGED: _NOTHING,
    Known.REJECTED: _NEW,
    Known.WITHDRAWN: _NEW,
    Known.CLAIMED: _NOTHING,
    Known.LODGED_AGAIN: _NOTHING,
    Known.JOB_ID_TAKEN: _NOTHING,
}
"""What may be done. A new reference stands only where the old one is final: one document never has two in flight."""

WHY: Mapping[Known, str] = {
    Known.UNDER_WAY: "It is on its way: a worker has it, or its message is queued. There is nothing to replay.",
    Known.WITH_AGENCY: "The agency has it and is asked for the outcome by itself.",
    Known.UNSETTLED: "Its bytes may have arrived and no answer came. The same reference settles it: the agency answers"
    " what it has processed with its first answer. Under a new one it could be lodged twice.",
    Known.NEVER_SENT: "No byte of it ever left, so its reference is unused and good. A new one is not needed.",
    Known.SENT_BEFORE: "It was sent before, and was not settled. The same reference is safe whatever became of it. A"
    " new one is not: nobody can prove from here that the agency has not processed the old one.",
    Known.AGENCY_HAS_IT: "The agency has it: replayed, it is asked about under the same reference, not sent again. It"
    " needs an envelope of its own for that.",
    Known.WAITS_ITS_TURN: "It waits for a time or a turn that the producer, its lane, its sender's share or the"
    " agency's closedown sets. It goes by itself, and a replay does not jump it.",
    Known.UNDER_HOLD: "A hold over its employer, practice, credential or channel keeps it. Release that hold with"
    " `lodge release`: one goes first, the others follow by themselves when it is not refused.",
    Known.LODGED: "The agency has accepted it. It is final, and never sent again.",
    Known.REJECTED: "The agency has processed it and rejected it: its reference answers with that rejection for ever."
    " The same document can be lodged again only as a new lodgment, with a reason and a second person.",
    Known.WITHDRAWN: "It was cancelled before anything was sent, and that is final. The same document can be lodged"
    " only as a new lodgment, with a reason and a second person.",
    Known.CLAIMED: "Another replay has it and is not over: cancel that one first, or let it end.",
    Known.LODGED_AGAIN: "A new lodgment was made from it by an earlier replay: look at that one.",
    Known.JOB_ID_TAKEN: "The job id that the new lodgment would have is in use: its producer has lodged it again.",
}
"""Plain words for people."""

BYTES_GONE = "Its stored bytes cannot be sent: it has none, their token has ended, or the agency has them already."


def known(row: Lodgment) -> Known:  # noqa: PLR0911  - one return for each row of the table
    """What is known of a lodgment; the ledger's `replay_items` has the same table in SQL, and a test compares them."""
    match row.state:
        case State.ACCEPTED | State.PARTIALLY_ACCEPTED:
            return Known.LODGED
        case State.REJECTED:
            return Known.REJECTED
        case State.CANCELLED:
            return Known.WITHDRAWN
        case State.RECEIVED | State.AUTHORISED | State.SEALED | State.SENDING:
            return Known.UNDER_WAY
        case State.AWAITING:
            return Known.WITH_AGENCY
        case State.HELD if row.hold_id is not None:
            return Known.UNDER_HOLD
        case State.PARKED if row.reason is not None and row.reason.code in TURNS:
            return Known.WAITS_ITS_TURN
    if row.agency_reference is not None:
        return Known.AGENCY_HAS_IT
    if row.state is State.UNKNOWN:
        return Known.UNSETTLED
    return Known.NEVER_SENT if row.sent_at is None else Known.SENT_BEFORE


def bytes_at_hand(row: Lodgment, now: datetime, margin: timedelta) -> bool:
    """Whether the stored envelope can still be sent: its token, if it has one, outlives another sending."""
    fresh = row.token_expires_at is None or row.token_expires_at > now + margin
    return row.envelope_id is not None and row.agency_reference is None and fresh


@dataclass(frozen=True, slots=True)
class Ruling:
    """How one lodgment is replayed; `mode` is None where it is not, and then `why` says why."""

    known: Known
    mode: Mode | None
    why: str


def rule(row: Lodgment, wish: Mode, now: datetime, margin: timedelta) -> Ruling:
    """What becomes of the wish to replay this lodgment."""
    what = known(row)
    at_hand = bytes_at_hand(row, now, margin)
    if wish is Mode.SAFEST:
        wish = Mode.SAME_BYTES if at_hand and Mode.SAME_BYTES in LEGAL[what] else Mode.SAME_REFERENCE
    if wish not in LEGAL[what]:
        return Ruling(what, None, WHY[what])
    if wish is Mode.SAME_BYTES and not at_hand:
        return Ruling(what, None, BYTES_GONE)
    return Ruling(what, wish, WHY[what])


def replayed(row: Lodgment, mode: Mode, now: datetime, due_at: datetime, reason: Reason) -> Lodgment:
    """The lodgment on its way once more, under its own reference and with every clock and counter at its beginning.

    Attempts keep counting: they are evidence.

    Raises:
        ValueError: `mode` is none that a `rule` gives for the same reference.
    """
    if mode not in _SAME:
        raise ValueError(f"{mode} does not keep the reference")
    target = State.SEALED if mode is Mode.SAME_BYTES else State.RECEIVED
    after = row.moved(target, due_at=due_at, reason=reason, tally=Tally())
    return replace(after, watch_at=None, replayed_at=now)


def lodged_again(
    row: Lodgment, lodgment_id: UUID, ledger: UUID, now: datetime, due_at: datetime, reason: Reason
) -> Lodgment:
    """A new lodgment of the same document; its reference is its own, and its job id tells whose successor it is.
    `ledger` is the ledger's identity, of which references are made.

    Raises:
        ValueError: the old one may not be lodged again.
    """
    if Mode.NEW_REFERENCE not in LEGAL[known(row)]:
        raise ValueError(f"{row.id} is {row.state}: {WHY[known(row)]}")
    job_id = successor_of(row.job_id)
    return Lodgment(
        id=lodgment_id,
        reference=message_reference_number(ledger, row.environment, row.sender_id, job_id),
        job_id=job_id,
        content_digest=row.content_digest,
        channel=row.channel,
        service=row.service,
        action=row.action,
        environment=row.environment,
        sender_id=row.sender_id,
        sender_type=row.sender_type,
        party_abn=row.party_abn,
        credential=row.credential,
        software_id=row.software_id,
        order_key=row.order_key,
        priority=row.priority,
        due_date=row.due_date,
        received_at=now,
        payload_id=row.payload_id,
        facts=row.facts,
        state=State.RECEIVED,
        due_at=due_at,
        reason=reason,
        replayed_at=now,
    )


def successor_of(job_id: str) -> str:
    """`job`, `job+2`, `job+3`: one successor each, so that nothing can be lodged again twice, whoever tries."""
    found = re.fullmatch(r"(.+)\+(\d{1,6})", job_id, re.DOTALL)
    return f"{found[1]}+{int(found[2]) + 1}" if found else f"{job_id}+2"
