"""A machine credential, wherever it was read from, and the key that signs for it, wherever that is kept."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, Protocol

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey

EXPIRY_WARNING: Final = timedelta(days=60)
"""Credentials that end sooner are told of, wherever expiry is judged: renewal needs a person, and people are away."""
LEAST_KEY_BITS: Final = 2048
"""Smaller RSA keys, as in AUSkeys of 2014, are read and never sign (NIST SP 800-131A, 3: 1024 bits are disallowed)."""


class Digest(StrEnum):
    """What a signature is made over (RFC 8017, 9.2, note 1)."""

    SHA256 = "sha256"
    SHA1 = "sha1"
    """For the token service's legacy v1.2 profile alone; every other profile refuses it."""


class SigningKey(Protocol):
    """An RSA private key that signs; whether this process holds it is the implementation's affair."""

    @property
    def kept_in(self) -> str:
        """Where the key is, in words for a person: `file`, or the name of a PKCS#11 token."""

    def public_key(self) -> RSAPublicKey:
        """The public half; its `key_size` is in bits."""

    def sign(self, data: bytes, digest: Digest) -> bytes:
        """RSASSA-PKCS1-v1_5 (RFC 8017, 8.2) over `data`, as many bytes long as the modulus.

        Raises:
            DependencyDownError: `pkcs11.down`, only of keys in a token: it cannot be reached, and may be later.
        """


_PADDING: Final = PKCS1v15()
_DIGESTS: Final = {
    Digest.SHA256: hashes.SHA256(),
    Digest.SHA1: hashes.SHA1(),  # noqa: S303  - see Digest.SHA1
}


@dataclass(frozen=True, slots=True)
class RsaKey:
    """A key in the memory of this process, from a key file."""

    private: RSAPrivateKey = field(repr=False)

    @property
    def kept_in(self) -> str:
        return "file"

    def public_key(self) -> RSAPublicKey:
        return self.private.public_key()

    def sign(self, data: bytes, digest: Digest) -> bytes:
        return self.private.sign(data, _PADDING, _DIGESTS[digest])


class CredentialKind(StrEnum):
    """Whose a credential is. Only a device's is a machine credential; users' come from the time of AUSkey."""

    DEVICE = "device"
    USER = "user"


@dataclass(frozen=True, slots=True)
class Credential:
    """A leaf certificate and its private key. The key never shows in a repr; dates are the certificate's own."""

    id: str
    """For example `ABRD:11000002568_Payroll`; free text after the first underscore."""
    abn: str
    name: str
    certificate: x509.Certificate
    certificate_der: bytes
    private_key: SigningKey = field(repr=False, compare=False)
    chain: tuple[x509.Certificate, ...] = field(default=(), compare=False)
    kind: CredentialKind = field(default=CredentialKind.DEVICE, compare=False)

    @property
    def not_before(self) -> datetime:
        return self.certificate.not_valid_before_utc

    @property
    def not_after(self) -> datetime:
        return self.certificate.not_valid_after_utc

    @property
    def weakness(self) -> str | None:
        """Why this credential must not sign, though it can be read."""
        bits = self.private_key.public_key().key_size
        if bits >= LEAST_KEY_BITS:
            return None
        return (
            f"the key of credential {self.id!r} has {bits} bits, too weak to sign with: {LEAST_KEY_BITS} is the least"
        )
