"""Machine credentials in the ABR keystore (`keystore.xml`), of every vintage that was issued.

The format is not published; what is known: each credential's private key is a PKCS#8 EncryptedPrivateKeyInfo under
pbeWithSHAAnd3-KeyTripleDES-CBC (RFC 7292, appendix C) with the keystore's password as it is, and its certificates are a
PKCS#7 certificate set in DER or in BER of indefinite length, in no promised order.
"""

import base64
import binascii
import hashlib
from collections.abc import Sequence

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, load_der_private_key
from lxml import etree

from pipeline.protocol import ber
from pipeline.protocol.credential import Credential
from pipeline.protocol.namespaces import Ns
from pipeline.protocol.xml import XmlError, parse, text_of

KEYSTORE_LIMIT = 4 * 1024 * 1024
"""Bytes; a credential takes about 9 KB."""


class KeystoreError(ValueError):
    """A keystore, or another key file, that cannot be used. `code` says why; no password and no key is quoted."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


def read_keystore(document: bytes, password: str) -> tuple[Credential, ...]:
    """Every credential of a keystore, unlocked, in the order of the file, which means nothing: see `select`.

    Dates are the certificate's: `notBefore` and `notAfter` of some vintages carry an offset that is ten hours wrong.

    Raises:
        KeystoreError: `keystore.malformed`, `keystore.unlock` (wrong password or damaged key), `keystore.mismatch` (the
            private key is not the certificate's).
    """
    try:
        root = parse(document, KEYSTORE_LIMIT)
    except XmlError as error:
        raise KeystoreError("keystore.malformed", f"the keystore cannot be read: {error}") from error
    if root.tag != Ns.KEYSTORE("credentialStore"):
        raise KeystoreError("keystore.malformed", "not an ABR keystore: its root must be credentialStore")
    found = tuple(_credential(element, password) for element in root.iter(Ns.KEYSTORE("credential")))
    if not found:
        raise KeystoreError("keystore.malformed", "the keystore holds no credential")
    return found


def select(credentials: Sequence[Credential], wanted: str) -> Credential:
    """The credential whose id is `wanted`, or the only one of that ABN.

    A replaced credential keeps its display name and so its id: of several with one id, the last to expire is taken.

    Raises:
        KeystoreError: `keystore.not-found` or `keystore.ambiguous`; both name the ids that there are.
    """
    same_id = [credential for credential in credentials if credential.id == wanted]
    if same_id:
        return max(same_id, key=lambda credential: credential.not_after)
    abn = wanted.replace(" ", "")
    same_abn = [credential for credential in credentials if credential.abn == abn]
    names = ", ".join(sorted({credential.id for credential in same_abn or credentials}))
    if not same_abn:
        raise KeystoreError("keystore.not-found", f"no credential has the id or ABN {wanted!r}; there are: {names}")
    if len({credential.id for credential in same_abn}) > 1:
        raise KeystoreError("keystore.ambiguous", f"several credentials have the ABN {abn}; name one of: {names}")
    return max(same_abn, key=lambda credential: credential.not_after)


def unlocked(der: bytes, password: str, owner: str) -> RSAPrivateKey:
    """The private key in an EncryptedPrivateKeyInfo. `owner` names the credential in the error.

    Raises:
        KeystoreError: `keystore.unlock`; whether the password is wrong or the bytes are damaged cannot be told apart.
    """
    try:
        key = load_der_private_key(der, password.encode())
    except UnsupportedAlgorithm as error:
        raise KeystoreError(
            "keystore.unlock", f"cannot unlock {owner}: this machine's cryptography has 3DES switched off (FIPS mode?)"
        ) from error
    except (ValueError, TypeError) as error:
        raise KeystoreError(
            "keystore.unlock", f"cannot unlock {owner}: the password is wrong or the private key is damaged"
        ) from error
    if not isinstance(key, RSAPrivateKey):
        raise KeystoreError("keystore.malformed", f"the key of {owner} is not RSA, which the signature profile needs")
    return key


def require_pair(key: RSAPrivateKey, certificate: x509.Certificate, owner: str) -> None:
    """Refuse a private key that is not the certificate's: everything signed with it would be refused later, and oddly.

    Raises:
        KeystoreError: `keystore.mismatch`, or `keystore.malformed` when the certificate's key cannot be read.
    """
    try:
        belongs = key.public_key() == certificate.public_key()
    except (ValueError, UnsupportedAlgorithm) as error:
        raise KeystoreError("keystore.malformed", f"the public key in the certificate of {owner} is damaged") from error
    if not belongs:
        raise KeystoreError("keystore.mismatch", f"the private key of {owner} does not belong to its certificate")


def _credential(element: etree._Element, password: str) -> Credential:
    identity = (element.get("id") or "").strip()
    owner = f"credential {identity[:200]!r}"
    certificates = _certificates(_bytes(element, "publicCertificate", owner), owner)
    leaf = _leaf(element, certificates, owner)
    key = unlocked(_bytes(element, "protectedPrivateKey", owner), password, owner)
    require_pair(key, leaf, owner)
    names = (_text(element, "name1", owner), _text(element, "name2", owner))
    return Credential(
        id=identity,
        abn=_text(element, "abn", owner).replace(" ", ""),
        name=" ".join(filter(None, names)),
        certificate=leaf,
        certificate_der=leaf.public_bytes(Encoding.DER),
        private_key=key,
        chain=tuple(certificate for certificate in certificates if certificate != leaf),
    )


def _certificates(pkcs7: bytes, owner: str) -> tuple[x509.Certificate, ...]:
    """The certificates of a degenerate SignedData (RFC 5652, 5.1), BER or DER, each in its own bytes."""
    try:
        _content_type, content = ber.children(ber.read(pkcs7))
        (signed_data,) = ber.children(content)
        sets = [part for part in ber.children(signed_data) if part.tag == ber.CONTEXT_0]
        (certificate_set,) = sets
        return tuple(x509.load_der_x509_certificate(one.encoded) for one in ber.children(certificate_set))
    except (ValueError, x509.InvalidVersion) as error:
        raise KeystoreError("keystore.malformed", f"the certificates of {owner} cannot be read: {error}") from error


def _leaf(element: etree._Element, certificates: Sequence[x509.Certificate], owner: str) -> x509.Certificate:
    """Serial numbers are unique per issuer only: the fingerprint breaks a tie, and stands in for a missing serial."""
    serial = _text(element, "serialNumber", owner)
    fingerprint = _text(element, "sha1fingerprint", owner)
    by_serial = [one for one in certificates if str(one.serial_number) == (serial.lstrip("0") or serial)]
    by_fingerprint = [one for one in certificates if _sha1(one) == fingerprint]
    for found in ([one for one in by_serial if one in by_fingerprint], by_serial, by_fingerprint):
        if len(found) == 1:
            return found[0]
    raise KeystoreError("keystore.malformed", f"no certificate of {owner} has its serialNumber or sha1fingerprint")


def _sha1(certificate: x509.Certificate) -> str:
    digest = hashlib.sha1(certificate.public_bytes(Encoding.DER), usedforsecurity=False).digest()
    return base64.b64encode(digest).decode()


def _bytes(element: etree._Element, name: str, owner: str) -> bytes:
    try:
        return base64.b64decode("".join(_text(element, name, owner).split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise KeystoreError("keystore.malformed", f"{name} of {owner} is not base64") from error


def _text(element: etree._Element, name: str, owner: str) -> str:
    child = element.find(Ns.KEYSTORE(name))
    try:
        return "" if child is None else text_of(child)
    except XmlError as error:
        raise KeystoreError("keystore.malformed", f"{name} of {owner}: {error}") from error
