"""Machine credentials in the ABR keystore (`keystore.xml`), of every vintage that was issued.

The format is not published; what is known: each credential's private key is a PKCS#8 EncryptedPrivateKeyInfo under
pbeWithSHAAnd3-KeyTripleDES-CBC (RFC 7292, appendix C) with the keystore's password as it is, and its certificates are a
PKCS#7 certificate set in DER or in BER of indefinite length, in no promised order. What `integrityValue` is made of is
not known: it is neither checked nor claimed to be.
"""

import base64
import binascii
import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, load_der_private_key
from lxml import etree

from pipeline.protocol import ber
from pipeline.protocol.certificates import CertificateError, public_key_of, read_der
from pipeline.protocol.credential import Credential, CredentialKind, RsaKey, SigningKey
from pipeline.protocol.namespaces import Ns
from pipeline.protocol.xml import XmlError, parse, text_of

KEYSTORE_LIMIT = 4 * 1024 * 1024
"""Bytes; a credential takes about 9 KB."""


class KeystoreError(ValueError):
    """A keystore, or another key file, that cannot be used. `code` says why; no password and no key is quoted."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


KeyFinder = Callable[[x509.Certificate], SigningKey]
"""Finds a certificate's private key where it is kept outside of files; raises KeystoreError where there is none."""


@dataclass(frozen=True, slots=True)
class Unusable:
    """A credential that cannot be used, beside others that can. `error` says why."""

    id: str
    abn: str
    error: KeystoreError


def read_entries(
    document: bytes, password: str, find_key: KeyFinder | None = None
) -> tuple[Credential | Unusable, ...]:
    """Every credential of a keystore, unlocked, in the order of the file, which means nothing: see `select`.

    With `find_key` no private key in the store is looked at, and the password is not used. One that is damaged takes no
    other down with it. Dates are the certificate's: `notBefore` and `notAfter` of some vintages carry an offset that is
    ten hours wrong.

    Raises:
        KeystoreError: `keystore.malformed`: the store as a whole cannot be read, or is empty.
    """
    try:
        root = parse(document, KEYSTORE_LIMIT)
    except XmlError as error:
        raise KeystoreError("keystore.malformed", f"the keystore cannot be read: {_unquoted(error)}") from None
    if root.tag != Ns.KEYSTORE("credentialStore"):
        raise KeystoreError("keystore.malformed", "not an ABR keystore: its root must be credentialStore")
    found = tuple(_entry(element, password, find_key) for element in root.iter(Ns.KEYSTORE("credential")))
    if not found:
        raise KeystoreError("keystore.malformed", "the keystore holds no credential")
    return found


def _unquoted(error: XmlError) -> str:
    """What is wrong, without the names that libxml2 repeats: in a damaged file a line of a key may stand there."""
    cause = error.__cause__
    if isinstance(cause, etree.XMLSyntaxError):
        line, column = cause.position
        return f"no well-formed XML, line {line}, column {column}"
    return str(error)


def read_keystore(document: bytes, password: str) -> tuple[Credential, ...]:
    """The credentials of a keystore that can be used; `read_entries` also tells of those that cannot.

    Raises:
        KeystoreError: none can be used: `keystore.malformed`, `keystore.unlock` (wrong password or damaged key),
            `keystore.mismatch` (the private key is not the certificate's).
    """
    return usable(read_entries(document, password))


def usable(entries: Iterable[Credential | Unusable]) -> tuple[Credential, ...]:
    """The credentials among `entries`.

    Raises:
        KeystoreError: there is none: what is wrong with the first, and how many others are no better.
    """
    entries = tuple(entries)
    credentials = tuple(one for one in entries if isinstance(one, Credential))
    broken = [one.error for one in entries if isinstance(one, Unusable)]
    if broken and not credentials:
        others = f", and none of the other {len(broken) - 1} can be used" if len(broken) > 1 else ""
        raise KeystoreError(broken[0].code, f"{broken[0]}{others}") from broken[0]
    return credentials


