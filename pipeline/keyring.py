"""The machine credentials at hand, read from key files and a PKCS#11 token, and read again when a file is replaced."""

import hashlib
import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog

from pipeline.lodgment.errors import ConfigurationError
from pipeline.lodgment.failures import Blast, Failure, FailureClass, Party
from pipeline.pkcs11 import Pkcs11Token
from pipeline.protocol.credential import Credential
from pipeline.protocol.key_files import of_certificates, read_entries
from pipeline.protocol.keystore import KeystoreError, Unusable, select, usable
from pipeline.secret_files import read_secret, require_private

log = structlog.get_logger(__name__)

KEY_FILES = (".xml", ".pem", ".p12", ".pfx")
"""The files of a folder that are read; others are left alone."""
_SETTLED = 2_000_000_000
"""Nanoseconds. A file touched so lately may change again in one tick of its clock: its bytes decide, not its times."""
_RETRY_EVERY = 10.0
"""Seconds between looks at what could not be used, though no file changed: the token may be back."""

Entry = Credential | Unusable


@dataclass(frozen=True, slots=True)
class KeyPlaces:
    """Where credentials are.

    `keystore` is a key file, or a folder of key files. A certificate `name.pem` may have its key in `name.key`, and any
    file a password of its own in `name.xml.password`; else it is that of `password_file`. With a `token`, private keys
    are there and nowhere else; without `keystore`, so are the certificates.
    """

    keystore: Path | None
    password_file: Path | None
    token: Pkcs11Token | None = None


@dataclass(frozen=True, slots=True)
class Holding:
    """One credential, usable or not, and the file that it came from; None for a token."""

    entry: Entry
    file: Path | None


_Stamp = tuple[int, int, int, int] | None


class Keyring:
    """The credentials of all its places, as they are now.

    A replacement that cannot be read, as when it is half written, is told once; the credentials at hand stay, and it is
    tried again. A credential that cannot be used is told by its id and takes no other with it.
    """

    def __init__(self, places: KeyPlaces) -> None:
        self._places = places
        self._held: dict[Path | None, tuple[Entry, ...]] = {}
        self._digests: dict[Path | None, bytes] = {}
        self._seen: dict[Path, _Stamp] = {}
        self._settled = False
        self._retry_at: float | None = None
        self._told: dict[str, str] = {}
        self._chosen: dict[str, Credential] = {}

    def all(self) -> Sequence[Credential]:
        """Every credential that can be used.

        Raises:
            KeystoreError: there is none, and never was.
        """
        return usable(one.entry for one in self.holdings())

    def holdings(self) -> Sequence[Holding]:
        """Every credential, also those that cannot be used."""
        self._reread()
        return [Holding(entry, file) for file, entries in self._held.items() for entry in entries]

    def get(self, credential_id: str) -> Credential | Failure:
        """The credential with this id or ABN, or a failure that holds what needs it."""
        self._reread()
        known = self._chosen.get(credential_id)
        if known is not None:
            return known
        entries = [entry for entries in self._held.values() for entry in entries]
        good = [one for one in entries if isinstance(one, Credential)]
        try:
            found = select(good, credential_id, [one for one in entries if isinstance(one, Unusable)])
        except KeystoreError as error:
            return _failure(error.code, str(error), "Put it into the keystore")
        if found.weakness is not None:
            return _failure("keystore.weak", found.weakness, "Get a machine credential in RAM and put it in its place")
        self._chosen[credential_id] = found
        return found

    def _reread(self) -> None:
        """Read what changed. Stamps spare the reading, digests the unlocking, and neither is believed alone."""
        retry = self._retry_at is not None and time.monotonic() >= self._retry_at
        if self._settled and not retry and all(_stamp(path) == stamp for path, stamp in self._seen.items()):
            return
        files = self._key_files()
        # Before the reading: what changes during it differs from these the next time.
        self._seen = {path: _stamp(path) for path in self._watched(files)}
        newest = max((stamp[0] for stamp in self._seen.values() if stamp is not None), default=0)
        self._settled = newest <= time.time_ns() - _SETTLED
        self._chosen.clear()
        wrong: dict[str, str] = {}
        places: Sequence[Path | None] = [None] if self._places.keystore is None else files
        self._held = {place: self._entries(place, wrong, again=retry) for place in places} or self._empty(wrong)
        self._digests = {place: digest for place, digest in self._digests.items() if place in self._held}
        self._tell(wrong)

    def _empty(self, wrong: dict[str, str]) -> dict[Path | None, tuple[Entry, ...]]:
        """A folder without a key file: perhaps it is emptied before it is filled anew."""
        assert self._places.keystore is not None  # noqa: S101  - what is not a folder is taken for a file
        text = f"{self._places.keystore} holds no key file: one of {', '.join(KEY_FILES)} is needed"
        wrong[str(self._places.keystore)] = text
        nothing = Unusable(self._places.keystore.name, "", KeystoreError("keystore.file", text))
        return self._held or {self._places.keystore: (nothing,)}

    def _entries(self, place: Path | None, wrong: dict[str, str], *, again: bool) -> tuple[Entry, ...]:
        """What is in one place now; what is `wrong` there is told under the place's name, or the credential's."""
        before = self._held.get(place, ())
        name = str(place or "token")
        try:
            content, password = self._content(place)
            digest = hashlib.sha256(password.encode() + b"\0" + content).digest()
            same = digest == self._digests.get(place)
            if same and not again:
                wrong.update({key: text for key, text in self._told.items() if key.partition("\n")[0] == name})
                return before
            self._digests[place] = digest
            entries = self._read(place, content, password)
            good = usable(entries)
        except (OSError, KeystoreError, ConfigurationError) as error:
            trouble = _trouble(error, name)
            wrong[name] = str(trouble)
            kept = tuple(one for one in before if isinstance(one, Credential))
            return kept or (Unusable(place.name if place is not None else name, "", trouble),)
        wrong.update({f"{name}\n{one.id}": str(one.error) for one in entries if isinstance(one, Unusable)})
        if not same:
            log.info("keyring.read", keystore=name, credentials=[one.id for one in good])
        return entries

    def _content(self, place: Path | None) -> tuple[bytes, str]:
        """The file's bytes with those of the key beside it, and its password.

        Raises:
            ConfigurationError: a file is readable by others, or a password file is missing or empty.
            OSError: a file cannot be read.
        """
        if place is None:
            return b"", ""
        password_file, parts = self._places.password_file, []
        for path in (place, *_key_beside(place)):
            if path == place or path.exists():
                require_private(path, "keystore" if path == place else "private key")
                parts.append(path.read_bytes())
        if _password_beside(place).exists():
            password_file = _password_beside(place)
        password = "" if password_file is None else read_secret(password_file, "keystore password")
        return b"\n".join(parts), password

    def _read(self, place: Path | None, content: bytes, password: str) -> tuple[Entry, ...]:
        token = self._places.token
        if place is not None:
            return read_entries(content, password, None if token is None else token.key)
        assert token is not None  # noqa: S101  - without key files there is a token
        return _of_token(token)

    def _tell(self, wrong: dict[str, str]) -> None:
        """Say what is newly wrong, once, and look again later."""
        for key, text in wrong.items():
            if self._told.get(key) != text:
                name, _, credential = key.partition("\n")
                event = "keyring.credential_unusable" if credential else "keyring.unreadable"
                log.warning(event, keystore=name, reason=text, **({"credential": credential} if credential else {}))
        self._told = wrong
        self._retry_at = time.monotonic() + _RETRY_EVERY if wrong else None

    def _key_files(self) -> list[Path]:
        place = self._places.keystore
        if place is None:
            return []
        if not place.is_dir():
            return [place]
        return sorted(
            one for one in place.iterdir() if one.suffix in KEY_FILES and not one.name.startswith(".") and one.is_file()
        )

    def _watched(self, files: Iterable[Path]) -> Iterable[Path]:
        for path in files:
            yield from (path, *_key_beside(path), _password_beside(path))
        if self._places.keystore is not None:
            yield self._places.keystore
        if self._places.password_file is not None:
            yield self._places.password_file
        if self._places.token is not None:
            yield self._places.token.pin_file


