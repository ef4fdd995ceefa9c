"""Whether evidence holds: every hash, nothing extra, nothing missing, the operator's signature, and those inside.

Everything is read from the ZIP alone. What fails is told by the name of the file, and hides nothing else.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from pipeline.evidence import manifest as manifests
from pipeline.evidence.container import Container, Limits
from pipeline.evidence.manifest import MANIFEST, SIGNATURE, SIGNER, Envelope, Manifest, Payload
from pipeline.evidence.messages import Proven, Sent, UnprovenError, prove_receipt, prove_response, prove_sent
from pipeline.evidence.signing import Vouchers, fingerprint, holds, read_signer
from pipeline.lodgment.errors import RefusedError
from pipeline.protocol.xml import DOCUMENT_LIMIT


class Verdict(StrEnum):
    PASS = "pass"  # noqa: S105  - a verdict, not a secret
    NOTE = "note"
    """What this cannot settle."""
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at: `what` is a file in the ZIP."""

    verdict: Verdict
    what: str
    text: str


@dataclass(frozen=True, slots=True)
class Checked:
    """What was found, and of which lodgment."""

    manifest: Manifest
    findings: tuple[Finding, ...]

    @property
    def good(self) -> bool:
        return all(one.verdict is not Verdict.FAIL for one in self.findings)


def check(path: Path, vouchers: Vouchers | None = None, limits: Limits | None = None) -> Checked:
    """Look at everything. With `vouchers` the operator's signature must be there, and theirs.

    Raises:
        ConfigurationError: `evidence.file`.
        RefusedError: it is no evidence file, or one made to do harm; names the member.
    """
    with Container(path, limits or Limits()) as container:
        if MANIFEST not in container.names:
            raise RefusedError(
                "evidence.missing", f"{path} holds no {MANIFEST}: it is no evidence file, or was robbed of it"
            )
        content = container.read(MANIFEST)
        manifest = manifests.read(content)
        return Checked(manifest, tuple(_Checking(container, manifest).everything(content, vouchers)))


