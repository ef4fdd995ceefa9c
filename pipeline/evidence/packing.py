"""Evidence written from the ledger: streamed into the ZIP, the same to the byte for the same state of the ledger."""

import hashlib
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import IO
from uuid import UUID

import structlog

from pipeline.channels.explanations import Catalogue
from pipeline.evidence import messages, records
from pipeline.evidence.manifest import (
    MANIFEST,
    SIGNATURE,
    SIGNER,
    Absent,
    Envelope,
    File,
    Manifest,
    Of,
    Payload,
    Reply,
    written,
)
from pipeline.evidence.signing import SigningKey
from pipeline.ledger import artifacts
from pipeline.ledger.dossier import Dossier, StoredDocument, open_document, open_envelope
from pipeline.ledger.session import Tx
from pipeline.lodgment.lodgment import Attempt

log = structlog.get_logger(__name__)

_EPOCH = (1980, 1, 1, 0, 0, 0)
"""The earliest time that a ZIP can say: when evidence was written must not change its bytes."""
_OWNER_ALONE = 0o100600 << 16
_UNIX = 3
_GZIP = b"\x1f\x8b"
README = "README.txt"
_README = """Evidence of one lodgment, reference {reference}, as it was {state} (version {version}) in the ledger.

PERSONAL DATA: this file holds what was sent to and received from a government agency about named
people{documents}. Keep it as you would keep the payroll. It holds no key and no password.

manifest.json lists every file with its SHA-256. To check it without any of our programs:
each file against its hash in manifest.json, then, if manifest.json.sig is here, the signature:
  openssl x509 -in signer.pem -pubkey -noout > key.pem    (or: cp signer.pem key.pem, if it holds a public key)
  openssl dgst -sha256 -verify key.pem -signature manifest.json.sig manifest.json            (RSA, EC)
  openssl pkeyutl -verify -pubin -inkey key.pem -rawin -in manifest.json -sigfile manifest.json.sig   (Ed25519)
With our program: lodge evidence verify FILE.zip --trust CERTIFICATE_OR_KEY
"""


@dataclass(frozen=True, slots=True)
class Terms:
    """What goes in, and who signs."""

    documents: bool = True
    key: SigningKey | None = field(default=None, repr=False)


async def pack(tx: Tx, book: Dossier, target: IO[bytes], terms: Terms) -> Manifest:
    """Write evidence of a lodgment to `target`, which must be seekable; what was written when it raises is no evidence.

    Raises:
        RefusedError: `artifact.damaged`, `vault.damaged`: what is stored is not what was sent or came.
    """
    with zipfile.ZipFile(target, "w") as container:
        packing = _Packing(tx, book, container, terms)
        manifest = await packing.everything()
        content = written(manifest)
        packing.add(MANIFEST, (content,))
        if terms.key is not None:
            packing.add(SIGNATURE, (terms.key.sign(content),))
            packing.add(SIGNER, (terms.key.pem,))
    log.info(
        "evidence.written", lodgment=str(book.lodgment.id), files=len(manifest.files), signed=terms.key is not None
    )
    return manifest


