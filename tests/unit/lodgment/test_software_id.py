"""Software ids: the published algorithm, what each rule says when it is broken, and which id a job goes under."""

import hashlib
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.lodgment.job import JobRefusedError, LodgmentJob, read_job
from pipeline.lodgment.software_id import NUMBERS, SoftwareId, SoftwareIdError
from pipeline.lodgment.subscription import (
    Checked,
    Origin,
    RegisteredId,
    Subscription,
    read_label,
    read_party,
    software_id_for,
    subscription_of,
    unused_id,
)
from tests.doubles.jobs import ABN, job

AGENT_ABN = "11000002568"
NOW = datetime(2026, 11, 23, tzinfo=UTC)
PUBLISHED = {1: "0000000011", 2: "0000000022", 478593: "0004785936"}


def a_job(**changes: Any) -> LodgmentJob:
    return read_job(job("one", **changes))


def registered(digits: str, whose: Subscription, checked: Checked = Checked.CONTROL_DIGIT) -> RegisteredId:
    return RegisteredId(SoftwareId(digits), whose, Origin.IMPORTED, checked, NOW, "ana@desk")


@pytest.mark.parametrize(("number", "digits"), PUBLISHED.items())
def test_the_published_table_is_generated(number: int, digits: str) -> None:
    assert SoftwareId.of_number(number).digits == digits


@given(st.integers(0, NUMBERS - 1))
@settings(deadline=None)
def test_every_number_makes_ten_digits_that_hold_and_keep_the_number(number: int) -> None:
    made = SoftwareId.of_number(number)
    assert len(made.digits) == 10
    assert int(made.digits[:9]) == number
    assert SoftwareId.checked(made.digits) == made


@given(st.integers(0, NUMBERS - 1), st.integers(0, 9), st.integers(1, 9))
@settings(deadline=None)
def test_a_single_wrong_digit_never_holds(number: int, place: int, shift: int) -> None:
    digits = SoftwareId.of_number(number).digits
    wrong = str((int(digits[place]) + shift) % 10)
    with pytest.raises(SoftwareIdError, match="control digit must be"):
        SoftwareId.checked(digits[:place] + wrong + digits[place + 1 :])


@pytest.mark.parametrize("number", [-1, NUMBERS])
def test_a_number_of_more_than_nine_digits_makes_no_id(number: int) -> None:
    with pytest.raises(SoftwareIdError, match="nine digits at most"):
        SoftwareId.of_number(number)


def test_the_example_of_the_service_definition_has_the_form_and_fails_the_rule() -> None:
    assert SoftwareId("1234567890").control_fault == (
        "control digit must be 5 (sum of the first nine digits, modulo 10), not 0"
    )


@pytest.mark.parametrize(
    "text", ["", "123456789", "12345678905", "12345 6789", "٠٠٠٤٧٨٥٩٣٦", "000478593x", "0004785936\n"]
)
def test_what_is_not_ten_digits_is_no_id(text: str) -> None:
    with pytest.raises(SoftwareIdError, match="exactly 10 digits, leading zeroes included"):
        SoftwareId(text)


def test_digits_that_a_spreadsheet_dropped_are_explained() -> None:
    with pytest.raises(SoftwareIdError, match="this has 7: a spreadsheet drops leading zeroes"):
        SoftwareId("4785936")


def test_the_message_property_of_sbr2_is_named_as_published() -> None:
    assert SoftwareId("0004785936").message_property() == ("SoftwareSubscriptionId", "0004785936")


def test_parties_are_read_with_the_spaces_that_people_write() -> None:
    assert read_party(" 51 824 753 556 ") == "51824753556"
    assert read_party("123 456 789") == "123456789"


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("51824753557", "check digits do not hold"),
        ("5.18248E+10", "11 digits"),
        ("", "11 digits"),
        ("12345678", "9 digits"),
        ("٥١٨٢٤٧٥٣٥٥٦", "11 digits"),
    ],
)
def test_what_is_no_party_names_the_rule(text: str, rule: str) -> None:
    with pytest.raises(SoftwareIdError, match=rule):
        read_party(text)


