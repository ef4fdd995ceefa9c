"""The operator's signature over a manifest: detached, raw, and of the one algorithm that goes with the kind of key.

RSA: RSASSA-PKCS1-v1_5 with SHA-256 (RFC 8017). EC: ECDSA with SHA-256 in DER, deterministic (RFC 6979). Ed25519
(RFC 8032). All three give the same bytes for the same manifest, and openssl checks all three.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from pipeline.evidence.manifest import SIGNER, Signer
from pipeline.lodgment.errors import ConfigurationError, RefusedError
from pipeline.protocol.certificates import CertificateError, public_key_of, read_pem
from pipeline.secret_files import read_secret, require_private

SHORTEST_RSA = 2048
_LONGEST_CHAIN = 10
_NOT_ISSUED = (
    ValueError,
    TypeError,
    InvalidSignature,
    UnsupportedAlgorithm,
    x509.ExtensionNotFound,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)
"""What a library says of two certificates of which one did not issue the other, or that it cannot read."""

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key, and its certificate with those above it where the file has them."""

    private_key: PrivateKey = field(repr=False)
    certificates: tuple[x509.Certificate, ...]

    @property
    def signer(self) -> Signer:
        """As the manifest names it."""
        public = self.private_key.public_key()
        return Signer(algorithm=_algorithm(public), key_sha256=fingerprint(public))

    @property
    def pem(self) -> bytes:
        """The certificates, the signer's first, or else the public key."""
        if self.certificates:
            return b"".join(one.public_bytes(Encoding.PEM) for one in self.certificates)
        return self.private_key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    def sign(self, content: bytes) -> bytes:
        """The signature over `content`, the same every time."""
        match self.private_key:
            case rsa.RSAPrivateKey():
                return self.private_key.sign(content, padding.PKCS1v15(), SHA256())
            case ec.EllipticCurvePrivateKey():
                return self.private_key.sign(content, ec.ECDSA(SHA256(), deterministic_signing=True))
            case _:
                return self.private_key.sign(content)


@dataclass(frozen=True, slots=True)
class Vouchers:
    """Keys and authorities that whoever checks believes in."""

    keys: frozenset[str]
    authorities: tuple[x509.Certificate, ...]

    def vouch_for(self, key: PublicKey, certificates: Sequence[x509.Certificate]) -> bool:
        """Whether the key is one of theirs, or its certificate comes from one of their authorities."""
        if fingerprint(key) in self.keys:
            return True
        if not certificates:
            return False
        below, left = certificates[0], list(certificates[1 : _LONGEST_CHAIN + 1])
        while True:
            if any(_issued(below, above) for above in self.authorities):
                return True
            above = next((one for one in left if _issued(below, one)), None)
            if above is None:
                return False
            left.remove(above)
            below = above


def load_signing_key(path: Path, password_file: Path | None) -> SigningKey:
    """The key in a PEM file of its owner's alone; certificates in the same file go along.

    Raises:
        ConfigurationError: `evidence.key`, or as `read_secret`.
    """
    try:
        require_private(path, "evidence key")
        content = path.read_bytes()
    except OSError as error:
        raise ConfigurationError("evidence.key", f"evidence key: cannot read {path}: {error.strerror}") from error
    password = None if password_file is None else read_secret(password_file, "evidence key password").encode()
    try:
        key = load_pem_private_key(content, password)
        certificates = read_pem(content) if b"-----BEGIN CERTIFICATE" in content else []
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        text = "is no private key in PEM, or its password is wrong, missing or not needed"
        raise ConfigurationError("evidence.key", f"evidence key: {path} {text}") from error
    if not isinstance(key, PrivateKey) or not _strong(key.public_key()):
        text = f"must be RSA of {SHORTEST_RSA} bits or more, EC of 256 bits or more, or Ed25519"
        raise ConfigurationError("evidence.key", f"evidence key: {path} {text}")
    public = fingerprint(key.public_key())
    own = [one for one in certificates if _is_of(one, public)]
    if certificates and not own:
        text = "holds certificates, and none of them is of its key: put the right one into it"
        raise ConfigurationError("evidence.key", f"evidence key: {path} {text}")
    return SigningKey(key, (*own[:1], *(one for one in certificates if one not in own)))


