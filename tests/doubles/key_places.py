"""A PKCS#11 token of a test's own, in SoftHSM, and files that only their owner can read."""

from pathlib import Path
from uuid import uuid4

from pipeline.pkcs11 import Pkcs11Token
from tests.services.softhsm import PIN, SoftHsm


class TokenOfATest:
    """A token in SoftHSM, and the file with its PIN."""

    def __init__(self, hsm: SoftHsm, folder: Path) -> None:
        self.hsm = hsm
        self.label = f"lodge-{uuid4().hex[:12]}"
        self.pin_file = private(folder / "token.pin", PIN.encode())
        hsm.make_token(self.label)

    def opened(self) -> Pkcs11Token:
        return Pkcs11Token(self.hsm.module, self.label, self.pin_file)


def private(path: Path, content: bytes) -> Path:
    """A file that only its owner can read."""
    path.touch(mode=0o600)
    path.write_bytes(content)
    return path
