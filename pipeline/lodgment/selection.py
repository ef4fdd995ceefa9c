"""Which lodgments are meant: conditions on what the ledger knows of them, as a person types them."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from enum import StrEnum

from pipeline.lodgment.errors import ConfigurationError, quoted
from pipeline.lodgment.job import LABEL_NAME_LIMIT
from pipeline.lodgment.states import State


class Kind(StrEnum):
    """What a field holds, and so how it can be compared."""

    TEXT = "text"
    STATE = "state"
    MOMENT = "time"
    DAY = "day"


FIELDS = {
    "state": Kind.STATE,
    "code": Kind.TEXT,
    "who": Kind.TEXT,
    "channel": Kind.TEXT,
    "service": Kind.TEXT,
    "action": Kind.TEXT,
    "abn": Kind.TEXT,
    "sender": Kind.TEXT,
    "credential": Kind.TEXT,
    "software-id": Kind.TEXT,
    "order-key": Kind.TEXT,
    "job": Kind.TEXT,
    "reference": Kind.TEXT,
    "received": Kind.MOMENT,
    "sent": Kind.MOMENT,
    "finished": Kind.MOMENT,
    "due": Kind.DAY,
}
"""The fields that conditions may name; beside them `label.NAME` for each of the producer's labels."""
LABEL = "label."

_CONDITION = re.compile(r"\s*(?P<field>[A-Za-z-]+(?:\.[^\s=!<>]+)?)\s*(?P<sign>!=|>=|<|=)\s*(?P<value>.*)", re.DOTALL)
_AND = re.compile(r"(?<!\s)\s+and\s+(?=[A-Za-z-]+(?:\.[^\s=!<>]+)?\s*(?:!=|>=|<|=))", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition. With `=` and `!=`, `values` are alternatives, and one that ends in `*` is a beginning; with `>=`
    and `<` there is one.
    """

    field: str
    sign: str
    values: tuple[str | datetime | date, ...]


def read_conditions(texts: Iterable[str]) -> tuple[Condition, ...]:
    """The conditions in these texts, all of which must hold; `and` joins several in one text.

    Raises:
        ConfigurationError: `where.*`; names the field, the rule and the fix.
    """
    parts = [part for text in texts for part in _AND.split(text)]
    if not any(part.strip() for part in parts):
        text = "--where: says nothing; give at least one condition, for example --where state=held"
        raise ConfigurationError("where.empty", text)
    return tuple(_condition(part) for part in parts)


def _condition(text: str) -> Condition:
    found = _CONDITION.fullmatch(text)
    if found is None:
        rule = "a condition is FIELD=VALUE, FIELD!=VALUE, FIELD>=TIME or FIELD<TIME, joined by `and`"
        raise ConfigurationError("where.condition", f"--where {quoted(text.strip())}: {rule}")
    field, sign, value = found["field"], found["sign"], found["value"].strip()
    a_label = field.startswith(LABEL) and field.isprintable() and len(field) <= len(LABEL) + LABEL_NAME_LIMIT
    kind = Kind.TEXT if a_label else FIELDS.get(field)
    if kind is None:
        legal = ", ".join((*FIELDS, f"{LABEL}NAME"))
        raise ConfigurationError("where.field", f"--where: there is no field {quoted(field)}; fields are {legal}")
    if not value:
        raise ConfigurationError("where.value", f"--where {field}: says nothing after {sign}")
    if kind in {Kind.MOMENT, Kind.DAY}:
        if sign not in {">=", "<"}:
            rule = f"is a {kind}: give {field}>=… for the beginning, {field}<… for the end, or both"
            raise ConfigurationError("where.sign", f"--where {field}: {rule}")
        return Condition(field, sign, (_moment(field, value) if kind is Kind.MOMENT else _day(field, value),))
    if sign not in {"=", "!="}:
        rule = "is a text: compare it with = or !="
        raise ConfigurationError("where.sign", f"--where {field}: {rule}")
    values = tuple(one.strip() for one in value.split(","))
    if not all(values):
        raise ConfigurationError("where.value", f"--where {field}: one of the alternatives between commas is empty")
    if kind is Kind.STATE:
        values = tuple(_state(one) for one in values)
    return Condition(field, sign, values)


def _state(value: str) -> str:
    try:
        return State(value.lower().replace(" ", "_").replace("-", "_"))
    except ValueError:
        states = ", ".join(State)
        raise ConfigurationError(
            "where.value", f"--where state: {quoted(value)} is none; states are {states}"
        ) from None


def _moment(field: str, value: str) -> datetime:
    try:
        moment = datetime.fromisoformat(value)
        in_utc = None if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):  # the latter before the year 1 or after 9999, in UTC
        in_utc = None
    if in_utc is None:
        rule = "must be a time with its zone, for example 2026-11-25T02:00+11:00 or 2026-11-24T15:00Z"
        raise ConfigurationError("where.value", f"--where {field}: {quoted(value)} {rule}")
    return in_utc


def _day(field: str, value: str) -> date:
    try:
        return date.fromisoformat(value)
    except ValueError:
        text = f"--where {field}: {quoted(value)} must be a day, for example 2026-11-25"
        raise ConfigurationError("where.value", text) from None
