"""Machine credentials in whatever file they come: the ABR keystore, PEM, or PKCS#12 (RFC 7292)."""

from collections.abc import Sequence

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.hazmat.primitives.serialization.pkcs12 import load_pkcs12
from cryptography.x509.oid import NameOID

from pipeline.protocol import keystore
from pipeline.protocol.certificates import CertificateError, public_key_of
from pipeline.protocol.certificates import read_pem as read_pem_certificates
from pipeline.protocol.credential import Credential, CredentialKind, RsaKey, SigningKey
from pipeline.protocol.keystore import KeyFinder, KeystoreError, Unusable, require_pair, usable

_OF_A_DEVICE = "ABR"
"""The dnQualifier of every device; a user's is their person id."""


def read_entries(
    document: bytes, password: str, find_key: KeyFinder | None = None
) -> tuple[Credential | Unusable, ...]:
    """What a key file holds, whose kind its content tells; a PEM file holds certificates and key together.

    With `find_key` the private key of each comes from there, and one in the file is left alone.

    Raises:
        KeystoreError: the file as a whole: `keystore.malformed`, `keystore.unlock` or `keystore.mismatch`.
    """
    if document.removeprefix(b"\xef\xbb\xbf").lstrip().startswith((b"<", b"\xff\xfe", b"\xfe\xff")):
        return keystore.read_entries(document, password, find_key)
    if b"-----BEGIN " in document:
        if find_key is not None:
            return (of_certificates(_pem_certificates(document), find_key),)
        return (read_pem(document, document, password),)
    return (read_pkcs12(document, password, find_key=find_key),)


def read_credentials(document: bytes, password: str) -> tuple[Credential, ...]:
    """The credentials in a key file that can be used.

    Raises:
        KeystoreError: none can be used: `keystore.malformed`, `keystore.unlock` or `keystore.mismatch`.
    """
    return usable(read_entries(document, password))


def of_certificates(certificates: Sequence[x509.Certificate], find_key: KeyFinder) -> Credential:
    """The credential among `certificates` whose key `find_key` has; the others are its chain.

    Raises:
        KeystoreError: what `find_key` says of the last one, when it has the key of none.
    """
    refused = KeystoreError("keystore.malformed", "there is no certificate")
    for leaf in certificates:
        try:
            key = find_key(leaf)
        except KeystoreError as error:
            refused = error
        else:
            return _credential(leaf, key, tuple(one for one in certificates if one != leaf), None)
    raise refused


def read_pem(certificates: bytes, key: bytes, password: str | None = None, identity: str | None = None) -> Credential:
    """A credential from its certificates (the leaf in any place among them) and its private key, both in PEM.

    Raises:
        KeystoreError: `keystore.malformed`, `keystore.unlock` or `keystore.mismatch`.
    """
    found = _pem_certificates(certificates)
    try:
        private_key = load_pem_private_key(key, None if password is None else password.encode())
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise KeystoreError(
            "keystore.unlock",
            "cannot unlock the private key: it is not PEM, or its password is wrong, missing or not needed",
        ) from error
    leaf = next((one for one in found if _public(one) == private_key.public_key()), found[0])
    return _credential(leaf, _rsa(private_key, leaf), tuple(one for one in found if one != leaf), identity)


def read_pkcs12(
    document: bytes, password: str, identity: str | None = None, find_key: KeyFinder | None = None
) -> Credential:
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
    chain = tuple(additional.certificate for additional in store.additional_certs)
    if find_key is not None:
        own = () if store.cert is None else (store.cert.certificate,)
        return of_certificates((*own, *chain), find_key)
    if store.cert is None or store.key is None:
        raise KeystoreError("keystore.malformed", "the PKCS#12 file holds no private key with its certificate")
    leaf = store.cert.certificate
    return _credential(leaf, _rsa(store.key, leaf), chain, identity)


def _credential(
    leaf: x509.Certificate, key: SigningKey, chain: tuple[x509.Certificate, ...], identity: str | None
) -> Credential:
    """ABN, name and kind are the subject's O, CN and dnQualifier, as the issuer of machine credentials writes them."""
    abn = _subject(leaf, NameOID.ORGANIZATION_NAME)
    name = _subject(leaf, NameOID.COMMON_NAME)
    person = _subject(leaf, NameOID.DN_QUALIFIER)
    require_pair(key, leaf, f"credential {name!r}")
    user = person not in {"", _OF_A_DEVICE}
    return Credential(
        id=identity or (f"ABRP:{abn}_{person}" if user else f"ABRD:{abn}_{name}"),
        abn=abn,
        name=name,
        certificate=leaf,
        certificate_der=leaf.public_bytes(Encoding.DER),
        private_key=key,
        chain=chain,
        kind=CredentialKind.USER if user else CredentialKind.DEVICE,
    )


def _pem_certificates(document: bytes) -> list[x509.Certificate]:
    try:
        return read_pem_certificates(document)
    except CertificateError as error:
        raise KeystoreError("keystore.malformed", f"the certificates cannot be read from PEM: {error}") from error


def _rsa(key: object, leaf: x509.Certificate) -> RsaKey:
    if not isinstance(key, RSAPrivateKey):
        owner = _subject(leaf, NameOID.COMMON_NAME)
        text = f"the key of credential {owner!r} is not RSA, which the signature profile needs"
        raise KeystoreError("keystore.malformed", text)
    return RsaKey(key)


def _public(certificate: x509.Certificate) -> object:
    """The certificate's key, or None where it is of a kind, or damaged in a way, that cannot be read."""
    try:
        return public_key_of(certificate)
    except CertificateError:
        return None


def _subject(certificate: x509.Certificate, oid: x509.ObjectIdentifier) -> str:
    values = certificate.subject.get_attributes_for_oid(oid)
    return str(values[0].value) if values else ""
