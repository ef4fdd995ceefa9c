"""References: unique, ordered by time, and token keys that never stand for each other."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.lodgment.references import TokenKey, earliest_id, message_reference_number, uuid7
from pipeline.lodgment.software_id import control_digit, software_id_fault

NOW = datetime(2026, 11, 23, 2, 0, tzinfo=UTC)
moments = st.datetimes(datetime(2020, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001  - hypothesis adds UTC


@given(moments, st.binary(min_size=10, max_size=10))
def test_an_id_is_a_valid_uuid7_that_carries_its_time(moment: datetime, entropy: bytes) -> None:
    made = uuid7(moment, entropy)
    assert (made.version, made.variant) == (7, "specified in RFC 4122")
    assert made.int >> 80 == (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


@given(moments, st.binary(min_size=10, max_size=10), st.binary(min_size=10, max_size=10))
@example(datetime(2038, 1, 19, 4, 0, 0, 1000, tzinfo=UTC), bytes(10), bytes(10))
def test_ids_of_a_later_millisecond_sort_later(moment: datetime, one: bytes, other: bytes) -> None:
    assert uuid7(moment, one) < uuid7(moment + timedelta(milliseconds=1), other)
    assert earliest_id(moment) <= uuid7(moment, one)


LEDGER = UUID("0f7d1f63-3a54-4f0e-9d3e-0d4f5c1b2a39")


def test_a_job_has_the_same_reference_however_often_it_is_taken_in() -> None:
    known = "00ec2662-09a3-8c12-aad4-a5e06e0283a8"
    assert message_reference_number(LEDGER, "evte", "12345", "payrun:000042") == known
    assert message_reference_number(LEDGER, "evte", "12345", "payrun:000042") == known


def test_each_part_of_a_job_and_its_ledger_makes_another_reference() -> None:
    made = {
        message_reference_number(LEDGER, "evte", "1", "23"),
        message_reference_number(LEDGER, "evte", "12", "3"),
        message_reference_number(LEDGER, "evte1", "", "23"),
        message_reference_number(LEDGER, "production", "1", "23"),
        message_reference_number(UUID(int=LEDGER.int + 1), "evte", "1", "23"),
    }
    assert len(made) == 5


def test_references_are_unique_valid_uuids_that_fit_the_agencies() -> None:
    references = [message_reference_number(LEDGER, "evte", "12345", f"job-{number}") for number in range(10_000)]
    assert len(set(references)) == 10_000
    assert all(len(reference) == 36 for reference in references)  # ASIC takes 1 to 50 characters
    assert {(UUID(one).version, UUID(one).variant) for one in references} == {(8, "specified in RFC 4122")}


KEY = TokenKey("evte", "https://sts", "https://rp", "ABRD:1_x", "11000002568", "0000000011", ("a", "b"), 512)


def test_each_part_of_a_token_key_makes_another_key() -> None:
    others = [
        replace(KEY, environment="production"),
        replace(KEY, sts="https://other"),
        replace(KEY, applies_to="https://other"),
        replace(KEY, credential="ABRD:1_y"),
        replace(KEY, second_party=None),
        replace(KEY, second_party="51824753556"),
        replace(KEY, software_id=None),
        replace(KEY, claims=("a",)),
        replace(KEY, claims=("a,b",)),
        replace(KEY, key_size=256),
    ]
    assert len({key.hash() for key in [KEY, *others]}) == len(others) + 1


@given(st.tuples(*[st.text(max_size=5)] * 4), st.tuples(*[st.text(max_size=5)] * 4))
def test_two_keys_share_a_hash_only_when_they_are_equal(one: tuple[str, ...], other: tuple[str, ...]) -> None:
    first = TokenKey(one[0], one[1], one[2], one[3], None, None, (), 512)
    second = TokenKey(other[0], other[1], other[2], other[3], None, None, (), 512)
    assert (first.hash() == second.hash()) == (first == second)


def test_the_published_software_ids_hold_and_a_wrong_digit_is_named() -> None:
    assert [control_digit(nine) for nine in ("000000001", "000000002", "000478593")] == ["1", "2", "6"]
    assert software_id_fault("0004785936") is None
    assert "must be 6" in (software_id_fault("0004785937") or "")
    assert "10 digits" in (software_id_fault("4785936") or "")
    assert "10 digits" in (software_id_fault("٠٠٠٤٧٨٥٩٣٦") or "")
