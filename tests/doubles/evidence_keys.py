"""Keys that evidence is signed with, of every kind, made once; and certificates over them."""

from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from cryptography.x509.oid import NameOID

from pipeline.evidence.signing import PrivateKey

KINDS = ("rsa", "ec", "ed25519")


@cache
def key_of(kind: str, name: str = "operator") -> PrivateKey:  # noqa: ARG001  - another name is another key
    match kind:
        case "rsa":
            return rsa.generate_private_key(public_exponent=65537, key_size=2048)
        case "ec":
            return ec.generate_private_key(ec.SECP256R1())
        case _:
            return ed25519.Ed25519PrivateKey.generate()


def certificate_of(
    key: PrivateKey, name: str, issuer: x509.Certificate | None = None, issuer_key: PrivateKey | None = None
) -> x509.Certificate:
    """A certificate over `key`; without an issuer an authority's own."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    signer = issuer_key or key
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if issuer is None else issuer.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .sign(signer, None if isinstance(signer, ed25519.Ed25519PrivateKey) else hashes.SHA256())
    )


def of_an_unknown_kind() -> x509.Certificate:
    """A certificate that can be read, over a key of a kind that nobody can."""
    der = certificate_of(key_of("ed25519"), "Synthetic stranger").public_bytes(Encoding.DER)
    known, unknown = bytes.fromhex("302a300506032b6570"), bytes.fromhex("302a300506032b5570")
    return x509.load_der_x509_certificate(der.replace(known, unknown))


def pem_of(one: PrivateKey | x509.Certificate, password: str | None = None) -> bytes:
    if isinstance(one, x509.Certificate):
        return one.public_bytes(Encoding.PEM)
    sealed = NoEncryption() if password is None else BestAvailableEncryption(password.encode())
    return one.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, sealed)


def public_pem(key: PrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def key_file(folder: Path, *content: bytes, name: str = "evidence.pem", mode: int = 0o600) -> Path:
    path = folder / name
    path.touch(mode=mode)
    path.chmod(mode)
    path.write_bytes(b"".join(content))
    return path
