"""Machine credentials of a synthetic authority: made once a process, because making RSA keys is slow."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from pipeline.protocol.credential import Credential, CredentialKind, RsaKey, SigningKey

ISSUED_AT = datetime(2026, 9, 13, 6, 10, 22, tzinfo=UTC)
AGENT_ABN = "11000002568"
CLIENT_ABN = "27809366375"
LONGEST_SERIAL = 2**159 - 1
"""X.509 allows 20 octets, of which the first bit is the sign (RFC 5280, 4.1.2.2)."""


@dataclass(frozen=True, slots=True)
class Authority:
    certificate: x509.Certificate
    key: RSAPrivateKey


@cache
def key(name: str) -> RSAPrivateKey:
    """A key for that name, the same one every time."""
    assert name
    return generate_private_key(65537, 2048)


@cache
def root_authority() -> Authority:
    return Authority(_certificate("Synthetic Root CA", "SYNTHETIC", None, 1), key("Synthetic Root CA"))


@cache
def sub_authority() -> Authority:
    certificate = _certificate("Synthetic Sub CA", "SYNTHETIC", root_authority(), 2)
    return Authority(certificate, key("Synthetic Sub CA"))


@cache
def lone_authority(name: str) -> Authority:
    """An authority of that name which issues by itself, for chains of two."""
    return Authority(_certificate(name, "SYNTHETIC", None, 3), key(name))


def leaf_of(issuer: Authority) -> x509.Certificate:
    """A certificate that it issued."""
    return _certificate("Payroll", AGENT_ABN, issuer, 4)


@cache
def credential(
    identity: str = f"ABRD:{AGENT_ABN}_Payroll",
    serial: int = LONGEST_SERIAL,
    valid: timedelta = timedelta(days=730),
) -> Credential:
    """A credential with that id (`ABRD:` a device, `ABRP:` a user), issued by the subordinate authority."""
    abn, _, name = identity.partition(":")[2].partition("_")
    name = "Ann Ng" if identity.startswith("ABRP:") else name
    certificate = _certificate(name, abn, sub_authority(), serial, valid)
    chain = (sub_authority().certificate, root_authority().certificate)
    kind = CredentialKind.USER if identity.startswith("ABRP:") else CredentialKind.DEVICE
    der = certificate.public_bytes(Encoding.DER)
    return Credential(identity, abn, name, certificate, der, RsaKey(key(name)), chain, kind)


def raw(signing: SigningKey) -> RSAPrivateKey:
    """The key behind a signing key in memory, for other implementations to work with."""
    assert isinstance(signing, RsaKey)
    return signing.private


def user_credential() -> Credential:
    return credential(f"ABRP:{CLIENT_ABN}_10000022", 77)


@cache
def weak_key() -> Credential:
    """A user's credential with a key of 1024 bits, as AUSkeys of 2014 have."""
    own = generate_private_key(65537, 1024)  # noqa: S505  - what must be refused
    certificate = certificate_of("Ann Ng", CLIENT_ABN, own.public_key(), sub_authority(), 78)
    chain = (sub_authority().certificate, root_authority().certificate)
    der = certificate.public_bytes(Encoding.DER)
    identity = f"ABRP:{CLIENT_ABN}_10000023"
    return Credential(identity, CLIENT_ABN, "Ann Ng", certificate, der, RsaKey(own), chain, CredentialKind.USER)


def _certificate(
    name: str, abn: str, issuer: Authority | None, serial: int, valid: timedelta = timedelta(days=730)
) -> x509.Certificate:
    return certificate_of(name, abn, key(name).public_key(), issuer or key(name), serial, valid)


def certificate_of(
    name: str,
    abn: str,
    public: RSAPublicKey,
    issuer: Authority | RSAPrivateKey,
    serial: int,
    valid: timedelta = timedelta(days=730),
) -> x509.Certificate:
    """A certificate over any public key; a bare private key as issuer makes it self-signed."""
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.COUNTRY_NAME, "AU"),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, abn),
            x509.NameAttribute(NameOID.COMMON_NAME, name),
        ]
    )
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if isinstance(issuer, Authority) else subject)
        .public_key(public)
        .serial_number(serial)
        .not_valid_before(ISSUED_AT)
        .not_valid_after(ISSUED_AT + valid)
        .sign(issuer.key if isinstance(issuer, Authority) else issuer, hashes.SHA256())
    )
