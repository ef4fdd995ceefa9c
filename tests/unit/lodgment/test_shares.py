"""Fair shares: a few go at once, thousands get turns, and turns are in proportion to what they cost."""

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from pipeline.lodgment.shares import SharePolicy, turns
from tests.doubles.lodgments import NOW

POLICY = SharePolicy(each=timedelta(seconds=1), burst=timedelta(seconds=10))
SECOND = timedelta(seconds=1)


def test_what_lies_within_the_burst_goes_at_once() -> None:
    found = turns(None, [0] * 10, POLICY, NOW)
    assert found.at == (NOW,) * 10
    assert turns(found.virtual, [0], POLICY, NOW).at == (NOW + SECOND,)


def test_a_sender_that_was_quiet_begins_anew() -> None:
    assert turns(NOW - timedelta(days=1), [0], POLICY, NOW) == turns(None, [0], POLICY, NOW)


def test_a_large_document_costs_more() -> None:
    assert turns(None, [1024 * 1024], POLICY, NOW).virtual - NOW == 5 * SECOND


@given(sizes=st.lists(st.integers(min_value=0, max_value=50_000_000), min_size=1, max_size=60), cut=st.integers(0, 60))
def test_turns_are_in_order_and_the_same_however_the_batch_is_cut(sizes: list[int], cut: int) -> None:
    whole = turns(None, sizes, POLICY, NOW)
    first = turns(None, sizes[:cut], POLICY, NOW)
    second = turns(first.virtual, sizes[cut:], POLICY, NOW)
    assert list(whole.at) == sorted(whole.at)
    assert first.at + second.at == whole.at
