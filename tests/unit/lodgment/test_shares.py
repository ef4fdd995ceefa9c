"""Fair shares: a few go at once, thousands wait, and who waits takes turns in proportion to what the jobs cost."""

from collections import Counter
from collections.abc import Mapping
from datetime import datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from pipeline.lodgment.shares import Admission, Asked, Line, SharePolicy, admit, needs_room
from tests.doubles.lodgments import NOW

SECOND = timedelta(seconds=1)
POLICY = SharePolicy(each=SECOND, burst=10 * SECOND, room=20)
NOBODY = Line()
MEGABYTE = 1024 * 1024


def of(sender: str, number: int, size: int = 0) -> list[Asked]:
    return [Asked(sender, size)] * number


def waiting(found: Admission) -> list[bool]:
    return [tag is not None for tag in found.tags]


def used(**ahead: timedelta) -> Mapping[str, datetime]:
    """Virtual times, by how far they are ahead of now."""
    return {sender: NOW + by for sender, by in ahead.items()}


def test_a_few_go_at_once_whatever_is_under_way_and_who_waits() -> None:
    assert waiting(admit(of("FEW", 10), {}, NOBODY, 0, POLICY, NOW)) == [False] * 10
    line = Line(NOW + 3 * 3600 * SECOND)
    assert waiting(admit(of("FEW", 11), {}, line, 0, POLICY, NOW)) == [False] * 10 + [True]


def test_what_is_beyond_goes_while_there_is_room_and_nobody_waits() -> None:
    assert waiting(admit(of("MANY", 40), {}, NOBODY, 15, POLICY, NOW)) == [False] * 15 + [True] * 25
    assert waiting(admit(of("MANY", 40), {}, Line(NOW), 15, POLICY, NOW)) == [False] * 10 + [True] * 30


def test_behind_a_job_that_waits_all_of_its_sender_wait() -> None:
    line = Line(NOW, frozenset({"MANY"}))
    found = admit([*of("MANY", 1), *of("FEW", 1)], {}, line, 100, POLICY, NOW)
    assert waiting(found) == [True, False]
    large = [Asked("MANY", 100 * MEGABYTE), Asked("MANY", 0)]
    assert waiting(admit(large, {}, NOBODY, 100, POLICY, NOW)) == [True, True]


def test_a_sender_that_comes_anew_takes_turns_with_one_that_was_served_for_hours() -> None:
    """What was used of an idle pipeline is not held against anybody, and earns nobody anything."""
    head = NOW + 9 * 3600 * SECOND
    old = [head + number * SECOND for number in range(100)]
    found = admit(of("NEW", 110), {}, Line(head, frozenset({"OLD"})), 0, POLICY, NOW)
    new = [tag for tag in found.tags if tag is not None]
    merged = sorted([(tag, "OLD") for tag in old] + [(tag, "NEW") for tag in new])
    first = Counter(sender for _, sender in merged[10:110])
    assert first == {"OLD": 50, "NEW": 50}


def test_a_line_that_moves_slower_than_the_clock_gives_the_old_no_credit() -> None:
    found = admit(of("NEW", 11), {}, Line(NOW - 3600 * SECOND, frozenset({"OLD"})), 0, POLICY, NOW)
    assert found.tags[-1] == NOW - 3600 * SECOND + 11 * SECOND


def test_when_nobody_waits_what_was_used_before_counts_no_more_than_a_burst() -> None:
    before = used(MANY=9 * 3600 * SECOND)
    found = admit(of("MANY", 1), before, NOBODY, 0, POLICY, NOW)
    assert found.tags == (NOW + POLICY.burst + SECOND,)
    assert waiting(admit(of("MANY", 1), before, NOBODY, 1, POLICY, NOW)) == [False]


def test_a_sender_that_was_quiet_begins_anew() -> None:
    long_ago = {"FEW": NOW - timedelta(days=1)}
    assert admit(of("FEW", 20), long_ago, NOBODY, 0, POLICY, NOW) == admit(of("FEW", 20), {}, NOBODY, 0, POLICY, NOW)


def test_a_large_document_costs_more_and_takes_the_room_of_many() -> None:
    assert POLICY.cost(MEGABYTE) == 5 * SECOND
    found = admit([*of("LARGE", 4, MEGABYTE)], {}, NOBODY, 15, POLICY, NOW)
    assert waiting(found) == [False, False, False, True]


def test_room_is_asked_for_only_where_it_matters() -> None:
    few, many = (admit(of("ONE", number), {}, NOBODY, 0, POLICY, NOW) for number in (10, 11))
    assert not needs_room(few, NOBODY)
    assert needs_room(many, NOBODY)
    assert not needs_room(many, Line(NOW))


@given(
    sizes=st.lists(st.integers(min_value=0, max_value=50_000_000), min_size=1, max_size=60),
    cut=st.integers(0, 60),
    ahead=st.integers(0, 10_000),
)
def test_tags_rise_and_are_the_same_however_the_jobs_are_cut_into_batches(
    sizes: list[int], cut: int, ahead: int
) -> None:
    line = Line(NOW + ahead * SECOND)
    asked = [Asked("MANY", size) for size in sizes]
    whole = admit(asked, {}, line, 0, POLICY, NOW)
    first = admit(asked[:cut], {}, line, 0, POLICY, NOW)
    then = Line(line.first, frozenset({"MANY"} if any(waiting(first)) else ()))
    second = admit(asked[cut:], first.virtual, then, 0, POLICY, NOW)
    assert first.tags + second.tags == whole.tags
    tags = [tag for tag in whole.tags if tag is not None]
    assert tags == sorted(set(tags))
    assert waiting(whole) == sorted(waiting(whole))
