"""Synthetic rows. The ABN is the example from the Australian Business Register's own pages."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path

from pipeline.ledger.artifact_rows import NewArtifact
from pipeline.ledger.lodgment_rows import NewLodgment
from pipeline.ledger.tables import ArtifactKind
from pipeline.lodgment.decisions import Tally
from pipeline.lodgment.failures import Party
from pipeline.lodgment.lodgment import Attempt, Lodgment, Purpose, Reason
from pipeline.lodgment.references import TokenKey, TokenKeyHash
from pipeline.lodgment.states import State
from pipeline.protocol.wstrust import SecurityToken
from tests.doubles.lodgments import NOW, a_lodgment, fresh_id

SOON = NOW + timedelta(minutes=5)


def on_disk(folder: Path) -> bytes:
    """Every byte of a SQLite ledger, its log included."""
    return b"".join(path.read_bytes() for path in folder.glob("ledger.db*"))


def a_full_lodgment() -> Lodgment:
    """Every field set, each to a value of its own."""
    return replace(
        a_lodgment(),
        content_digest="1" * 64,
        software_id="1234567895",
        order_key="51824753556/001/BMS",
        priority=7,
        due_date=date(2026, 12, 1),
        state=State.PARKED,
        version=6,
        due_at=NOW + timedelta(hours=1),
        resume=State.SEALED,
        reason=Reason("asic:FAULT.UNAVAILABLE", "the agency is away — back soon", Party.AGENCY),
        tally=Tally(2, 3),
        token_key=TokenKeyHash("a" * 64),
        token_expires_at=NOW + timedelta(hours=2),
        envelope_id=fresh_id(),
        attempt_id=fresh_id(),
        attempts=4,
        sent_at=NOW + timedelta(seconds=1),
        agency_reference="ref-1",
        document_number="doc-1",
        finished_at=NOW + timedelta(seconds=2),
        facts={"submission": "7f9c", "quote": "' \" é"},
        gateway="cloud",
        hold_id=fresh_id(),
        watch_at=NOW + timedelta(minutes=4),
        replayed_at=NOW + timedelta(seconds=3),
    )


def parked(lodgment: Lodgment, code: str, due_at: datetime = SOON) -> Lodgment:
    reason = Reason(code, "waits", Party.NOBODY)
    return replace(lodgment, state=State.PARKED, due_at=due_at, resume=State.SEALED, reason=reason)


def new(lodgments: Sequence[Lodgment]) -> list[NewLodgment]:
    return [NewLodgment(item, '{"version":1}', {"run": "synthetic"}) for item in lodgments]


def a_payload(lodgment: Lodgment, content: bytes) -> NewArtifact:
    return NewArtifact(lodgment.payload_id, lodgment.id, ArtifactKind.PAYLOAD, content, NOW)


def an_attempt(lodgment: Lodgment, number: int = 1) -> Attempt:
    return Attempt(
        id=fresh_id(),
        lodgment_id=lodgment.id,
        number=number,
        purpose=Purpose.SUBMIT,
        worker="transport-1",
        url="https://agency.example/business-names",
        envelope_id=fresh_id(),
        started_at=NOW,
    )


def a_token_key(second_party: str | None = "51824753556") -> TokenKey:
    return TokenKey(
        environment="sandbox",
        sts="https://sts.example/",
        applies_to="https://agency.example/",
        credential="ABRD:11000002568_Payroll",
        second_party=second_party,
        software_id=None,
        claims=("abn", "commonname"),
        key_size=512,
    )


def a_token(
    expires_at: datetime = NOW + timedelta(minutes=30), proof_key: bytes = b"a synthetic proof key"
) -> SecurityToken:
    return SecurityToken(
        assertion=b"<EncryptedAssertion>synthetic</EncryptedAssertion>",
        proof_key=proof_key,
        assertion_id="_assertion-1",
        created_at=NOW,
        expires_at=expires_at,
    )
