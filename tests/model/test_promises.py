"""The promises of the architecture, in every order of effects; and that the explorer finds what breaks them."""

from collections import deque

import pytest

from pipeline.lodgment.states import FINAL, State
from tests.model.world import Explorer, Fault, World, Worlds, settled


def first_wrong(found: Worlds) -> tuple[str, World | None]:
    """The first promise that is broken, and where."""
    for world in found.seen.values():
        if world.wrong:
            return world.wrong, world
    # From every world some way leads to a settled one without any more trouble: where none does, a job is lost.
    leads = {key for key, world in found.seen.items() if settled(world)}
    todo = deque(leads)
    while todo:
        for key in found.before.get(todo.popleft(), ()):
            if key not in leads:
                leads.add(key)
                todo.append(key)
    for key, world in found.seen.items():
        if key not in leads:
            return "a job that goes on nowhere, or an outcome that is never told", world
    return "", None


@pytest.fixture(scope="module")
def whole() -> Worlds:
    """What can become of a job while two troubles befall it."""
    return Explorer().explore()


def test_no_order_of_effects_crashes_and_lost_messages_breaks_a_promise(whole: Worlds) -> None:
    wrong, world = first_wrong(whole)
    assert not wrong, (wrong, world and world.trail)


def test_the_explorer_reaches_every_state_resends_and_settles_while_others_still_have_it_in_hand(
    whole: Worlds,
) -> None:
    worlds = whole.seen.values()
    reached = {world.row.state for world in worlds if world.row is not None}
    assert reached == set(State) - {State.PARTIALLY_ACCEPTED}
    assert any(len(world.attempts) > 2 for world in worlds)
    assert {len(world.processed) for world in worlds} == {0, 1}
    assert any(world.row is not None and world.row.state in FINAL and all(world.hands) for world in worlds)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Fault.ACK_BEFORE_COMMIT, "goes on nowhere"),
        (Fault.ACK_BEFORE_PUBLISH, "never told"),
        (Fault.PUBLISH_BEFORE_COMMIT, "not in the ledger"),
        (Fault.SEND_BEFORE_ATTEMPT, "without a committed attempt"),
        (Fault.NEW_REFERENCE, "two references"),
        (Fault.JOB_NOT_KNOWN, "two references"),
        (Fault.MOVE_UNGUARDED, "was final"),
        (Fault.LEASE_TOO_SHORT, "two workers send"),
        (Fault.LEASE_FORGOTTEN, "goes on nowhere"),
        (Fault.WAITING_FORGOTTEN, "goes on nowhere"),
        (Fault.STUCK_FORGOTTEN, "goes on nowhere"),
        (Fault.UNKNOWN_IS_FAILED, "the agency did not say so"),
        (Fault.FINAL_LEFT, "was final"),
    ],
)
def test_a_defect_that_is_built_in_is_found_with_one_trouble(fault: Fault, words: str) -> None:
    wrong, world = first_wrong(Explorer(fault, troubles=1).explore())
    assert words in wrong, (wrong, world and world.trail)
    assert wrong


def test_cancelling_what_was_sent_is_found_with_two_troubles() -> None:
    """One keeps it from being answered, the other is the operator."""
    wrong, _ = first_wrong(Explorer(Fault.CANCEL_SENT).explore())
    assert wrong == "cancelled, and it was sent"
