"""A synthetic lodgment, freshly received; tests replace what they are about."""

import os
from datetime import UTC, datetime, timedelta
from uuid import UUID

from pipeline.lodgment.lodgment import Lodgment
from pipeline.lodgment.references import MessageReferenceNumber, uuid7
from pipeline.lodgment.states import State

NOW = datetime(2026, 11, 23, 2, 30, 0, 123456, tzinfo=UTC)


def fresh_id(now: datetime = NOW) -> UUID:
    return uuid7(now, os.urandom(10))


def a_lodgment(now: datetime = NOW) -> Lodgment:
    lodgment_id = fresh_id(now)
    return Lodgment(
        id=lodgment_id,
        reference=MessageReferenceNumber(str(lodgment_id)),
        job_id=f"job-{lodgment_id}",
        content_digest="0" * 64,
        channel="asic_bn",
        service="business-names",
        action="bnLodgeApplication",
        environment="sandbox",
        sender_id="SYNTHETIC-1",
        sender_type="REGA",
        party_abn="51824753556",
        credential="ABRD:51824753556_Synthetic",
        software_id=None,
        order_key=None,
        priority=5,
        due_date=None,
        received_at=now,
        payload_id=fresh_id(now),
        facts={},
        state=State.RECEIVED,
        due_at=now + timedelta(minutes=5),
    )