@pytest.mark.parametrize("text", ["", "  ", "x" * 101, "a\nb", "a\u202eb", "=1+1", "+1", "-1", "@x"])
def test_labels_are_one_line_that_no_spreadsheet_runs(text: str) -> None:
    with pytest.raises(SoftwareIdError):
        read_label(text)


def test_an_employer_is_known_by_its_own_number_and_the_usual_product() -> None:
    assert subscription_of(a_job(), "Pay") == Subscription("Pay", ABN)
    assert subscription_of(a_job(employer={"wpn": "123456789"}), "Pay") == Subscription("Pay", "123456789")


def test_an_agent_lodges_under_the_id_of_its_practice_and_never_of_its_client() -> None:
    assert subscription_of(a_job(agent={"abn": AGENT_ABN}), "Pay") == Subscription("Pay", AGENT_ABN)


def test_a_job_may_name_another_product_than_the_usual() -> None:
    assert subscription_of(a_job(software_product="Wages"), "Pay").product == "Wages"


def test_a_job_without_a_product_is_refused_with_both_ways_to_name_one() -> None:
    with pytest.raises(JobRefusedError, match=r"name the payroll product, or .* set software\.product") as refused:
        subscription_of(a_job(), None)
    assert refused.value.code == "software-id.product"


def test_the_registered_id_is_used_whether_the_job_says_it_or_not() -> None:
    whose = Subscription("Pay", ABN)
    known = registered("0004785936", whose)
    assert software_id_for(a_job(), whose, known).digits == "0004785936"
    assert software_id_for(a_job(software_id="0004785936"), whose, known).digits == "0004785936"


def test_another_id_than_the_registered_one_is_refused_without_telling_it() -> None:
    whose = Subscription("Pay", ABN)
    with pytest.raises(JobRefusedError, match="is not the one that is registered") as refused:
        # Two digits that changed places: the control digit holds.
        software_id_for(a_job(software_id="0004789536"), whose, registered("0004785936", whose))
    assert refused.value.code == "software-id.mismatch"
    assert "0004785936" not in str(refused.value)


@pytest.mark.parametrize("carried", [None, "0004785936"])
def test_without_a_registered_id_the_refusal_says_the_command_that_makes_one(carried: str | None) -> None:
    with pytest.raises(JobRefusedError) as refused:
        software_id_for(a_job(software_id=carried), Subscription("Pay", ABN), None)
    assert refused.value.code == "software-id.unregistered"
    assert f'`lodge software-ids generate {ABN} --product "Pay"`' in str(refused.value)


def test_an_id_that_fails_is_refused_with_the_rule_unless_it_is_registered() -> None:
    whose, example = Subscription("Pay", ABN), a_job(software_id="1234567890")
    with pytest.raises(JobRefusedError, match="control digit must be 5"):
        software_id_for(example, whose, None)
    assert software_id_for(example, whose, registered("1234567890", whose, Checked.ALLOWED)).digits == "1234567890"


def test_where_the_channel_carries_none_only_the_rule_counts() -> None:
    assert unused_id(a_job()) is None
    assert unused_id(a_job(software_id="0004785936")) == "0004785936"
    with pytest.raises(JobRefusedError, match="software_id: control digit must be 5"):
        unused_id(a_job(software_id="1234567890"))


def test_jobs_that_name_no_product_keep_the_digest_that_they_had_before_there_were_products() -> None:
    digest = a_job().content_digest("0" * 64)
    fields = json.loads(a_job().model_dump_json(exclude={"payload"}))
    assert fields.pop("software_product") is None
    fields["payload"] = {"sha256": "0" * 64, "media_type": "application/xml"}
    canonical = json.dumps(fields, sort_keys=True, separators=(",", ":"))
    assert digest == hashlib.sha256(canonical.encode()).hexdigest()
    assert a_job(software_product="Pay").content_digest("0" * 64) != digest
