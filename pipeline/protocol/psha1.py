"""P_SHA1 (RFC 2246, 5), by which WS-Trust computes a key from what both sides contribute (WS-Trust 1.3, 4.4.4)."""

import hmac

from pipeline.protocol.namespaces import Ns

COMPUTED_KEY_ALGORITHM = f"{Ns.WST}/CK/PSHA1"


def p_sha1(secret: bytes, seed: bytes, size: int) -> bytes:
    """`size` bytes. For a computed key `secret` is the requestor's entropy and `seed` the issuer's."""
    key, step = b"", seed
    while len(key) < size:
        step = hmac.digest(secret, step, "sha1")
        key += hmac.digest(secret, step + seed, "sha1")
    return key[:size]