class _Packing:
    """One container that is being written."""

    def __init__(self, tx: Tx, book: Dossier, container: zipfile.ZipFile, terms: Terms) -> None:
        self._tx = tx
        self._book = book
        self._container = container
        self._terms = terms
        self._files: list[File] = []
        self._names: dict[str, str] = {}
        """Where each document went, by its id."""
        self._absent: list[Absent] = []

    async def everything(self) -> Manifest:
        row, terms = self._book.lodgment, self._terms
        payload = await self._payload()
        envelopes = [await self._envelope(key, tries) for key, tries in _by_envelope(self._book.attempts).items()]
        replies = [await self._reply(one) for one in self._book.attempts if one.reply_id is not None]
        for name, (role, content) in records.members(self._book, self._names, Catalogue()).items():
            self._keep(name, role, (content,))
        documents = "" if terms.documents else "; the documents themselves were left out"
        readme = _README.format(reference=row.reference, state=row.state, version=row.version, documents=documents)
        self._keep(README, "readme", (readme.encode(),))
        return Manifest(
            schema="lodgment-evidence",
            version=1,
            lodgment=Of(
                id=str(row.id),
                reference=row.reference,
                channel=row.channel,
                environment=row.environment,
                state=str(row.state),
                version=row.version,
            ),
            personal_data=True,
            documents="included" if terms.documents else "left out",
            payload=payload,
            envelopes=tuple(one for one in envelopes if one is not None),
            replies=tuple(one for one in replies if one is not None),
            absent=tuple(self._absent),
            files=tuple(sorted(self._files, key=lambda one: one.name)),
            signer=None if terms.key is None else terms.key.signer,
        )

    def add(self, name: str, pieces: Iterable[bytes]) -> tuple[str, int]:
        """Write a member; its SHA-256 and its size."""
        entry = zipfile.ZipInfo(name, _EPOCH)
        entry.compress_type, entry.create_system, entry.external_attr = zipfile.ZIP_DEFLATED, _UNIX, _OWNER_ALONE
        digest, size = hashlib.sha256(), 0
        with self._container.open(entry, "w") as member:
            for piece in pieces:
                digest.update(piece)
                size += len(piece)
                member.write(piece)
        return digest.hexdigest(), size

    def _keep(self, name: str, role: str, pieces: Iterable[bytes]) -> None:
        sha256, size = self.add(name, pieces)
        self._files.append(File(name=name, role=role, sha256=sha256, size=size))

    def _document(self, what: str, key: UUID) -> StoredDocument | None:
        found = self._book.documents.get(key)
        if found is None:
            self._absent.append(Absent(what=what, id=str(key)))
        return found

    async def _payload(self) -> Payload | None:
        stored = self._document("payload", self._book.lodgment.payload_id)
        if stored is None:
            return None
        name = None
        if self._terms.documents:
            pieces = await open_document(self._tx, stored)
            first = next(pieces, b"")
            name = "payload.gz" if first.startswith(_GZIP) else "payload.xml"
            self._keep(name, "payload", _again(first, pieces))
        return Payload(file=name, sha256=stored.sha256, size=stored.size)

    async def _envelope(self, key: UUID, tries: list[int]) -> Envelope | None:
        number = f"{tries[0]:04}"
        stored = self._document("envelope", key)
        if stored is None:
            return None
        if stored.payload_id is not None and stored.payload_id not in self._book.documents:
            # Without the document between them, head and tail prove nothing that could be checked.
            self._absent.append(Absent(what="envelope", id=str(key)))
            return None
        opened = await open_envelope(self._tx, stored)
        around = f"envelopes/{number}.{_suffix(opened.head)}"
        whole = self._terms.documents or stored.payload_id is None
        parts = () if whole else (f"envelopes/{number}.head", f"envelopes/{number}.tail")
        if whole:
            self._keep(around, "envelope", opened.pieces())
        for part, content in zip(parts, (opened.head, opened.tail), strict=False):
            self._keep(part, "envelope-part", (content,))
        self._names[str(key)] = around if whole else f"envelopes/{number}.head"
        return Envelope(
            attempts=tuple(tries),
            file=around if whole else None,
            parts=parts,
            sha256=stored.sha256,
            size=stored.size,
            head=len(opened.head),
            tail=len(opened.tail),
            has_payload=stored.payload_id is not None,
            created_at=stored.created_at.isoformat(timespec="microseconds"),
            assertion_sha256=records.assertion_digest(opened.head),
        )

    async def _reply(self, attempt: Attempt) -> Reply | None:
        assert attempt.reply_id is not None  # noqa: S101  - those without are left out before
        stored = self._document("reply", attempt.reply_id)
        if stored is None:
            return None
        content = (await artifacts.read(self._tx, [stored.id]))[stored.id]
        content_type = attempt.content_type or ""
        name = f"replies/{attempt.number:04}.{_suffix(content)}"
        self._names[str(stored.id)] = name
        self._keep(name, "reply", (content,))
        return Reply(
            attempt=attempt.number,
            file=name,
            kind=messages.kind_of(self._book.lodgment.channel, content_type, content),
            content_type=content_type,
            http_status=attempt.http_status,
        )


def _by_envelope(attempts: Iterable[Attempt]) -> Mapping[UUID, list[int]]:
    """The numbers of the attempts that sent each envelope, in the order in which envelopes were first sent."""
    found: dict[UUID, list[int]] = {}
    for one in attempts:
        found.setdefault(one.envelope_id, []).append(one.number)
    return found


def _suffix(content: bytes) -> str:
    """For people who open it: multipart, XML, or whatever it is."""
    start = content[:64].lstrip()
    return "mime" if start.startswith(b"--") else "xml" if start.startswith(b"<") else "bin"


def _again(first: bytes, pieces: Iterable[bytes]) -> Iterable[bytes]:
    yield first
    yield from pieces
