"""Synthetic keys and X.509 certificates, shaped as the issuer of machine credentials shapes its own."""

import ipaddress
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_LABEL = "SYNTHETIC"
_BACKDATED = timedelta(minutes=10)
"""The credential authority back-dates its certificates, so that a slow clock does not refuse a new one."""


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: RSAPrivateKey = field(repr=False)


def new_key() -> RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def root_authority(now: datetime) -> KeyPair:
    """The sandbox's own root, for TLS and credentials alike."""
    key = new_key()
    name = _name("Sandbox Root Certification Authority")
    builder = _builder(name, name, key, now - _BACKDATED, now + timedelta(days=3650))
    builder = _as_authority(builder, key, path_length=1)
    return KeyPair(builder.sign(key, hashes.SHA256()), key)


def credential_authority(root: KeyPair, now: datetime) -> KeyPair:
    """The subordinate authority that issues machine credentials."""
    key = new_key()
    name = _name("Sandbox Sub Certification Authority")
    builder = _builder(name, root.certificate.subject, key, now - _BACKDATED, now + timedelta(days=3600))
    builder = _as_authority(builder, root.key, path_length=0)
    return KeyPair(builder.sign(root.key, hashes.SHA256()), key)


def machine_credential(authority: KeyPair, abn: str, name: str, not_before: datetime, not_after: datetime) -> KeyPair:
    """A leaf whose subject is `C=AU, O=<ABN>, CN=<display name>, dnQualifier=ABR`."""
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.COUNTRY_NAME, "AU"),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, abn),
            x509.NameAttribute(NameOID.COMMON_NAME, name),
            x509.NameAttribute(NameOID.DN_QUALIFIER, "ABR"),
        ]
    )
    key = new_key()
    builder = _builder(subject, authority.certificate.subject, key, not_before, not_after)
    builder = _as_leaf(builder, authority.key, encipher=True)
    return KeyPair(builder.sign(authority.key, hashes.SHA256()), key)


def service_certificate(root: KeyPair, name: str, now: datetime) -> KeyPair:
    """For the token service's signing key, and for the key that tokens are encrypted to."""
    key = new_key()
    builder = _builder(_name(name), root.certificate.subject, key, now - _BACKDATED, now + timedelta(days=3600))
    return KeyPair(_as_leaf(builder, root.key, encipher=True).sign(root.key, hashes.SHA256()), key)


def server_certificate(root: KeyPair, now: datetime) -> KeyPair:
    """For TLS on this machine: localhost, 127.0.0.1 and ::1."""
    key = new_key()
    names = x509.SubjectAlternativeName(
        [
            x509.DNSName("localhost"),
            x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
            x509.IPAddress(ipaddress.ip_address("::1")),
        ]
    )
    builder = _builder(_name("localhost"), root.certificate.subject, key, now - _BACKDATED, now + timedelta(days=3600))
    builder = _as_leaf(builder, root.key, encipher=False).add_extension(names, critical=False)
    usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
    return KeyPair(builder.add_extension(usage, critical=False).sign(root.key, hashes.SHA256()), key)


def _name(common_name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.COUNTRY_NAME, "AU"),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, _LABEL),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, key: RSAPrivateKey, not_before: datetime, not_after: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(not_before)
        .not_valid_after(not_after)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _as_authority(
    builder: x509.CertificateBuilder, issuer_key: RSAPrivateKey, path_length: int
) -> x509.CertificateBuilder:
    return _issued_by(
        builder.add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True).add_extension(
            _key_usage(authority=True, encipher=False), critical=True
        ),
        issuer_key,
    )


def _as_leaf(builder: x509.CertificateBuilder, issuer_key: RSAPrivateKey, *, encipher: bool) -> x509.CertificateBuilder:
    return _issued_by(
        builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True).add_extension(
            _key_usage(authority=False, encipher=encipher), critical=True
        ),
        issuer_key,
    )


def _issued_by(builder: x509.CertificateBuilder, issuer_key: RSAPrivateKey) -> x509.CertificateBuilder:
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key())
    return builder.add_extension(identifier, critical=False)


def _key_usage(*, authority: bool, encipher: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=not authority,
        key_encipherment=encipher,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )
