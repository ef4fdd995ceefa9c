"""The operator's signature: the same every time, by any kind of key, and believed only as far as somebody vouches."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from pipeline.evidence.signing import holds, load_signing_key, read_signer, read_vouchers
from pipeline.lodgment.errors import ConfigurationError, RefusedError
from tests.doubles.evidence_keys import KINDS, certificate_of, key_file, key_of, of_an_unknown_kind, pem_of, public_pem

CONTENT = b'{"schema": "synthetic"}\n'
every_kind = pytest.mark.parametrize("kind", KINDS)


def too_short() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=1024)  # noqa: S505  - to be refused


@every_kind
def test_a_signature_is_the_same_every_time_and_holds(tmp_path: Path, kind: str) -> None:
    key = load_signing_key(key_file(tmp_path, pem_of(key_of(kind))), None)
    signature = key.sign(CONTENT)
    assert signature == key.sign(CONTENT)
    public, certificates = read_signer(key.pem)
    assert certificates == ()
    assert holds(public, key.signer.algorithm, signature, CONTENT)
    assert not holds(public, key.signer.algorithm, signature, CONTENT + b" ")
    assert not holds(public, key.signer.algorithm, signature[:-1] + bytes([signature[-1] ^ 1]), CONTENT)
    assert not holds(public, "some other algorithm", signature, CONTENT)
    other = key_of(kind, "other").public_key()
    assert not holds(other, key.signer.algorithm, signature, CONTENT)


@every_kind
def test_who_is_trusted_may_be_told_by_key_by_certificate_or_by_authority(tmp_path: Path, kind: str) -> None:
    authority_key, own_key = key_of("ec", "authority"), key_of(kind)
    authority = certificate_of(authority_key, "Synthetic authority")
    own = certificate_of(own_key, "Synthetic operator", authority, authority_key)
    key = load_signing_key(key_file(tmp_path, pem_of(own_key), pem_of(authority), pem_of(own)), None)
    assert key.certificates == (own, authority)
    public, certificates = read_signer(key.pem)
    for number, trusted in enumerate((public_pem(own_key), pem_of(own), pem_of(authority))):
        vouchers = read_vouchers(key_file(tmp_path, trusted, name=f"trust-{number}.pem"))
        assert vouchers.vouch_for(public, certificates)


def test_nobody_is_trusted_for_a_name(tmp_path: Path) -> None:
    authority_key, own_key = key_of("ec", "authority"), key_of("ec")
    authority = certificate_of(authority_key, "Synthetic authority")
    own = certificate_of(own_key, "Synthetic operator", authority, authority_key)
    forger_key = key_of("ec", "forger")
    forged = certificate_of(forger_key, "Synthetic authority")
    by_forger = certificate_of(own_key, "Synthetic operator", forged, forger_key)
    for trusted, chain in ((forged, (own, authority)), (authority, (by_forger, forged)), (own, (by_forger,))):
        vouchers = read_vouchers(key_file(tmp_path, pem_of(trusted), name="trust.pem"))
        # A certificate of the same key vouches for the key, whoever issued it.
        assert vouchers.vouch_for(chain[0].public_key(), chain) is (trusted is own)  # type: ignore[arg-type]
    leaf_as_authority = read_vouchers(key_file(tmp_path, pem_of(own), name="leaf.pem"))
    under_leaf = certificate_of(forger_key, "Synthetic forger", own, own_key)
    assert not leaf_as_authority.vouch_for(forger_key.public_key(), (under_leaf,))


def test_a_key_may_have_a_password(tmp_path: Path) -> None:
    path = key_file(tmp_path, pem_of(key_of("ec"), "swordfish"))
    password = key_file(tmp_path, b"swordfish\n", name="password")
    assert load_signing_key(path, password).sign(CONTENT)
    for wrong in (None, key_file(tmp_path, b"hunter2\n", name="wrong")):
        with pytest.raises(ConfigurationError) as refused:
            load_signing_key(path, wrong)
        assert refused.value.code == "evidence.key"
        assert "swordfish" not in str(refused.value)
        assert "hunter2" not in str(refused.value)


def test_a_key_that_proves_nothing_or_is_not_kept_alone_is_refused(tmp_path: Path) -> None:
    short = too_short()
    small = ec.generate_private_key(ec.SECP192R1())
    not_its_own = certificate_of(key_of("ec", "other"), "Synthetic other")
    bad = {
        "short.pem": pem_of(short),
        "small.pem": pem_of(small),
        "nonsense.pem": b"nonsense",
        "public.pem": public_pem(key_of("ec")),
        "mismatch.pem": pem_of(key_of("ec")) + pem_of(not_its_own),
        "stranger.pem": pem_of(key_of("ed25519")) + pem_of(of_an_unknown_kind()),
    }
    for name, content in bad.items():
        with pytest.raises(ConfigurationError, match=name) as refused:
            load_signing_key(key_file(tmp_path, content, name=name), None)
        assert refused.value.code == "evidence.key"
    with pytest.raises(ConfigurationError, match="chmod 600"):
        load_signing_key(key_file(tmp_path, pem_of(key_of("ec")), name="open.pem", mode=0o644), None)
    with pytest.raises(ConfigurationError, match="cannot read"):
        load_signing_key(tmp_path / "nowhere.pem", None)


def test_what_is_neither_certificate_nor_key_is_no_trust_and_no_signer(tmp_path: Path) -> None:
    for content in (b"", b"nonsense", b"-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n"):
        with pytest.raises(ConfigurationError, match=r"--trust"):
            read_vouchers(key_file(tmp_path, content, name="trust.pem"))
        with pytest.raises(RefusedError, match=r"signer\.pem"):
            read_signer(content)
    with pytest.raises(ConfigurationError, match="cannot read"):
        read_vouchers(tmp_path / "nowhere.pem")
    with pytest.raises(RefusedError, match="proves nothing"):
        read_signer(public_pem(too_short()))
