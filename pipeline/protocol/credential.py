"""A machine credential, wherever it was read from."""

from dataclasses import dataclass, field
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey


@dataclass(frozen=True, slots=True)
class Credential:
    """A leaf certificate and its private key. The key never shows in a repr; dates are the certificate's own."""

    id: str
    """For example `ABRD:11000002568_Payroll`; free text after the first underscore."""
    abn: str
    name: str
    certificate: x509.Certificate
    certificate_der: bytes
    private_key: RSAPrivateKey = field(repr=False, compare=False)
    chain: tuple[x509.Certificate, ...] = field(default=(), compare=False)

    @property
    def not_after(self) -> datetime:
        return self.certificate.not_valid_after_utc
