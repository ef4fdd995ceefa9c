"""A master key file for tests."""

import base64
import secrets
from pathlib import Path


def write_master_key(path: Path) -> Path:
    """A fresh key in a file of its owner's alone."""
    path.touch(mode=0o600)
    path.write_text(base64.b64encode(secrets.token_bytes(32)).decode())
    return path
