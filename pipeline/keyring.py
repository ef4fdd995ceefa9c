"""The machine credentials at hand, read from key files and read again when a file is replaced."""

from collections.abc import Sequence
from pathlib import Path

import structlog

from pipeline.lodgment.failures import Blast, Failure, FailureClass, Party
from pipeline.protocol.credential import Credential
from pipeline.protocol.key_files import read_credentials
from pipeline.protocol.keystore import KeystoreError, select

log = structlog.get_logger(__name__)


class Keyring:
    """The credentials of one keystore.xml, PEM or PKCS#12 file.

    A replacement that cannot be read is told, and the credentials at hand stay.
    """

    def __init__(self, keystore: Path, password: str) -> None:
        self._keystore = keystore
        self._password = password
        self._stamp: tuple[int, int] | None = None
        self._credentials: tuple[Credential, ...] = ()

    def all(self) -> Sequence[Credential]:
        """Every credential of the keystore as it is now.

        Raises:
            KeystoreError: the keystore was never readable.
        """
        self._reread()
        return self._credentials

    def get(self, credential_id: str) -> Credential | Failure:
        """The credential with this id or ABN, or a failure that holds what needs it."""
        try:
            return select(self.all(), credential_id)
        except KeystoreError as error:
            return Failure(
                kind=FailureClass.OUR_CREDENTIAL,
                code=error.code,
                detail=str(error),
                advice="The machine credential cannot be used. Put it into the keystore, then release the lodgment.",
                who=Party.OPERATOR,
                blast=Blast.CREDENTIAL,
            )

    def _reread(self) -> None:
        try:
            status = self._keystore.stat()
            stamp = (status.st_mtime_ns, status.st_size)
            if stamp == self._stamp:
                return
            self._credentials = read_credentials(self._keystore.read_bytes(), self._password)
        except (OSError, KeystoreError) as error:
            if not self._credentials:
                text = f"the keystore {self._keystore} cannot be read"
                raise error if isinstance(error, KeystoreError) else KeystoreError("keystore.file", text) from error
            log.warning("keyring.unreadable", keystore=str(self._keystore), reason=str(error))
        else:
            self._stamp = stamp
            log.info("keyring.read", keystore=str(self._keystore), credentials=[c.id for c in self._credentials])