def read_signer(pem: bytes) -> tuple[PublicKey, tuple[x509.Certificate, ...]]:
    """The key in `signer.pem`, and its certificates where there are any.

    Raises:
        RefusedError: `evidence.signer`.
    """
    certificates: tuple[x509.Certificate, ...] = ()
    key: object
    try:
        if b"-----BEGIN CERTIFICATE" in pem:
            certificates = tuple(read_pem(pem))
            key = public_key_of(certificates[0])
        else:
            key = load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise RefusedError("evidence.signer", f"{SIGNER}: holds neither certificate nor public key in PEM") from error
    if not isinstance(key, PublicKey) or not _strong(key):
        raise RefusedError("evidence.signer", f"{SIGNER}: the key is of a kind, or so short, that proves nothing")
    return key, certificates


def read_vouchers(path: Path) -> Vouchers:
    """What `--trust` names: certificates, of signers or authorities, or a public key, in PEM.

    Raises:
        ConfigurationError: `evidence.trust`.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigurationError("evidence.trust", f"--trust: cannot read {path}: {error.strerror}") from error
    text = f"--trust: {path} holds neither certificates nor a public key (RSA, EC, Ed25519) in PEM"
    try:
        if b"-----BEGIN CERTIFICATE" in content:
            certificates = tuple(read_pem(content))
            return Vouchers(frozenset(map(_fingerprint_of, certificates)), certificates)
        key = load_pem_public_key(content)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ConfigurationError("evidence.trust", text) from error
    if not isinstance(key, PublicKey):
        raise ConfigurationError("evidence.trust", text)
    return Vouchers(frozenset({fingerprint(key)}), ())


def holds(key: PublicKey, algorithm: str, signature: bytes, content: bytes) -> bool:
    """Whether `signature` is over `content`, by `key` and by the algorithm of such keys."""
    if algorithm != _algorithm(key):
        return False
    try:
        match key:
            case rsa.RSAPublicKey():
                key.verify(signature, content, padding.PKCS1v15(), SHA256())
            case ec.EllipticCurvePublicKey():
                key.verify(signature, content, ec.ECDSA(SHA256()))
            case _:
                key.verify(signature, content)
    except InvalidSignature:
        return False
    return True


def fingerprint(key: PublicKey) -> str:
    """SHA-256 of the key as SubjectPublicKeyInfo in DER, in hex."""
    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def _is_of(certificate: x509.Certificate, public: str) -> bool:
    """Whether the certificate is of the key with this fingerprint; one of a kind that nothing here knows is of none."""
    try:
        return _fingerprint_of(certificate) == public
    except CertificateError:
        return False


def _fingerprint_of(certificate: x509.Certificate) -> str:
    der = public_key_of(certificate).public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(der).hexdigest()


def _algorithm(key: PublicKey) -> str:
    match key:
        case rsa.RSAPublicKey():
            return "RSASSA-PKCS1-v1_5 SHA-256"
        case ec.EllipticCurvePublicKey():
            return "ECDSA SHA-256"
        case _:
            return "Ed25519"


def _strong(key: PublicKey) -> bool:
    match key:
        case rsa.RSAPublicKey():
            return key.key_size >= SHORTEST_RSA
        case ec.EllipticCurvePublicKey():
            return key.curve.key_size >= 256
        case _:
            return True


def _issued(below: x509.Certificate, above: x509.Certificate) -> bool:
    try:
        constraints = above.extensions.get_extension_for_class(x509.BasicConstraints)
        below.verify_directly_issued_by(above)
    except _NOT_ISSUED:
        return False
    return constraints.value.ca
