"""Credentials in PEM and PKCS#12 become the same value as those of a keystore."""

from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.hazmat.primitives.serialization.pkcs12 import serialize_key_and_certificates
from cryptography.x509.oid import NameOID

from pipeline.protocol.credential import CredentialKind
from pipeline.protocol.key_files import read_credentials, read_pem, read_pkcs12
from pipeline.protocol.keystore import KeystoreError
from pipeline.protocol.synthetic_keystore import write
from tests.doubles.synthetic_credentials import CLIENT_ABN, ISSUED_AT, credential, key, raw, sub_authority

PASSWORD = "Synthetic-1"
ENCRYPTED = BestAvailableEncryption(PASSWORD.encode())


def certificates() -> bytes:
    own = credential()
    return b"".join(one.public_bytes(Encoding.PEM) for one in (*own.chain, own.certificate))


def private_key(name: str = "Payroll") -> bytes:
    return key(name).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, ENCRYPTED)


def pkcs12() -> bytes:
    own = credential()
    return serialize_key_and_certificates(b"x", raw(own.private_key), own.certificate, own.chain, ENCRYPTED)


def test_every_kind_of_key_file_gives_the_same_credential() -> None:
    keystore = write([credential()], PASSWORD, b"synthetic")
    for document in (keystore, pkcs12(), certificates() + private_key(), private_key() + certificates()):
        (read,) = read_credentials(document, PASSWORD)
        assert (read.id, read.abn, read.name, read.certificate) == (
            credential().id,
            credential().abn,
            credential().name,
            credential().certificate,
        )
        assert set(read.chain) == set(credential().chain)
        assert raw(read.private_key).private_numbers() == raw(credential().private_key).private_numbers()


def test_reads_a_pem_key_without_a_password_under_an_id_of_ones_own() -> None:
    plain = key("Payroll").private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    assert read_pem(certificates(), plain, identity="ABRD:11000002568_Mine").id == "ABRD:11000002568_Mine"


@pytest.mark.parametrize("password", ["wrong-and-secret", None, ""])
def test_a_wrong_or_missing_password_is_told_and_not_echoed(password: str | None) -> None:
    with pytest.raises(KeystoreError, match="cannot unlock") as refused:
        read_pem(certificates(), private_key(), password)
    assert refused.value.code == "keystore.unlock"
    assert "wrong-and-secret" not in f"{refused.value!r} {refused.value.__cause__!r}"


@pytest.mark.parametrize("password", ["wrong-and-secret", ""])
def test_a_pkcs12_file_with_another_password_cannot_be_unlocked(password: str) -> None:
    with pytest.raises(KeystoreError, match="cannot unlock the PKCS#12 file"):
        read_pkcs12(pkcs12(), password)


def test_refuses_a_key_of_another_certificate_and_a_key_that_is_not_rsa() -> None:
    with pytest.raises(KeystoreError, match="does not belong") as refused:
        read_pem(certificates(), private_key("Stranger"), PASSWORD)
    assert refused.value.code == "keystore.mismatch"
    elliptic = generate_private_key(SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with pytest.raises(KeystoreError, match="not RSA"):
        read_pem(certificates(), elliptic)


def test_refuses_a_pkcs12_file_without_a_key() -> None:
    only_authority = serialize_key_and_certificates(None, None, None, [sub_authority().certificate], ENCRYPTED)
    with pytest.raises(KeystoreError, match="holds no private key"):
        read_pkcs12(only_authority, PASSWORD)


@pytest.mark.parametrize("document", [b"", b"nonsense", b"-----BEGIN NOTHING-----", b"\x30\x80\x00\x00"])
def test_refuses_what_is_no_key_file(document: bytes) -> None:
    with pytest.raises(KeystoreError):
        read_credentials(document, PASSWORD)


def test_a_users_certificate_is_known_by_the_person_in_its_subject() -> None:
    names = [
        x509.NameAttribute(NameOID.ORGANIZATION_NAME, CLIENT_ABN),
        x509.NameAttribute(NameOID.COMMON_NAME, "Ann Ng"),
    ]
    for qualifier, identity, kind in (
        ("10000022", f"ABRP:{CLIENT_ABN}_10000022", CredentialKind.USER),
        ("ABR", f"ABRD:{CLIENT_ABN}_Ann Ng", CredentialKind.DEVICE),
    ):
        subject = x509.Name([*names, x509.NameAttribute(NameOID.DN_QUALIFIER, qualifier)])
        own = x509.CertificateBuilder(subject, subject, key("Payroll").public_key(), 7)
        leaf = own.not_valid_before(ISSUED_AT).not_valid_after(ISSUED_AT + timedelta(days=1))
        document = leaf.sign(key("Payroll"), hashes.SHA256()).public_bytes(Encoding.PEM)
        read = read_pem(document, private_key(), PASSWORD)
        assert (read.id, read.kind) == (identity, kind)
