"""The form in which a document is stored: compressed, and sealed so that it opens in its own row alone."""

import hashlib
import zlib
from collections.abc import Iterator
from uuid import UUID

from pipeline.ledger.vault import Opening, Vault
from pipeline.lodgment.errors import RefusedError

CODEC = "zlib+vault"
PIECE = 256 * 1024
"""Bytes of a document, or of its stored form, that are worked on at a time."""
LARGE = 256 * 1024
"""Bytes from which on a document goes into the ledger, and its stored form comes out, in pieces."""
_LEVEL = 1  # XML shrinks to a quarter; higher levels cost three times the CPU for a few percent


def context(artifact_id: UUID) -> bytes:
    """What a document is sealed with besides the key."""
    return b"artifact " + artifact_id.bytes


def damaged(artifact_id: UUID) -> RefusedError:
    """What is said of a document that is not what was stored."""
    return RefusedError("artifact.damaged", f"artifact {artifact_id} does not have the hash it was stored with")


def packed(vault: Vault, artifact_id: UUID, content: bytes) -> bytes:
    """The stored form, in one."""
    return vault.seal(zlib.compress(content, _LEVEL), context(artifact_id))


def packed_pieces(vault: Vault, artifact_id: UUID, content: bytes) -> Iterator[bytes]:
    """The stored form in pieces, which opens the same."""
    return vault.seal_pieces(_deflated(content), context(artifact_id))


def unpacked(vault: Vault, artifact_id: UUID, stored: bytes) -> bytes:
    """The document of a stored form at hand.

    Raises:
        ConfigurationError: `vault.key_unknown`.
        RefusedError: `vault.damaged`.
    """
    return zlib.decompress(vault.open(stored, context(artifact_id)))


class Unpacking:
    """A stored form that is read in pieces. The document is good only when `finish` has found nothing wrong."""

    def __init__(self, vault: Vault, artifact_id: UUID, sha256: str) -> None:
        """`sha256`, in hex, is the document's."""
        self._id = artifact_id
        self._sha256 = sha256
        self._opening: Opening = vault.opening(context(artifact_id))
        self._inflate = zlib.decompressobj()
        self._digest = hashlib.sha256()

    def feed(self, stored: bytes) -> Iterator[bytes]:
        """What the next of the stored form gives, in pieces of at most `PIECE` bytes; read all of it.

        Raises:
            ConfigurationError: `vault.key_unknown`.
            RefusedError: `vault.damaged`, `artifact.damaged`.
        """
        view = memoryview(stored)
        for start in range(0, len(view), PIECE):
            yield from self._inflated(self._opening.feed(view[start : start + PIECE]))

    def finish(self) -> None:
        """See that it was all, and what was stored.

        Raises:
            RefusedError: as for `feed`.
        """
        self._opening.finish()
        if not self._inflate.eof or self._digest.hexdigest() != self._sha256:
            raise damaged(self._id)

    def _inflated(self, waiting: bytes) -> Iterator[bytes]:
        full = True
        while waiting or full:
            try:
                piece = self._inflate.decompress(waiting, PIECE)
            except zlib.error as error:
                raise damaged(self._id) from error
            waiting = self._inflate.unconsumed_tail
            # All input may be used up while the window still holds output.
            full = len(piece) == PIECE
            if piece:
                self._digest.update(piece)
                yield piece


def _deflated(content: bytes) -> Iterator[bytes]:
    deflate, view = zlib.compressobj(_LEVEL), memoryview(content)
    for start in range(0, len(content), PIECE):
        yield deflate.compress(view[start : start + PIECE])
    yield deflate.flush()