def select(credentials: Sequence[Credential], wanted: str, unusable: Sequence[Unusable] = ()) -> Credential:
    """The credential whose id is `wanted`, or the only one of that ABN.

    A replaced credential keeps its display name and so its id: of several with one id, the last to expire is taken. An
    ABN that two ids share stays ambiguous when one of them is unusable: damage must not decide who signs.

    Raises:
        KeystoreError: `keystore.not-found` or `keystore.ambiguous`, which name the ids that there are; or the error of
            the unusable one that is meant.
    """
    entries: tuple[Credential | Unusable, ...] = (*credentials, *unusable)
    for meant in ([one for one in entries if one.id == wanted], _of_abn(entries, wanted.replace(" ", ""))):
        good = [one for one in meant if isinstance(one, Credential)]
        if good:
            return max(good, key=lambda credential: credential.not_after)
        for one in meant:
            if isinstance(one, Unusable):
                raise one.error
    text = f"no credential has the id or ABN {wanted!r}; there are: {_names(entries)}"
    raise KeystoreError("keystore.not-found", text)


def _of_abn(entries: Sequence[Credential | Unusable], abn: str) -> list[Credential | Unusable]:
    same = [one for one in entries if one.abn and one.abn == abn]
    if len({one.id for one in same}) > 1:
        text = f"several credentials have the ABN {abn}; name one of: {_names(same)}"
        raise KeystoreError("keystore.ambiguous", text)
    return same


def _names(entries: Iterable[Credential | Unusable]) -> str:
    return ", ".join(sorted({one.id for one in entries}))


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


def require_pair(key: SigningKey, certificate: x509.Certificate, owner: str) -> None:
    """Refuse a private key that is not the certificate's: everything signed with it would be refused later, and oddly.

    Raises:
        KeystoreError: `keystore.mismatch`, or `keystore.malformed` when the certificate's key cannot be read.
    """
    try:
        belongs = key.public_key() == public_key_of(certificate)
    except CertificateError as error:
        raise KeystoreError("keystore.malformed", f"the public key in the certificate of {owner} is damaged") from error
    if not belongs:
        raise KeystoreError("keystore.mismatch", f"the private key of {owner} does not belong to its certificate")


def _entry(element: etree._Element, password: str, find_key: KeyFinder | None) -> Credential | Unusable:
    identity = (element.get("id") or "").strip()
    try:
        return _credential(element, identity, password, find_key)
    except KeystoreError as error:
        abn = element.findtext(Ns.KEYSTORE("abn")) or ""
        return Unusable(identity, abn.replace(" ", "").strip(), error)


def _credential(element: etree._Element, identity: str, password: str, find_key: KeyFinder | None) -> Credential:
    owner = f"credential {identity[:200]!r}"
    certificates = _certificates(_bytes(element, "publicCertificate", owner), owner)
    leaf = _leaf(element, certificates, owner)
    if find_key is None:
        key: SigningKey = RsaKey(unlocked(_bytes(element, "protectedPrivateKey", owner), password, owner))
    else:
        key = find_key(leaf)
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
        kind=_kind(element, identity),
    )


def _kind(element: etree._Element, identity: str) -> CredentialKind:
    letter = (element.get("credentialType") or "").strip()
    user = letter == "U" or (letter != "D" and identity.startswith("ABRP:"))
    return CredentialKind.USER if user else CredentialKind.DEVICE


def _certificates(pkcs7: bytes, owner: str) -> tuple[x509.Certificate, ...]:
    """The certificates of a degenerate SignedData (RFC 5652, 5.1), BER or DER, each in its own bytes."""
    try:
        _content_type, content = ber.children(ber.read(pkcs7))
        (signed_data,) = ber.children(content)
        sets = [part for part in ber.children(signed_data) if part.tag == ber.CONTEXT_0]
        (certificate_set,) = sets
        return tuple(read_der(one.encoded) for one in ber.children(certificate_set))
    except ValueError as error:
        raise KeystoreError("keystore.malformed", f"the certificates of {owner} cannot be read: {error}") from error


def _leaf(element: etree._Element, certificates: Sequence[x509.Certificate], owner: str) -> x509.Certificate:
    """Serial numbers are unique per issuer only: the fingerprint breaks a tie, and stands in for a missing serial."""
    serial = _text(element, "serialNumber", owner)
    fingerprint = "".join(_text(element, "sha1fingerprint", owner).split())
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