class _Checking:
    """One pass over a container; what failed is not looked at twice."""

    def __init__(self, container: Container, manifest: Manifest) -> None:
        self._container = container
        self._manifest = manifest
        self._sound: set[str] = set()
        """Members that have the size and the hash that the manifest says."""
        self._proven: dict[int, Proven] = {}
        """What was sent, by the number of the attempt."""

    def everything(self, content: bytes, vouchers: Vouchers | None) -> Iterator[Finding]:
        yield from self._signature(content, vouchers)
        yield from self._members()
        yield from self._files()
        yield from self._payload()
        for envelope in self._manifest.envelopes:
            yield from self._envelope(envelope)
        yield from self._replies()
        for absent in self._manifest.absent:
            yield Finding(Verdict.NOTE, absent.what, f"{absent.id} was no longer in the ledger")

    def _signature(self, content: bytes, vouchers: Vouchers | None) -> Iterator[Finding]:
        names, signer = self._container.names, self._manifest.signer
        if signer is None:
            verdict = Verdict.NOTE if vouchers is None else Verdict.FAIL
            yield Finding(verdict, MANIFEST, "is not signed: whoever has it could have made it")
            return
        missing = {SIGNATURE, SIGNER} - names
        if missing:
            yield Finding(
                Verdict.FAIL, MANIFEST, f"says that it is signed, and {', '.join(sorted(missing))} is missing"
            )
            return
        try:
            key, certificates = read_signer(self._container.read(SIGNER))
            signature = self._container.read(SIGNATURE)
        except RefusedError as error:
            yield Finding(Verdict.FAIL, SIGNER, str(error))
            return
        if fingerprint(key) != signer.key_sha256:
            yield Finding(Verdict.FAIL, SIGNER, "is not the key that the manifest names")
            return
        if not holds(key, signer.algorithm, signature, content):
            yield Finding(Verdict.FAIL, SIGNATURE, f"is not the signature of {SIGNER} over {MANIFEST}")
            return
        who = certificates[0].subject.rfc4514_string()[:200] if certificates else "a key without certificate"
        text = f"signed by {who}, key SHA-256 {signer.key_sha256}, {signer.algorithm}"
        yield Finding(Verdict.PASS, SIGNATURE, text)
        if vouchers is None:
            yield Finding(Verdict.NOTE, SIGNER, "nobody vouches for this key: compare its SHA-256, or give --trust")
        elif vouchers.vouch_for(key, certificates):
            yield Finding(Verdict.PASS, SIGNER, "is trusted, as --trust says")
        else:
            yield Finding(Verdict.FAIL, SIGNER, "is neither a key of --trust nor certified by an authority in it")

    def _members(self) -> Iterator[Finding]:
        listed = {one.name for one in self._manifest.files}
        allowed = listed | ({MANIFEST} if self._manifest.signer is None else manifests.UNLISTED)
        for name in sorted(self._container.names - allowed):
            yield Finding(Verdict.FAIL, name, "is not in the manifest: it was added")
        for name in sorted(listed - self._container.names):
            yield Finding(Verdict.FAIL, name, "is missing: it was taken out")

    def _files(self) -> Iterator[Finding]:
        for one in self._manifest.files:
            if one.name not in self._container.names:
                continue
            size = self._container.size(one.name)
            if size != one.size:
                text = f"has {size} bytes, the manifest says {one.size}: it was changed"
                yield Finding(Verdict.FAIL, one.name, text)
                continue
            digest = hashlib.sha256()
            try:
                for piece in self._container.pieces(one.name):
                    digest.update(piece)
            except RefusedError as error:
                yield Finding(Verdict.FAIL, one.name, str(error))
                continue
            if digest.hexdigest() == one.sha256:
                self._sound.add(one.name)
                yield Finding(Verdict.PASS, one.name, f"{one.size} bytes, SHA-256 {one.sha256}")
            else:
                yield Finding(
                    Verdict.FAIL, one.name, "does not have the SHA-256 that the manifest says: it was changed"
                )

    def _payload(self) -> Iterator[Finding]:
        payload = self._manifest.payload
        if payload is None:
            return
        if payload.file is None:
            yield Finding(Verdict.NOTE, "payload", f"was left out; its SHA-256 is {payload.sha256}")
            return
        entry = next(one for one in self._manifest.files if one.name == payload.file)
        if (entry.sha256, entry.size) != (payload.sha256, payload.size):
            yield Finding(Verdict.FAIL, payload.file, "is not the document that the manifest says was sent")

    def _envelope(self, envelope: Envelope) -> Iterator[Finding]:
        names = (envelope.file,) if envelope.file is not None else envelope.parts
        shown = names[0] if names else "envelope"
        if not names:
            yield Finding(Verdict.FAIL, shown, "neither it nor its parts are in the manifest")
            return
        if not self._sound.issuperset(names):
            yield Finding(Verdict.NOTE, shown, "its signatures were not looked at: it is missing or was changed")
            return
        fault = self._shape(envelope)
        if fault is not None:
            yield Finding(Verdict.FAIL, shown, fault)
            return
        if envelope.size > DOCUMENT_LIMIT:
            yield Finding(
                Verdict.NOTE, shown, f"is larger than {DOCUMENT_LIMIT} bytes: its signatures were not looked at"
            )
            return
        try:
            proven = prove_sent(self._manifest.lodgment.channel, self._sent(envelope, names[0]))
        except UnprovenError as error:
            yield Finding(Verdict.FAIL, shown, f"does not prove what it should: {error}")
            return
        self._proven.update(dict.fromkeys(envelope.attempts, proven))
        if proven.text:
            yield Finding(Verdict.PASS, shown, proven.text)
        if proven.open:
            yield Finding(Verdict.NOTE, shown, proven.open)

    def _shape(self, envelope: Envelope) -> str | None:
        """What is wrong with an envelope as a whole: its hash, its parts, the document in it."""
        if envelope.file is None:
            return self._shape_of_parts(envelope)
        payload = self._manifest.payload
        digest, middle, at = hashlib.sha256(), hashlib.sha256(), 0
        end = envelope.size - envelope.tail
        for piece in self._container.pieces(envelope.file):
            digest.update(piece)
            middle.update(piece[max(envelope.head - at, 0) : max(end - at, 0)])
            at += len(piece)
        if (digest.hexdigest(), at) != (envelope.sha256, envelope.size):
            return "does not have the SHA-256 that the manifest says the envelope had"
        if not envelope.has_payload:
            return None if envelope.head + envelope.tail == envelope.size else "has more than head and tail"
        return None if payload is None or middle.hexdigest() == payload.sha256 else "is not around the document"

    def _shape_of_parts(self, envelope: Envelope) -> str | None:
        payload = self._manifest.payload
        if payload is None or len(envelope.parts) != 2 or not envelope.has_payload:
            return "must be a whole, or two parts around a document"
        sizes = tuple(self._container.size(one) for one in envelope.parts)
        if sizes != (envelope.head, envelope.tail) or sum(sizes) + payload.size != envelope.size:
            return "has not the size that the manifest says"
        return None

    def _sent(self, envelope: Envelope, name: str) -> Sent:
        reference = self._manifest.lodgment.reference
        content = b"".join(self._container.pieces(name))
        payload: Payload | None = None if envelope.file is not None else self._manifest.payload
        return Sent(content, reference, None if payload is None else payload.sha256)

    def _replies(self) -> Iterator[Finding]:
        for one in self._manifest.replies:
            if one.file not in self._sound or one.kind not in {"receipt", "response"}:
                continue
            if self._container.size(one.file) > DOCUMENT_LIMIT:
                yield Finding(Verdict.NOTE, one.file, f"is larger than {DOCUMENT_LIMIT} bytes: it was not looked at")
                continue
            content = b"".join(self._container.pieces(one.file))
            try:
                if one.kind == "response":
                    yield Finding(Verdict.PASS, one.file, prove_response(one.content_type, content))
                elif one.attempt in self._proven:
                    said = prove_receipt(one.content_type, content, self._proven[one.attempt])
                    yield Finding(Verdict.PASS, one.file, said)
            except UnprovenError as error:
                # It is what came, to the byte: that the agency sent something wrong is no fault of the evidence.
                yield Finding(Verdict.NOTE, one.file, f"came as it is, and does not prove anything: {error}")
