"""Every table of the ledger. A change here needs a migration; a test compares both on PostgreSQL and on SQLite."""

from pipeline.ledger.tables.barriers import OPEN_HOLD, channel_state, hold
from pipeline.ledger.tables.columns import Id, Json, Moment, metadata, quoted, utc_text
from pipeline.ledger.tables.history import (
    PARTITIONED,
    ArtifactKind,
    artifact,
    attachment,
    attempt,
    message_event,
    payee_map,
)
from pipeline.ledger.tables.lodgments import (
    HELD,
    NOT_FINAL,
    NOT_YET_WARM,
    UNDER_WAY,
    WAITING_AT_DOOR,
    WAITING_FOR_TOKEN,
    lodgment,
)
from pipeline.ledger.tables.replays import BUSY_REPLAY, OPEN_ITEM, replay, replay_item
from pipeline.ledger.tables.shares import sender_share, waiting_job
from pipeline.ledger.tables.tokens import LEASED, TO_ASK, UNSETTLED, TokenState, security_token
from pipeline.ledger.tables.upkeep import ACTIVE, ledger_identity, operator_action, quarantine, software_id, sweep

__all__ = [
    "ACTIVE",
    "BUSY_REPLAY",
    "HELD",
    "LEASED",
    "NOT_FINAL",
    "NOT_YET_WARM",
    "OPEN_HOLD",
    "OPEN_ITEM",
    "PARTITIONED",
    "TO_ASK",
    "UNDER_WAY",
    "UNSETTLED",
    "WAITING_AT_DOOR",
    "WAITING_FOR_TOKEN",
    "ArtifactKind",
    "Id",
    "Json",
    "Moment",
    "TokenState",
    "artifact",
    "attachment",
    "attempt",
    "channel_state",
    "hold",
    "ledger_identity",
    "lodgment",
    "message_event",
    "metadata",
    "operator_action",
    "payee_map",
    "quarantine",
    "quoted",
    "replay",
    "replay_item",
    "security_token",
    "sender_share",
    "software_id",
    "sweep",
    "utc_text",
    "waiting_job",
]
