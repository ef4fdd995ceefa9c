"""Conditions as people type them, and what they are told when they mistype."""

from datetime import UTC, date, datetime

import pytest

from pipeline.lodgment.errors import ConfigurationError
from pipeline.lodgment.selection import FIELDS, Condition, read_conditions


def test_conditions_are_read_from_one_text_or_from_several() -> None:
    texts = ["state=held, parked and code = asic:FAULT.*", "received>=2026-11-25T02:00+11:00", "due<2026-12-01"]
    assert read_conditions(texts) == (
        Condition("state", "=", ("held", "parked")),
        Condition("code", "=", ("asic:FAULT.*",)),
        Condition("received", ">=", (datetime(2026, 11, 24, 15, tzinfo=UTC),)),
        Condition("due", "<", (date(2026, 12, 1),)),
    )


def test_a_value_may_hold_the_word_and() -> None:
    found = read_conditions(["credential=Smith and Sons AND label.batch!=tonight"])
    assert found == (Condition("credential", "=", ("Smith and Sons",)), Condition("label.batch", "!=", ("tonight",)))


@pytest.mark.parametrize("field", sorted(FIELDS))
def test_every_field_can_be_asked_about(field: str) -> None:
    texts = {
        "text": f"{field}=x",
        "state": f"{field}=held",
        "time": f"{field}<2026-11-25T00:00Z",
        "day": f"{field}<2026-11-25",
    }
    [found] = read_conditions([texts[FIELDS[field]]])
    assert found.field == field


@pytest.mark.parametrize(
    ("text", "code", "told"),
    [
        ("", "where.empty", "give at least one condition"),
        ("held", "where.condition", "FIELD=VALUE"),
        ("stat=held", "where.field", "there is no field 'stat'; fields are state, code"),
        ("state=hold", "where.value", "'hold' is none; states are received"),
        ("state>=held", "where.sign", "compare it with = or !="),
        ("code=", "where.value", "says nothing after ="),
        ("code=a,,b", "where.value", "between commas is empty"),
        ("received=2026-11-25T00:00Z", "where.sign", "give received>=… for the beginning"),
        ("received>=2026-11-25T02:00", "where.value", "must be a time with its zone"),
        ("received<yesterday", "where.value", "must be a time with its zone"),
        ("due<soon", "where.value", "must be a day"),
    ],
)
def test_a_condition_that_is_none_is_refused_with_its_field_rule_and_fix(text: str, code: str, told: str) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        read_conditions([text])
    assert refusal.value.code == code
    assert told in str(refusal.value)
    assert "--where" in str(refusal.value)
