"""Evidence that somebody hands us: the ZIP, its manifest, and the messages in it.

An input is the members as text, each under a line with its name. Sizes and hashes in the manifest are put right, so
that what is read after they were compared is reached, too; the ZIP itself is changed in a target of its own.
"""

import hashlib
import json
import zipfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from pipeline.evidence.checking import Verdict, check
from pipeline.evidence.container import Limits
from pipeline.evidence.manifest import MANIFEST, UNLISTED, Manifest, as_json, read, written
from pipeline.lodgment.errors import ConfigurationError, RefusedError
from tests.doubles import asic, sbr2
from tests.doubles.stp import pay_event
from tests.fuzz.mutation import JSON, XML, Form
from tests.fuzz.scratch import folder
from tests.fuzz.target import Target, must

_MARK = b"\n==== "
_LIMITS = Limits(members=50, member_bytes=1_000_000, total_bytes=4_000_000, small_bytes=200_000)
Members = Mapping[str, bytes]


def _manifest(channel: str, reference: str, envelope: str, members: Members, replies: Mapping[str, str]) -> bytes:
    """`replies` are the kinds of those members that are replies."""

    def of(name: str) -> dict[str, object]:
        return {"sha256": hashlib.sha256(members[name]).hexdigest(), "size": len(members[name])}

    whole, payload = members[envelope], members["payload.xml"]
    head = whole.find(payload) if payload in whole else len(whole)
    has_payload = payload in whole
    return as_json(
        {
            "schema": "lodgment-evidence",
            "version": 1,
            "lodgment": {
                "id": "a",
                "reference": reference,
                "channel": channel,
                "environment": "sandbox",
                "state": "accepted",
                "version": 9,
            },
            "personal_data": True,
            "documents": "included",
            "payload": {"file": "payload.xml", **of("payload.xml")},
            "envelopes": [
                {
                    "attempts": [1],
                    "file": envelope,
                    "parts": [],
                    **of(envelope),
                    "head": head,
                    "tail": len(whole) - head - len(payload) * has_payload,
                    "has_payload": has_payload,
                    "created_at": "2026-11-23T03:30:00Z",
                    "assertion_sha256": None,
                }
            ],
            "replies": [
                {"attempt": 1, "file": name, "kind": kind, "content_type": "application/soap+xml", "http_status": 200}
                for name, kind in replies.items()
            ],
            "absent": [{"what": "reply", "id": "b"}],
            "files": [{"name": name, "role": "kept", **of(name)} for name in sorted(members)],
            "signer": None,
        }
    )


@cache
def _texts() -> tuple[bytes, ...]:
    sealed = asic.make_channel().seal(asic.make_order())
    application = {"payload.xml": asic.PAYLOAD, "envelope.xml": asic.on_the_wire(sealed, asic.PAYLOAD)}
    prepared = sbr2.prepared(pay_event())
    row = sbr2.taken(prepared)
    pushed = sbr2.sealed(row, prepared.content)
    message_id = f"{row.reference}@{sbr2.DOMAIN}"
    push = {
        "payload.xml": prepared.content,
        "envelope.bin": asic.on_the_wire(pushed, pushed.payload),
        "replies/1.bin": sbr2.receipt(message_id),
        "replies/2.bin": sbr2.response(message_id, sbr2.events(("A.B.C", "Error", "1.2")))[1],
    }
    kinds = {"replies/1.bin": "receipt", "replies/2.bin": "response"}
    return (
        _text(application, _manifest("asic_bn", str(asic.LODGMENT_ID), "envelope.xml", application, {})),
        _text(push, _manifest("sbr2_stp", str(row.reference), "envelope.bin", push, kinds)),
    )


def _text(members: Members, manifest: bytes) -> bytes:
    everything = {MANIFEST: manifest, **members}
    return b"".join(b"".join((_MARK, name.encode(), b"\n", content)) for name, content in everything.items())


def _members(data: bytes) -> dict[str, bytes]:
    parts = [part.partition(b"\n") for part in data.split(_MARK)[1:]]
    return {name.decode("ascii", "replace"): content for name, _, content in parts}


def _put_right(members: dict[str, bytes]) -> None:
    """Sizes and hashes of what is there, wherever the manifest names it."""

    def visit(value: object) -> None:
        if isinstance(value, dict):
            content = members.get(str(value.get("name", value.get("file"))))
            if content is not None and "sha256" in value:
                value |= {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
        for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
            visit(inner)

    try:
        manifest = json.loads(members[MANIFEST])
        visit(manifest)
        members[MANIFEST] = as_json(manifest)
    except (KeyError, ValueError, RecursionError):
        return


def _zipped(members: Members) -> Path:
    path = folder() / "evidence.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as container:
        for name, content in members.items():
            container.writestr(zipfile.ZipInfo(name), content)
    return path


def _evidence(data: bytes) -> None:
    members = _members(data)
    _put_right(members)
    found = check(_zipped(members), None, _LIMITS)
    for one in found.findings:
        must(all(character >= " " for character in one.text), "a finding is one line of text")
    listed = {one.name for one in found.manifest.files}
    extra = members.keys() - listed - UNLISTED
    failed = {one.what for one in found.findings if one.verdict is Verdict.FAIL}
    must(extra <= failed and listed - members.keys() <= failed, "what was added or taken out is told")


@cache
def _zips() -> tuple[bytes, ...]:
    return tuple(_zipped(_members(text)).read_bytes() for text in _texts())


def _zip(data: bytes) -> None:
    path = folder() / "changed.zip"
    path.write_bytes(data)
    found = check(path, None, _LIMITS)
    must(data in _zips() or found.manifest is not None, "a manifest that was read")


def _manifest_seeds() -> Sequence[bytes]:
    return tuple(_members(text)[MANIFEST] for text in _texts())


def _read_manifest(data: bytes) -> None:
    manifest = read(data)
    must(written(manifest) == data, "a manifest is believed as it would be written, and no other way")
    must(isinstance(manifest, Manifest), "it is a manifest")


TARGETS = (
    Target(
        "evidence",
        "what was added, taken out or changed is told",
        _texts,
        _evidence,
        (RefusedError, ConfigurationError),
        Form(
            (*JSON.pieces[:2], *XML.pieces),
            (*JSON.values, b"receipt", b"response", b"sbr2_stp", b"asic_bn", b'"parts"', b"null"),
            holds_base64=True,
        ),
    ),
    Target("evidence-zip", "bounded in every direction", _zips, _zip, (RefusedError, ConfigurationError)),
    Target(
        "evidence-manifest",
        "believed only as it would be written",
        _manifest_seeds,
        _read_manifest,
        (RefusedError,),
        JSON,
    ),
)
