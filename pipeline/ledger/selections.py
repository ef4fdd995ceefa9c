"""Conditions on lodgments as SQL."""

from collections.abc import Collection, Sequence

import sqlalchemy as sa

from pipeline.ledger.batch import Dialect, encode
from pipeline.ledger.tables import lodgment
from pipeline.lodgment.selection import LABEL, Condition

_COLUMNS = {
    "state": lodgment.c.state,
    "code": lodgment.c.reason_code,
    "who": lodgment.c.reason_who,
    "channel": lodgment.c.channel,
    "service": lodgment.c.service,
    "action": lodgment.c.action,
    "abn": lodgment.c.party_abn,
    "sender": lodgment.c.sender_id,
    "credential": lodgment.c.credential,
    "software-id": lodgment.c.software_id,
    "order-key": lodgment.c.order_key,
    "job": lodgment.c.job_id,
    "reference": lodgment.c.reference,
    "received": lodgment.c.received_at,
    "sent": lodgment.c.sent_at,
    "finished": lodgment.c.finished_at,
    "due": lodgment.c.due_date,
}
"""By the names of `selection.FIELDS`."""


def meant(
    dialect: Dialect, conditions: Sequence[Condition], job_ids: Collection[str] | None = None
) -> sa.ColumnElement[bool]:
    """Whether a lodgment is meant: every condition holds and, where they are given, it is of one of these jobs."""
    every = [_holds(condition) for condition in conditions]
    if job_ids is not None:
        keys = sa.bindparam("job_ids", encode(job_ids), type_=sa.Text)
        if dialect is Dialect.SQLITE:
            each = sa.select(sa.func.json_each(keys).table_valued("value").c.value)
        else:
            each = sa.select(sa.func.json_array_elements_text(sa.cast(keys, sa.JSON)).table_valued("value").c.value)
        every.append(lodgment.c.job_id.in_(each))
    return sa.and_(sa.true(), *every)


def _holds(condition: Condition) -> sa.ColumnElement[bool]:
    if condition.field.startswith(LABEL):
        column: sa.ColumnElement[object] = lodgment.c.labels[condition.field.removeprefix(LABEL)].as_string()
    else:
        column = _COLUMNS[condition.field]
    [first, *_] = condition.values
    match condition.sign:
        case ">=":
            return column >= first
        case "<":
            return column < first
        case "!=":
            # What has no value is not that value.
            return sa.or_(column.is_(None), sa.not_(_one_of(column, condition.values)))
    return _one_of(column, condition.values)


def _one_of(column: sa.ColumnElement[object], values: Sequence[object]) -> sa.ColumnElement[bool]:
    beginnings = [str(value)[:-1] for value in values if str(value).endswith("*")]
    whole = [value for value in values if not str(value).endswith("*")]
    found = [column.startswith(beginning, autoescape=True) for beginning in beginnings]
    return sa.or_(column.in_(whole), *found) if whole else sa.or_(*found)
