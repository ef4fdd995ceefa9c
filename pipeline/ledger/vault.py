"""Secrets at rest: AES-256-GCM (NIST SP 800-38D) under keys derived from master keys by HKDF-SHA256 (RFC 5869)."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import AEADDecryptionContext, Cipher
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import GCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from pipeline.lodgment.errors import ConfigurationError, RefusedError

MASTER_KEY_BYTES = 32
_FORMAT = b"\x01"
_KEY_ID_BYTES = 8
_NONCE_BYTES = 12
_TAG_BYTES = 16
HEADER_BYTES = len(_FORMAT) + _KEY_ID_BYTES
_START_BYTES = HEADER_BYTES + _NONCE_BYTES


@dataclass(frozen=True, slots=True, repr=False)
class _SealingKey:
    id: bytes
    cipher: AESGCM
    secret: bytes


class Vault:
    """Seals with the newest master key and opens with any that it knows, so keys are rotated by adding one in front.

    A sealed blob is `format (1) | key id (8) | nonce (12) | ciphertext and tag`. Nonces are random, so that one master
    key may seal 2**32 blobs (SP 800-38D, 8.3): at a million lodgments a day, change it every year.
    """

    def __init__(self, master_keys: Sequence[bytes]) -> None:
        """`master_keys`, newest first, 32 random bytes each.

        Raises:
            ConfigurationError: `vault.key`, no key or one of another length.
        """
        if not master_keys:
            raise ConfigurationError("vault.key", "the master key is missing: give at least one of 32 random bytes")
        if any(len(key) != MASTER_KEY_BYTES for key in master_keys):
            raise ConfigurationError("vault.key", f"a master key must be exactly {MASTER_KEY_BYTES} random bytes")
        keys = [_derive(master) for master in master_keys]
        self._newest = keys[0]
        self._known = {key.id: key for key in keys}

    def __repr__(self) -> str:
        return f"Vault(sealing with {self._newest.id.hex()}, opening with {len(self._known)})"

    def seal(self, content: bytes, context: bytes) -> bytes:
        """`content` under the newest key. It opens only with the same `context`: the kind and id of its row."""
        header = _FORMAT + self._newest.id
        nonce = os.urandom(_NONCE_BYTES)
        return header + nonce + self._newest.cipher.encrypt(nonce, content, header + context)

    def open(self, sealed: bytes, context: bytes) -> bytes:
        """What was sealed with this `context`.

        Raises:
            ConfigurationError: `vault.key_unknown`, sealed under a master key that is not configured any more.
            RefusedError: `vault.damaged`, changed since, moved from another row, or not a sealed blob.
        """
        header, nonce = sealed[:HEADER_BYTES], sealed[HEADER_BYTES : HEADER_BYTES + _NONCE_BYTES]
        key = self._key_of(header)
        if len(nonce) < _NONCE_BYTES:
            raise _damaged()
        try:
            # A view: a document of 50 MB is not copied only to be cut.
            return key.cipher.decrypt(nonce, memoryview(sealed)[HEADER_BYTES + _NONCE_BYTES :], header + context)
        except InvalidTag as error:
            raise _does_not_open() from error

    def seal_pieces(self, pieces: Iterable[bytes], context: bytes) -> Iterator[bytes]:
        """As `seal`, piece by piece, for what is too large to stand in memory beside its sealed form."""
        header = _FORMAT + self._newest.id
        nonce = os.urandom(_NONCE_BYTES)
        cipher = Cipher(AES256(self._newest.secret), GCM(nonce)).encryptor()
        cipher.authenticate_additional_data(header + context)
        yield header + nonce
        for piece in pieces:
            yield cipher.update(piece)
        yield cipher.finalize() + cipher.tag

    def opening(self, context: bytes) -> "Opening":
        """As `open`, for a blob that comes in pieces."""
        return Opening(self._key_of, context)

    def check(self, header: bytes) -> None:
        """See that a blob with these first `HEADER_BYTES` can be opened.

        Raises:
            ConfigurationError: as for `open`.
            RefusedError: as for `open`.
        """
        self._key_of(header)

    def _key_of(self, header: bytes) -> _SealingKey:
        if not header.startswith(_FORMAT) or len(header) < HEADER_BYTES:
            raise _damaged()
        key = self._known.get(header[len(_FORMAT) :])
        if key is None:
            raise ConfigurationError(
                "vault.key_unknown",
                f"sealed under master key {header[len(_FORMAT) :].hex()}, which is not configured: "
                "add that key after the newest one",
            )
        return key


class Opening:
    """A blob that is opened while it is read: its tag comes last, and until then it may have been changed."""

    def __init__(self, key_of: Callable[[bytes], _SealingKey], context: bytes) -> None:
        self._key_of = key_of
        self._context = context
        self._waiting = b""
        self._cipher: AEADDecryptionContext | None = None

    def feed(self, sealed: bytes | memoryview) -> bytes:
        """The next of what was sealed, not to be believed before `finish`.

        Raises:
            ConfigurationError: as for `Vault.open`.
            RefusedError: as for `Vault.open`.
        """
        waiting = b"".join((self._waiting, sealed))
        if self._cipher is None:
            if len(waiting) < _START_BYTES:
                self._waiting = waiting
                return b""
            self._cipher = self._begun(waiting[:HEADER_BYTES], waiting[HEADER_BYTES:_START_BYTES])
            waiting = waiting[_START_BYTES:]
        self._waiting = waiting[-_TAG_BYTES:]
        return self._cipher.update(waiting[:-_TAG_BYTES])

    def finish(self) -> None:
        """See that all that was given is what was sealed.

        Raises:
            RefusedError: as for `Vault.open`.
        """
        if self._cipher is None:
            self._key_of(self._waiting[:HEADER_BYTES])  # of one that was cut short, too, a missing key is told
            raise _damaged()
        if len(self._waiting) < _TAG_BYTES:
            raise _damaged()
        try:
            self._cipher.finalize_with_tag(self._waiting)
        except InvalidTag as error:
            raise _does_not_open() from error

    def _begun(self, header: bytes, nonce: bytes) -> AEADDecryptionContext:
        cipher = Cipher(AES256(self._key_of(header).secret), GCM(nonce)).decryptor()
        cipher.authenticate_additional_data(header + self._context)
        return cipher


def _damaged() -> RefusedError:
    return RefusedError("vault.damaged", "not a sealed blob of this vault: it was changed after it was written")


def _does_not_open() -> RefusedError:
    return RefusedError("vault.damaged", "a sealed blob does not open: it was changed, or moved from another row")


def _derive(master: bytes) -> _SealingKey:
    """The sealing key and its public id, from independent outputs of HKDF so that the id tells nothing of the key."""
    material = HKDF(
        algorithm=SHA256(),
        length=MASTER_KEY_BYTES + _KEY_ID_BYTES,
        salt=None,
        info=b"lodgment-pipeline vault 1",
    ).derive(master)
    secret = material[:MASTER_KEY_BYTES]
    return _SealingKey(material[MASTER_KEY_BYTES:], AESGCM(secret), secret)
