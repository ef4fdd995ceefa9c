"""What the ledger knows of a lodgment, as JSON: the members of evidence that are no documents."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Any

from pipeline.channels.explanations import Catalogue, Explanation
from pipeline.evidence.manifest import as_json
from pipeline.ledger.dossier import Dossier
from pipeline.lodgment.lodgment import Attempt

_ASSERTION = re.compile(
    rb"<(?P<name>(?:[A-Za-z0-9_-]+:)?EncryptedAssertion)(?:\s[^>]*)?>(?P<content>.*?)</(?P=name)\s*>", re.DOTALL
)
_MOVES = (
    "The ledger keeps a lodgment's state, its version and the times below; it keeps no row for each move."
    " Versions count the moves."
)


def members(book: Dossier, names: Mapping[str, str], catalogue: Catalogue) -> dict[str, tuple[str, bytes]]:
    """Role and content by name. `names` says in which file the document with an id is."""
    channel = book.lodgment.channel
    return {
        "lodgment.json": ("lodgment", as_json(_lodgment(book, catalogue))),
        "attempts.json": ("attempts", as_json([_attempt(one, names, channel, catalogue) for one in book.attempts])),
        "events.json": ("events", as_json(_events(book, catalogue))),
        "actions.json": ("actions", as_json([_plain(asdict(one)) for one in book.actions])),
        "token.json": ("token", as_json(_token(book))),
        "history.json": ("history", as_json({"note": _MOVES, "history": _history(book)})),
    }


def assertion_digest(head: bytes) -> str | None:
    """SHA-256 of what is between the tags of an envelope's EncryptedAssertion: which token it went with.

    The tags are not part of it: each envelope gives the element an id of its own.
    """
    found = _ASSERTION.search(head)
    return None if found is None else hashlib.sha256(found["content"]).hexdigest()


def _lodgment(book: Dossier, catalogue: Catalogue) -> dict[str, Any]:
    row = book.lodgment
    reason = None
    if row.reason is not None:
        reason = {
            "code": row.reason.code,
            "text": row.reason.text,
            "who": row.reason.who,
            "explanation": _explained(catalogue.find(row.reason.code, row.channel)),
        }
    return _plain(
        {
            "id": row.id,
            "reference": row.reference,
            "job_id": row.job_id,
            "channel": row.channel,
            "service": row.service,
            "action": row.action,
            "environment": row.environment,
            "gateway": row.gateway,
            "sender_id": row.sender_id,
            "sender_type": row.sender_type,
            "party_abn": row.party_abn,
            "credential": row.credential,
            "software_id": row.software_id,
            "software_id_registration": None if book.software_id is None else asdict(book.software_id),
            "order_key": row.order_key,
            "due_date": None if row.due_date is None else row.due_date.isoformat(),
            "content_digest": row.content_digest,
            "facts": dict(row.facts),
            "job": json.loads(book.job.job),
            "labels": dict(book.job.labels),
            "received_at": row.received_at,
            "outcome": {
                "state": row.state,
                "version": row.version,
                "reason": reason,
                "agency_reference": row.agency_reference,
                "document_number": row.document_number,
                "attempts": row.attempts,
                "sent_at": row.sent_at,
                "finished_at": row.finished_at,
                "due_at": row.due_at,
            },
        }
    )


def _attempt(attempt: Attempt, names: Mapping[str, str], channel: str, catalogue: Catalogue) -> dict[str, Any]:
    failure = None
    if attempt.failure is not None:
        explanation = _explained(catalogue.find(attempt.failure.code, channel))
        failure = {**asdict(attempt.failure), "explanation": explanation}
    return _plain(
        {
            "id": attempt.id,
            "number": attempt.number,
            "purpose": attempt.purpose,
            "worker": attempt.worker,
            "url": attempt.url,
            "envelope": names.get(str(attempt.envelope_id)),
            "reply": None if attempt.reply_id is None else names.get(str(attempt.reply_id)),
            "started_at": attempt.started_at,
            "wire_started_at": attempt.wire_started_at,
            "finished_at": attempt.finished_at,
            "http_status": attempt.http_status,
            "content_type": attempt.content_type,
            "failure": failure,
        }
    )


def _events(book: Dossier, catalogue: Catalogue) -> dict[str, Any]:
    channel, numbers = book.lodgment.channel, {one.id: one.number for one in book.attempts}
    codes = dict.fromkeys(one.event.code for one in book.events)
    return {
        "events": [
            _plain(
                {
                    **asdict(one.event),
                    "attempt": numbers.get(one.attempt_id),
                    "recorded_at": one.recorded_at,
                }
            )
            for one in book.events
        ],
        "explanations": {code: _explained(catalogue.find(code, channel)) for code in codes},
        "attachments": [_plain(asdict(one)) for one in book.attachments],
    }


def _token(book: Dossier) -> dict[str, Any]:
    """What was asked for, and the token itself where the key still has the one of the last envelope."""
    row, token = book.lodgment, book.token
    identity = None
    if token is not None:
        identity = _plain(asdict(token))
        if token.expires_at != row.token_expires_at:
            for name in ("assertion_id", "created_at", "expires_at"):
                identity[name] = None
    return {
        "key": row.token_key,
        "last_envelope_expires_at": None if row.token_expires_at is None else _when(row.token_expires_at),
        "identity": identity,
        "note": "The manifest names the token of each envelope by the SHA-256 of what its EncryptedAssertion holds."
        " Identifiers of a token stand here while the key still has the one of the last envelope.",
    }


def _history(book: Dossier) -> list[dict[str, Any]]:
    """Everything that has a time, in order; what happened at once stays in the order of its kind."""
    row = book.lodgment
    told: list[tuple[datetime, str, dict[str, Any]]] = [(row.received_at, "received", {"job_id": row.job_id})]
    sealed = {one.envelope_id for one in book.attempts}
    envelopes = sorted((book.documents[key] for key in sealed & book.documents.keys()), key=lambda one: one.id)
    told += [(one.created_at, "sealed", {"sha256": one.sha256, "size": one.size}) for one in envelopes]
    for one in book.attempts:
        number = {"attempt": one.number}
        told.append((one.started_at, "attempt begun", {**number, "purpose": one.purpose}))
        if one.wire_started_at is not None:
            told.append((one.wire_started_at, "first byte left", number))
        if one.finished_at is not None:
            said = f"HTTP {one.http_status}" if one.failure is None else one.failure.code
            told.append((one.finished_at, "attempt ended", {**number, "result": said}))
    recorded = {(one.recorded_at, one.attempt_id) for one in book.events}
    told += [(at, "outcome recorded", {}) for at, _ in sorted(recorded)]
    told += [(one.at, "done by hand", {"action": one.action, "who": one.who}) for one in book.actions]
    if row.finished_at is not None:
        told.append((row.finished_at, "final", {"state": row.state, "version": row.version}))
    return [{"at": _when(at), "what": what, **more} for at, what, more in sorted(told, key=lambda one: one[0])]


def _explained(found: Explanation | None) -> dict[str, Any] | None:
    return None if found is None else _plain(asdict(found))


def _plain(value: dict[str, Any]) -> dict[str, Any]:
    """Values as JSON has them."""
    return {name: _value(one) for name, one in value.items()}


def _value(value: object) -> object:
    match value:
        case datetime():
            return _when(value)
        case dict():
            return _plain(value)
        case list() | tuple():
            return [_value(one) for one in value]
        case None | bool() | int():
            return value
        case _:
            return str(value)


def _when(moment: datetime) -> str:
    return moment.isoformat(timespec="microseconds")
