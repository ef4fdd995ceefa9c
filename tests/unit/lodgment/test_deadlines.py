"""Due dates: days of Sydney, least slack first, told in time."""

from datetime import UTC, date, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from pipeline.lodgment.deadlines import DeadlinePolicy, Nearness, deadline, least_first, nearest, slack

POLICY = DeadlinePolicy()
_MOMENTS = st.datetimes(datetime(2026, 1, 1), datetime(2028, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001  - bounds are naive
_DATES = st.dates(date(2025, 12, 1), date(2028, 2, 1))


def test_a_day_ends_when_it_ends_in_sydney() -> None:
    assert deadline(date(2026, 11, 30)) == datetime(2026, 11, 30, 13, tzinfo=UTC)


@given(_DATES, _MOMENTS)
def test_is_told_from_exactly_as_long_before_as_the_policy_says(due: date, now: datetime) -> None:
    left = deadline(due) - now
    found = nearest(due, POLICY, now)
    if left <= timedelta(0):
        assert found is Nearness.MISSED
    elif left <= POLICY.last:
        assert found is Nearness.LAST
    elif left <= POLICY.soon:
        assert found is Nearness.SOON
    else:
        assert found is None


@given(st.lists(st.tuples(st.none() | _DATES, st.integers(0, 600)), max_size=30), _MOMENTS)
def test_who_has_the_least_slack_goes_first_and_who_has_no_due_date_last(
    rows: list[tuple[date | None, int]], now: datetime
) -> None:
    def spare(row: tuple[date | None, int]) -> timedelta:
        return slack(row[0], now, timedelta(minutes=row[1]))

    ordered = least_first(rows, spare)
    left = [deadline(due) - timedelta(minutes=minutes) for due, minutes in ordered if due is not None]
    assert left == sorted(left)
    assert [due is None for due, _ in ordered] == sorted(due is None for due, _ in ordered)
