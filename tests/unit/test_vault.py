from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.ledger.vault import MASTER_KEY_BYTES, Vault
from pipeline.lodgment.errors import ConfigurationError, RefusedError

OLD, NEW = bytes(range(32)), bytes(range(32, 64))
ROW = b"artifact 1"


@given(content=st.binary(max_size=5000), context=st.binary(max_size=100))
def test_opens_what_it_sealed(content: bytes, context: bytes) -> None:
    vault = Vault([OLD])
    assert vault.open(vault.seal(content, context), context) == content


def test_seals_the_same_content_differently_each_time() -> None:
    vault = Vault([OLD])
    blobs = sorted(vault.seal(b"the same", ROW) for _ in range(50))
    assert all(one != other for one, other in pairwise(blobs))


def test_shows_nothing_of_the_content_in_the_blob() -> None:
    assert b"tax file number" not in Vault([OLD]).seal(b"a synthetic tax file number", ROW)


def test_opens_with_an_older_key_after_rotation_and_seals_with_the_newest() -> None:
    before = Vault([OLD]).seal(b"kept", ROW)
    rotated = Vault([NEW, OLD])
    assert rotated.open(before, ROW) == b"kept"
    assert Vault([NEW]).open(rotated.seal(b"fresh", ROW), ROW) == b"fresh"


def test_names_the_missing_master_key_when_it_was_taken_away() -> None:
    blob = Vault([OLD]).seal(b"kept", ROW)
    with pytest.raises(ConfigurationError, match=blob[1:9].hex()) as refusal:
        Vault([NEW]).open(blob, ROW)
    assert refusal.value.code == "vault.key_unknown"


def test_refuses_a_blob_that_was_moved_to_another_row() -> None:
    vault = Vault([OLD])
    with pytest.raises(RefusedError) as refusal:
        vault.open(vault.seal(b"mine", b"artifact 1"), b"artifact 2")
    assert refusal.value.code == "vault.damaged"


@given(bit=st.integers(min_value=9 * 8, max_value=(9 + 12 + 10 + 16) * 8 - 1))
def test_refuses_a_blob_with_any_bit_of_nonce_ciphertext_or_tag_turned(bit: int) -> None:
    vault = Vault([OLD])
    blob = bytearray(vault.seal(b"ten bytes!", ROW))
    blob[bit // 8] ^= 1 << bit % 8
    with pytest.raises(RefusedError, match="changed"):
        vault.open(bytes(blob), ROW)


@pytest.mark.parametrize("blob", [b"", b"\x01", b"\x02" * 60, bytes(range(8))])
def test_refuses_what_is_no_sealed_blob(blob: bytes) -> None:
    with pytest.raises(RefusedError):
        Vault([OLD]).open(blob[:8], ROW)


@pytest.mark.parametrize("keys", [[], [b"short"], [OLD, b"x" * 33]])
def test_refuses_to_start_with_a_key_of_the_wrong_length(keys: list[bytes]) -> None:
    with pytest.raises(ConfigurationError, match="32 random bytes") as refusal:
        Vault(keys)
    assert refusal.value.code == "vault.key"


def test_shows_no_key_in_its_repr() -> None:
    text = repr(Vault([OLD, NEW]))
    assert OLD.hex() not in text
    assert str(OLD) not in text
    assert len(OLD) == MASTER_KEY_BYTES


def _opened(vault: Vault, blob: bytes, context: bytes, size: int) -> bytes:
    """The content of a blob that comes in pieces of so many bytes."""
    opening = vault.opening(context)
    content = b"".join(opening.feed(blob[start : start + size]) for start in range(0, len(blob), size))
    opening.finish()
    return content


@given(
    pieces=st.lists(st.binary(max_size=3000), max_size=5), context=st.binary(max_size=100), size=st.integers(1, 5000)
)
def test_in_pieces_it_seals_and_opens_the_same_as_in_one(pieces: list[bytes], context: bytes, size: int) -> None:
    vault, content = Vault([OLD]), b"".join(pieces)
    assert vault.open(b"".join(vault.seal_pieces(pieces, context)), context) == content
    assert _opened(vault, vault.seal(content, context), context, size) == content


@given(bit=st.integers(min_value=9 * 8, max_value=(9 + 12 + 10 + 16) * 8 - 1))
def test_a_changed_blob_that_comes_in_pieces_is_told_at_its_end(bit: int) -> None:
    vault = Vault([OLD])
    blob = bytearray(vault.seal(b"ten bytes!", ROW))
    blob[bit // 8] ^= 1 << bit % 8
    opening = vault.opening(ROW)
    opening.feed(bytes(blob))
    with pytest.raises(RefusedError, match="changed"):
        opening.finish()


@pytest.mark.parametrize(
    "blob", [b"", b"\x01", b"\x02" * 60, Vault([OLD]).seal(b"", ROW)[:-20]], ids=["empty", "format", "strange", "cut"]
)
def test_refuses_in_pieces_what_is_no_blob(blob: bytes) -> None:
    with pytest.raises(RefusedError, match="not a sealed blob"):
        _opened(Vault([OLD]), blob, ROW, 7)
