"""What the token service says of whom it was asked for."""

from datetime import UTC, datetime, timedelta

from pipeline.sandbox.sts_record import Record

NOW = datetime(2026, 11, 25, 2, 0, tzinfo=UTC)
BODY = b"<no-request/>"


def test_a_second_request_before_the_first_was_answered_shows() -> None:
    record = Record()
    with record.asking(BODY, NOW), record.asking(BODY, NOW):
        pass
    total, party = record.lines()
    assert (total["most_at_once"], total["requests"], party["most_at_once"]) == (2, 2, 2)


def test_the_shortest_time_for_which_a_token_was_good_enough_shows() -> None:
    record = Record()
    for seconds, answered in ((0, True), (900, False), (960, True), (1500, True)):
        with record.asking(BODY, NOW + timedelta(seconds=seconds)) as asked:
            if answered:
                asked.issue(NOW + timedelta(seconds=seconds + 1))
    _, party = record.lines()
    assert (party["issued"], party["soonest_again"]) == (3, 539)


def test_a_failed_request_asked_again_is_no_good_token_asked_again() -> None:
    record = Record()
    for seconds in (0, 5):
        with record.asking(BODY, NOW + timedelta(seconds=seconds)):
            pass
    _, party = record.lines()
    assert (party["requests"], party["soonest_again"]) == (2, None)