def _of_token(token: Pkcs11Token) -> tuple[Entry, ...]:
    """A credential for each certificate in the token that has its key there; the others are their issuers'."""
    certificates = token.certificates()
    found: list[Entry] = []
    for leaf in certificates:
        others = [one for one in certificates if one != leaf]
        try:
            token.key(leaf)
        except KeystoreError as error:
            if error.code != "pkcs11.key":
                raise
        else:
            found.append(of_certificates((leaf, *others), token.key))
    if not found:
        text = f"the token {token.label!r} holds no certificate that has its private key there; set `keystore` to one"
        raise KeystoreError("pkcs11.key", text)
    return tuple(found)


def _trouble(error: OSError | KeystoreError | ConfigurationError, name: str) -> KeystoreError:
    match error:
        case KeystoreError():
            return error
        case ConfigurationError():
            return KeystoreError(error.code, str(error))
        case _:
            return KeystoreError("keystore.file", f"the keystore {name} cannot be read: {error.strerror}")


def _failure(code: str, detail: str, remedy: str) -> Failure:
    return Failure(
        kind=FailureClass.OUR_CREDENTIAL,
        code=code,
        detail=detail,
        advice=f"The machine credential cannot be used. {remedy}, then release the lodgment.",
        who=Party.OPERATOR,
        blast=Blast.CREDENTIAL,
    )


def _key_beside(path: Path) -> tuple[Path, ...]:
    return (path.with_suffix(".key"),) if path.suffix == ".pem" else ()


def _password_beside(path: Path) -> Path:
    return path.with_name(f"{path.name}.password")


def _stamp(path: Path) -> _Stamp:
    try:
        status = os.stat(path)  # noqa: PTH116  - asked for every envelope; this is the quick way
    except OSError:
        return None
    return max(status.st_mtime_ns, status.st_ctime_ns), status.st_mtime_ns, status.st_size, status.st_ino
