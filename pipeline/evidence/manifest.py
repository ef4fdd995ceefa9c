"""The manifest of an evidence file: what is in it, by name, size and SHA-256. Its bytes are what is signed."""

import json
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipeline.lodgment.errors import RefusedError
from pipeline.lodgment.job import problems_of

SCHEMA = "lodgment-evidence"
VERSION = 1
MANIFEST, SIGNATURE, SIGNER = "manifest.json", "manifest.json.sig", "signer.pem"
UNLISTED = frozenset({MANIFEST, SIGNATURE, SIGNER})
"""What is in the ZIP and not in its list: the list, its signature, and who signed."""
NAME = r"[A-Za-z0-9][A-Za-z0-9_-]*(\.[A-Za-z0-9]+)*(/[A-Za-z0-9][A-Za-z0-9_-]*(\.[A-Za-z0-9]+)*)*"
"""A name in an evidence file: letters, digits, `-` and `_`, with extensions, in folders; never absolute, never `..`."""

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Size = Annotated[int, Field(ge=0)]
Name = Annotated[str, Field(pattern=f"^{NAME}$", max_length=200)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Of(_Part):
    """The lodgment, and which of its versions the ledger held."""

    id: str
    reference: str
    channel: str
    environment: str
    state: str
    version: int


class File(_Part):
    name: Name
    role: str
    sha256: Sha256
    size: Size


class Payload(_Part):
    """The document as it was sent. `file` is None where it was left out."""

    file: Name | None
    sha256: Sha256
    size: Size


class Envelope(_Part):
    """What went over the wire: as a whole in `file`, or as what stood before and after the document in `parts`."""

    attempts: tuple[int, ...]
    file: Name | None
    parts: tuple[Name, ...]
    sha256: Sha256
    size: Size
    head: Size
    """Bytes before the document; all of them where there is none."""
    tail: Size
    has_payload: bool
    created_at: str
    assertion_sha256: Sha256 | None
    """Of what is in the EncryptedAssertion element: which security token it was sent with."""


class Reply(_Part):
    """What came back, to the byte. `kind` is what it reads as: `receipt`, `response`, `error`, `reply`."""

    attempt: int
    file: Name
    kind: str
    content_type: str
    http_status: int | None


class Absent(_Part):
    """A document that the ledger has no more."""

    what: str
    id: str


class Signer(_Part):
    """Whose key signs; `key_sha256` is of the public key as SubjectPublicKeyInfo in DER."""

    algorithm: str
    key_sha256: Sha256


class Manifest(_Part):
    """All of it. Files are in the order of their names."""

    schema_name: Literal["lodgment-evidence"] = Field(alias="schema")
    version: Literal[1]
    lodgment: Of
    personal_data: Literal[True]
    documents: Literal["included", "left out"]
    payload: Payload | None
    envelopes: tuple[Envelope, ...]
    replies: tuple[Reply, ...]
    absent: tuple[Absent, ...]
    files: tuple[File, ...]
    signer: Signer | None


def written(manifest: Manifest) -> bytes:
    """The one way in which a manifest is written: sorted, UTF-8, two blanks, a line feed at the end."""
    return as_json(manifest.model_dump(mode="json", by_alias=True))


def as_json(value: object) -> bytes:
    """JSON, the same to the byte for the same value."""
    return (json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()


def read(content: bytes) -> Manifest:
    """A manifest, believed only if it is written the one way, so that no two readers can see different things in it.

    Raises:
        RefusedError: `evidence.schema`, of another kind or a later version; `evidence.manifest`.
    """
    try:
        loaded = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise RefusedError("evidence.manifest", f"{MANIFEST}: is not JSON in UTF-8: it was damaged") from error
    found = (loaded.get("schema"), loaded.get("version")) if isinstance(loaded, dict) else (None, None)
    if found != (SCHEMA, VERSION):
        text = (
            f"{MANIFEST}: schema and version must be {SCHEMA!r} and {VERSION}, they are {found[0]!r} and {found[1]!r}"
        )
        raise RefusedError("evidence.schema", f"{text[:300]}: use the version of lodge that wrote it")
    try:
        manifest = Manifest.model_validate_json(content)
    except ValidationError as error:
        problems = "; ".join(problems_of(error)[:5])
        raise RefusedError("evidence.manifest", f"{MANIFEST}: {problems}") from error
    if written(manifest) != content:
        raise RefusedError("evidence.manifest", f"{MANIFEST}: is not written as lodge writes it: it was changed")
    names = [one.name for one in manifest.files]
    if names != sorted(set(names)) or not UNLISTED.isdisjoint(names):
        raise RefusedError("evidence.manifest", f"{MANIFEST}: files must be listed once each, in order")
    known = set(names)
    used = {name for one in manifest.envelopes for name in (one.file, *one.parts) if name is not None}
    used |= {one.file for one in manifest.replies}
    if manifest.payload is not None and manifest.payload.file is not None:
        used.add(manifest.payload.file)
    if not used <= known:
        raise RefusedError("evidence.manifest", f"{MANIFEST}: names {min(used - known)}, which is not in its files")
    return manifest
