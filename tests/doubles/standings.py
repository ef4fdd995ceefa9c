"""Lodgments in every standing that the ledger may hold, for properties."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from itertools import product

from pipeline.lodgment.lodgment import LANE_TURN, NOT_BEFORE, TOKEN_REQUESTED, Lodgment, Reason
from pipeline.lodgment.states import FINAL, WAITING, State
from tests.doubles.lodgments import NOW, a_lodgment, fresh_id

CODES = (None, LANE_TURN, NOT_BEFORE, TOKEN_REQUESTED, "asic:FAULT.UNAVAILABLE")


def in_standing(
    state: State, code: str | None, *, sent: bool, held_over: bool, known_there: bool, envelope: bool, token: int | None
) -> Lodgment:
    """`token`: in how many minutes it ends."""
    asleep = state in FINAL or state is State.HELD
    return replace(
        a_lodgment(),
        state=state,
        due_at=None if asleep else NOW + timedelta(minutes=5),
        resume=State.SEALED if state in WAITING else None,
        reason=None if code is None else Reason(code, "synthetic"),
        sent_at=NOW - timedelta(hours=1) if sent else None,
        attempts=int(sent),
        hold_id=fresh_id() if held_over and state is State.HELD else None,
        agency_reference="there" if known_there else None,
        envelope_id=fresh_id() if envelope else None,
        token_expires_at=None if token is None else NOW + timedelta(minutes=token),
        watch_at=NOW + timedelta(minutes=1) if sent and not asleep else None,
    )


def every_standing() -> Iterator[Lodgment]:
    """Each that can be told apart; what was never sent is nowhere but here."""
    yes_no = (False, True)
    for state, code, sent, held_over, known_there, envelope in product(State, CODES, yes_no, yes_no, yes_no, yes_no):
        if known_there and not sent:
            continue
        for token in (None, 1, 30) if envelope else (None,):
            yield in_standing(
                state, code, sent=sent, held_over=held_over, known_there=known_there, envelope=envelope, token=token
            )
