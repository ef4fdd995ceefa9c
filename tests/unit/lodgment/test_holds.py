"""Holds: how far a refusal reaches, and what the one that goes first says of the others."""

from dataclasses import replace

import pytest

from pipeline.channels.sbr2_faults import AGENCY_RULES
from pipeline.lodgment.failures import Blast, Failure, FailureClass, Party
from pipeline.lodgment.holds import Hold, HoldState, Reach, after_canary, let_go, reach_of, reaches
from pipeline.lodgment.lodgment import Purpose, Reason
from pipeline.lodgment.outcome import Outcome, Result
from pipeline.lodgment.states import State
from tests.doubles.lodgments import NOW, a_lodgment, fresh_id

ROW = a_lodgment()
BY_AGENT = replace(ROW, facts={"party_kind": "tan", "party": "25681234"})
HOLD = Hold(
    fresh_id(),
    Reach("sbr2_stp", Blast.EMPLOYER, ROW.party_abn),
    "SBR.GEN.AUTH.006",
    "The employer notifies us.",
    Party.EMPLOYER,
    Purpose.SUBMIT,
    NOW,
    HoldState.PROBING,
    ROW.id,
)


def failure(kind: FailureClass, code: str = HOLD.code, blast: Blast = Blast.EMPLOYER) -> Failure:
    return Failure(kind, code, "", "What it means.", Party.EMPLOYER, blast)


@pytest.mark.parametrize(
    ("code", "key"),
    [
        ("SBR.GEN.AUTH.006", ROW.party_abn),
        ("SBR.GEN.AUTH.008", ROW.party_abn),
        ("CMN.ATO.AUTH.005", "25681234"),
        ("SBR.GEN.FAULT.SERVICEACTIONDENIED", ROW.channel),
    ],
)
def test_a_refusal_reaches_as_far_as_its_table_says(code: str, key: str) -> None:
    rule = AGENCY_RULES[code]
    assert reach_of(rule.failure(code, ""), BY_AGENT) == Reach(ROW.channel, rule.blast, key)


def test_a_credential_is_held_by_its_id() -> None:
    found = reach_of(failure(FailureClass.OUR_CREDENTIAL, blast=Blast.CREDENTIAL), ROW)
    assert found == Reach(ROW.channel, Blast.CREDENTIAL, ROW.credential)


@pytest.mark.parametrize(
    "kind", sorted(set(FailureClass) - {FailureClass.THEIR_PERMISSION, FailureClass.OUR_CREDENTIAL})
)
def test_only_what_a_person_must_allow_stops_others(kind: FailureClass) -> None:
    assert reach_of(failure(kind), ROW) is None


def test_a_refusal_of_one_lodgment_reaches_nobody_else() -> None:
    assert reach_of(failure(FailureClass.THEIR_PERMISSION, blast=Blast.LODGMENT), ROW) is None


def test_the_widest_reach_comes_first() -> None:
    scopes = [reach.scope for reach in reaches(ROW)]
    assert scopes == [Blast.CHANNEL, Blast.CREDENTIAL, Blast.AGENT, Blast.EMPLOYER]


@pytest.mark.parametrize(
    ("verdict", "state"),
    [
        (failure(FailureClass.THEIR_PERMISSION), HoldState.STANDING),
        (failure(FailureClass.THEIR_PERMISSION, "SBR.GEN.AUTH.008"), HoldState.ENDING),
        (failure(FailureClass.OUR_DOCUMENT, "CMN.ATO.GEN.XML03"), HoldState.ENDING),
        (failure(FailureClass.DUPLICATE), HoldState.ENDING),
        (failure(FailureClass.NOT_SENT), HoldState.PROBING),
        (failure(FailureClass.UNKNOWN), HoldState.PROBING),
        (failure(FailureClass.UNAVAILABLE), HoldState.PROBING),
        (failure(FailureClass.STALE_TOKEN), HoldState.PROBING),
        (Outcome(Result.ACCEPTED, "r"), HoldState.ENDING),
        (Outcome(Result.REJECTED, "r"), HoldState.ENDING),
        (Outcome(Result.DELAYED, "r"), HoldState.ENDING),
        (Outcome(Result.FAULT, "r"), HoldState.PROBING),
    ],
)
def test_what_is_said_of_the_first_one_decides(verdict: Outcome | Failure, state: HoldState) -> None:
    assert after_canary(HOLD, verdict) is state


def test_a_receipt_does_not_disprove_a_refusal_that_came_with_an_outcome() -> None:
    later = replace(HOLD, purpose=Purpose.POLL)
    assert after_canary(later, Outcome(Result.DELAYED, "r")) is HoldState.PROBING
    assert after_canary(later, Outcome(Result.ACCEPTED, "r")) is HoldState.ENDING


def test_what_the_agency_has_is_asked_about_when_it_is_let_go() -> None:
    held = replace(ROW, state=State.HELD, due_at=None, envelope_id=fresh_id(), agency_reference="m@agency.example.test")
    assert let_go(held, NOW, Reason("operator.released", "")).state is State.RECEIVED
