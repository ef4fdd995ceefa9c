"""Synthetic keystores to try things out with, each from an authority of its own."""

import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta

from cryptography.hazmat.primitives.serialization import Encoding
from stdnum.au import abn as abn_rules

from pipeline.lodgment.errors import ConfigurationError
from pipeline.protocol.credential import Credential, RsaKey
from pipeline.protocol.synthetic_keystore import VINTAGES, write
from pipeline.sandbox import certificates

_LIFETIME = timedelta(days=730)
_BACKDATED = timedelta(minutes=10)


def synthetic_keystore(
    abns: Sequence[str], name: str, password: str, now: datetime, *, vintage: str, days: int
) -> bytes:
    """A `keystore.xml` with a device credential for each ABN, which expires `days` from now.

    Raises:
        ConfigurationError: `sandbox.abn`, `sandbox.name` or `sandbox.vintage`.
    """
    for abn in abns:
        if not abn_rules.is_valid(abn):
            raise ConfigurationError(
                "sandbox.abn", f"--abn: {abn!r} is no ABN: 11 digits, of which two check the others"
            )
    if not name.strip() or not name.isprintable() or len(name) > _NAME_LIMIT:
        raise ConfigurationError("sandbox.name", f"--name: 1 to {_NAME_LIMIT} printable characters are needed")
    if vintage not in VINTAGES:
        text = f"--vintage: {vintage!r} is not one of {', '.join(VINTAGES)}"
        raise ConfigurationError("sandbox.vintage", text)
    until = now + timedelta(days=days)
    since = until - max(_LIFETIME, timedelta(days=days)) - _BACKDATED
    root = certificates.root_authority(min(since, now))
    authority = certificates.credential_authority(root, min(since, now))
    chain = (authority.certificate, root.certificate)
    made = []
    for abn in abns:
        pair = certificates.machine_credential(authority, abn, name, since, until)
        der = pair.certificate.public_bytes(Encoding.DER)
        made.append(Credential(f"ABRD:{abn}_{name}", abn, name, pair.certificate, der, RsaKey(pair.key), chain))
    return write(made, password, secrets.token_bytes(32), VINTAGES[vintage])


_NAME_LIMIT = 64
"""Characters of a common name (X.520, ub-common-name)."""
