"""X.509 certificates from outside, read so far that what is asked of them later cannot fail.

The library reads lazily: a certificate that it takes may have a name, a version or a key that it refuses when it is
asked for it, and each with an error of its own.
"""

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes


class CertificateError(ValueError):
    """A certificate, or the key in it, that cannot be read."""


def read_der(der: bytes) -> x509.Certificate:
    """The certificate in DER, whose names can be asked for.

    Raises:
        CertificateError: it cannot be read.
    """
    try:
        return _with_names(x509.load_der_x509_certificate(der))
    except (ValueError, x509.InvalidVersion) as error:
        raise CertificateError(str(error)) from error


def read_pem(pem: bytes) -> list[x509.Certificate]:
    """The certificates among what stands in PEM, at least one, whose names can be asked for.

    Raises:
        CertificateError: one of them cannot be read, or there is none.
    """
    try:
        return [_with_names(one) for one in x509.load_pem_x509_certificates(pem)]
    except (ValueError, x509.InvalidVersion) as error:
        # What the library says may quote the file, and a private key may stand in it.
        raise CertificateError("one of them is damaged, or there is none") from error


def public_key_of(certificate: x509.Certificate) -> CertificatePublicKeyTypes:
    """The key in the certificate.

    Raises:
        CertificateError: it is damaged, or of a kind that nothing here knows.
    """
    try:
        return certificate.public_key()
    except (ValueError, UnsupportedAlgorithm) as error:
        raise CertificateError(str(error)) from error


def _with_names(certificate: x509.Certificate) -> x509.Certificate:
    for name in (certificate.subject, certificate.issuer):
        name.rfc4514_string()
    return certificate
