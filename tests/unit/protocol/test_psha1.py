"""P_SHA1, against OpenSSL's answer and against the definition written out."""

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.protocol.psha1 import p_sha1

SECRET = bytes(range(32))
SEED = bytes([*range(0xF0, 0x100), *range(0xE0, 0xF0)])
KNOWN = bytes.fromhex(
    "b4ec4d5fb382d77ea940f8a23b071ec695676f6116d38c6cacc5920dc859f762368439720056d478276999e9846bbc57"
)
"""`openssl kdf -keylen 48 -kdfopt digest:SHA1 -kdfopt hexsecret:... -kdfopt hexseed:... TLS1-PRF`, OpenSSL 3.0."""


@pytest.mark.parametrize("size", [16, 20, 21, 32, 48])
def test_gives_what_openssl_gives_cut_at_any_size(size: int) -> None:
    assert p_sha1(SECRET, SEED, size) == KNOWN[:size]


def _hmac_sha1(key: bytes, message: bytes) -> bytes:
    """RFC 2104, 2, without the library that is used for it elsewhere."""
    padded = (hashlib.sha1(key).digest() if len(key) > 64 else key).ljust(64, b"\0")  # noqa: S324  - what P_SHA1 is made of
    inner = hashlib.sha1(bytes(byte ^ 0x36 for byte in padded) + message).digest()  # noqa: S324
    return hashlib.sha1(bytes(byte ^ 0x5C for byte in padded) + inner).digest()  # noqa: S324


@settings(deadline=None)
@given(secret=st.binary(min_size=16, max_size=128), seed=st.binary(min_size=16, max_size=128))
def test_is_the_chain_of_rfc_2246_section_5(secret: bytes, seed: bytes) -> None:
    first = _hmac_sha1(secret, seed)
    second = _hmac_sha1(secret, first)
    expected = _hmac_sha1(secret, first + seed) + _hmac_sha1(secret, second + seed)
    assert p_sha1(secret, seed, 40) == expected
