"""Machine credentials in whatever file they come: the ABR keystore, PEM, or PKCS#12 (RFC 7292)."""

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.hazmat.primitives.serialization.pkcs12 import load_pkcs12
from cryptography.x509.oid import NameOID

from pipeline.protocol.credential import Credential
from pipeline.protocol.keystore import KeystoreError, read_keystore, require_pair


def read_credentials(document: bytes, password: str) -> tuple[Credential, ...]:
    """The credentials in a key file, whose kind its content tells; a PEM file holds certificates and key together.

    Raises:
        KeystoreError: `keystore.malformed`, `keystore.unlock` or `keystore.mismatch`.
    """
    if document.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"<"):
        return read_keystore(document, password)
    if b"-----BEGIN " in document:
        return (read_pem(document, document, password),)
    return (read_pkcs12(document, password),)


def read_pem(certificates: bytes, key: bytes, password: str | None = None, identity: str | None = None) -> Credential:
    """A credential from its certificates (the leaf in any place among them) and its private key, both in PEM.

    Raises:
        KeystoreError: `keystore.malformed`, `keystore.unlock` or `keystore.mismatch`.
    """
    try:
        found = x509.load_pem_x509_certificates(certificates)
    except (ValueError, x509.InvalidVersion) as error:
        raise KeystoreError("keystore.malformed", f"the certificates are not PEM: {error}") from error
    try:
        private_key = load_pem_private_key(key, None if password is None else password.encode())
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise KeystoreError(
            "keystore.unlock",
            "cannot unlock the private key: it is not PEM, or its password is wrong, missing or not needed",
        ) from error
    leaf = next((one for one in found if _public(one) == private_key.public_key()), found[0])
    return _credential(leaf, private_key, tuple(one for one in found if one != leaf), identity)


def read_pkcs12(document: bytes, password: str, identity: str | None = None) -> Credential:
    """A credential from a PKCS#12 file.

    Raises:
        KeystoreError: `keystore.malformed`, `keystore.unlock` or `keystore.mismatch`.
    """
    try:
        store = load_pkcs12(document, password.encode())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise KeystoreError(
            "keystore.unlock", "cannot unlock the PKCS#12 file: the password is wrong or the file is damaged"
        ) from error
    if store.cert is None or store.key is None:
        raise KeystoreError("keystore.malformed", "the PKCS#12 file holds no private key with its certificate")
    chain = tuple(additional.certificate for additional in store.additional_certs)
    return _credential(store.cert.certificate, store.key, chain, identity)


def _credential(
    leaf: x509.Certificate, key: object, chain: tuple[x509.Certificate, ...], identity: str | None
) -> Credential:
    """ABN and name are the subject's O and CN, as the issuer of machine credentials writes them."""
    abn = _subject(leaf, NameOID.ORGANIZATION_NAME)
    name = _subject(leaf, NameOID.COMMON_NAME)
    owner = f"credential {name!r}"
    if not isinstance(key, RSAPrivateKey):
        raise KeystoreError("keystore.malformed", f"the key of {owner} is not RSA, which the signature profile needs")
    require_pair(key, leaf, owner)
    return Credential(
        id=identity or f"ABRD:{abn}_{name}",
        abn=abn,
        name=name,
        certificate=leaf,
        certificate_der=leaf.public_bytes(Encoding.DER),
        private_key=key,
        chain=chain,
    )


def _public(certificate: x509.Certificate) -> object:
    """The certificate's key, or None where it is of a kind, or damaged in a way, that cannot be read."""
    try:
        return certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        return None


def _subject(certificate: x509.Certificate, oid: x509.ObjectIdentifier) -> str:
    values = certificate.subject.get_attributes_for_oid(oid)
    return str(values[0].value) if values else ""
