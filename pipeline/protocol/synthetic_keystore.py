"""Keystores for sandboxes and tests, in every vintage that `pipeline.protocol.keystore` reads. Never for real keys."""

import base64
import codecs
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.modes import CBC
from cryptography.hazmat.primitives.padding import PKCS7
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from lxml import etree

from pipeline.protocol import ber
from pipeline.protocol.credential import Credential, CredentialKind, RsaKey, SigningKey
from pipeline.protocol.namespaces import Ns
from pipeline.protocol.xml import parse

_PBE_SHA1_3DES = bytes.fromhex("060A2A864886F70D010C0103")
"""OBJECT IDENTIFIER 1.2.840.113549.1.12.1.3, pbeWithSHAAnd3-KeyTripleDES-CBC (RFC 7292, appendix C)."""
_PKCS7_DATA = bytes.fromhex("06092A864886F70D010701")
_PKCS7_SIGNED_DATA = bytes.fromhex("06092A864886F70D010702")
_CONSTRUCTED_STRING = 0x24
_ITERATIONS = 1024
_SCHEMA = {"xsi": "XMLSchema-instance", "xsd": "XMLSchema"}
_BASE64 = {"salt", "sha1fingerprint", "publicCertificate", "protectedPrivateKey"}
_SHA1_BLOCK = 64


ATTRIBUTES = ("id", "credentialSalt", "credentialType", "integrityValue")
ELEMENTS = (
    "name1",
    "name2",
    "abn",
    "legalName",
    "personId",
    "serialNumber",
    "creationDate",
    "notBefore",
    "notAfter",
    "sha1fingerprint",
    "publicCertificate",
    "protectedPrivateKey",
)


@dataclass(frozen=True, slots=True)
class Vintage:
    """How a store was written: by default as now. The orders and the dress mean nothing, and readers must not mind."""

    indefinite_length: bool = True
    """BER of indefinite length, as the present issuer writes its certificate sets; else DER."""
    salt_size: int = 20
    utc_offset: str = "+10:00"
    """Written behind the certificate's UTC digits as they are, which is the present issuer's mistake."""
    leaf_last: bool = False
    attributes: tuple[str, ...] = ATTRIBUTES
    elements: tuple[str, ...] = ELEMENTS
    prefix: str | None = None
    """The namespace's prefix; None makes it the default namespace."""
    schema_declarations: bool = False
    """Whether xsi and xsd are declared, which nothing uses."""
    byte_order_mark: bool = False
    line_length: int = 0
    """Characters of base64 on a line; 0 breaks none."""
    comments: bool = False


VINTAGES = {
    "present": Vintage(),
    "offline": Vintage(indefinite_length=False, salt_size=8, utc_offset="+00:00"),
    "auskey": Vintage(indefinite_length=False, utc_offset="+11:00", schema_declarations=True),
}
"""By name: as issued now, the issuer's offline sample, and AUSkeys until 2020."""


def write(credentials: Sequence[Credential], password: str, seed: bytes, vintage: Vintage | None = None) -> bytes:
    """A `keystore.xml`. Salts and integrity values are derived from `seed`, so the same call gives the same bytes.

    Raises:
        TypeError: a credential's key is not in memory, and so cannot be written.
    """
    vintage = vintage or Vintage()
    root = parse(_root(vintage).encode())
    root.addprevious(etree.Comment(" SYNTHETIC: no agency knows these keys and certificates "))
    _add(root, "salt", _base64(_derived(seed, "store", 20)), vintage)
    parent = etree.SubElement(root, Ns.KEYSTORE("credentials"))
    for credential in credentials:
        salt = _derived(seed, f"salt {credential.id}", vintage.salt_size)
        element = etree.SubElement(parent, Ns.KEYSTORE("credential"))
        values = {
            "id": credential.id,
            "credentialSalt": _base64(salt),
            "credentialType": "U" if credential.kind is CredentialKind.USER else "D",
            "integrityValue": _base64(_derived(seed, f"integrity {credential.id}", 20)),
        }
        for name in vintage.attributes:
            element.set(name, values[name])
        texts = _texts(credential, password, salt, vintage)
        for name in vintage.elements:
            _add(element, name, texts[name], vintage)
    document: bytes = etree.tostring(root.getroottree(), encoding="utf-8", xml_declaration=True)
    return codecs.BOM_UTF8 + document if vintage.byte_order_mark else document


def protect(key: SigningKey, password: str, salt: bytes) -> bytes:
    """An EncryptedPrivateKeyInfo (RFC 5958, 3) under pbeWithSHAAnd3-KeyTripleDES-CBC, which no library here writes."""
    if not isinstance(key, RsaKey):
        raise TypeError("only a key in memory can be written")
    plain = key.private.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    padder = PKCS7(TripleDES.block_size).padder()
    triple_des = TripleDES(_derive(password, salt, purpose=1, size=24))
    encryptor = Cipher(triple_des, CBC(_derive(password, salt, purpose=2, size=8))).encryptor()
    encrypted = encryptor.update(padder.update(plain) + padder.finalize()) + encryptor.finalize()
    parameters = ber.encode(ber.SEQUENCE, ber.encode(ber.OCTET_STRING, salt), ber.encode_integer(_ITERATIONS))
    algorithm = ber.encode(ber.SEQUENCE, _PBE_SHA1_3DES, parameters)
    return ber.encode(ber.SEQUENCE, algorithm, ber.encode(ber.OCTET_STRING, encrypted))


def certificate_set(certificates: Sequence[x509.Certificate], *, indefinite_length: bool) -> bytes:
    """A degenerate PKCS#7 SignedData (RFC 5652, 5.1): certificates and no signer."""
    wrap = ber.encode_indefinite if indefinite_length else ber.encode
    content = (
        (wrap(ber.CONTEXT_0, wrap(_CONSTRUCTED_STRING, ber.encode(ber.OCTET_STRING))),) if indefinite_length else ()
    )
    encoded = (certificate.public_bytes(Encoding.DER) for certificate in certificates)
    signed_data = wrap(
        ber.SEQUENCE,
        ber.encode_integer(1),
        ber.encode(ber.SET),
        wrap(ber.SEQUENCE, _PKCS7_DATA, *content),
        wrap(ber.CONTEXT_0, *encoded),
        ber.encode(ber.SET),
    )
    return wrap(ber.SEQUENCE, _PKCS7_SIGNED_DATA, wrap(ber.CONTEXT_0, signed_data))


def _root(vintage: Vintage) -> str:
    name = "credentialStore" if vintage.prefix is None else f"{vintage.prefix}:credentialStore"
    own = "xmlns" if vintage.prefix is None else f"xmlns:{vintage.prefix}"
    unused = (f' xmlns:{one}="http://www.w3.org/2001/{_SCHEMA[one]}"' for one in _SCHEMA if vintage.schema_declarations)
    return f'<{name} {own}="{Ns.KEYSTORE}"{"".join(unused)}/>'


def _texts(credential: Credential, password: str, salt: bytes, vintage: Vintage) -> dict[str, str]:
    """The text of each child element."""
    certificate = credential.certificate
    user = credential.kind is CredentialKind.USER
    given, _, family = credential.name.rpartition(" ") if user else (credential.name, "", "")
    chain = (certificate, *credential.chain)
    ordered = chain[::-1] if vintage.leaf_last else chain
    return {
        "name1": given,
        "name2": family,
        "abn": credential.abn,
        "legalName": credential.name,
        "personId": credential.id.partition("_")[2] if user else "",
        "serialNumber": str(certificate.serial_number),
        "creationDate": _digits(certificate.not_valid_before_utc),
        "notBefore": _digits(certificate.not_valid_before_utc) + vintage.utc_offset,
        "notAfter": _digits(certificate.not_valid_after_utc) + vintage.utc_offset,
        "sha1fingerprint": _base64(_sha1(certificate.public_bytes(Encoding.DER))),
        "publicCertificate": _base64(certificate_set(ordered, indefinite_length=vintage.indefinite_length)),
        "protectedPrivateKey": _base64(protect(credential.private_key, password, salt)),
    }


def _derive(password: str, salt: bytes, *, purpose: int, size: int) -> bytes:
    """The PKCS#12 key derivation (RFC 7292, B.2) with SHA-1, from the password as a BMPString (B.1)."""
    block = _filled(salt) + _filled((password + "\0").encode("utf-16-be"))
    derived = b""
    while len(derived) < size:
        digest = bytes((purpose,)) * _SHA1_BLOCK + block
        for _ in range(_ITERATIONS):
            digest = _sha1(digest)
        derived += digest
        addend = int.from_bytes(_filled(digest), "big") + 1
        block = b"".join(_added(block[at : at + _SHA1_BLOCK], addend) for at in range(0, len(block), _SHA1_BLOCK))
    return derived[:size]


def _filled(value: bytes) -> bytes:
    """`value` repeated to the next whole number of blocks."""
    length = -(-len(value) // _SHA1_BLOCK) * _SHA1_BLOCK
    return (value * (length // len(value) + 1))[:length]


def _added(block: bytes, addend: int) -> bytes:
    return ((int.from_bytes(block, "big") + addend) % (1 << 8 * _SHA1_BLOCK)).to_bytes(_SHA1_BLOCK, "big")


def _sha1(content: bytes) -> bytes:
    return hashlib.sha1(content, usedforsecurity=False).digest()


def _derived(seed: bytes, purpose: str, size: int) -> bytes:
    return hashlib.blake2b(purpose.encode(), digest_size=size, key=seed[:64]).digest()


def _digits(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S")


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _add(parent: etree._Element, name: str, text: str, vintage: Vintage) -> None:
    if vintage.comments:
        parent.append(etree.Comment(f" synthetic: {name} follows "))
    length = vintage.line_length
    if length and name in _BASE64:
        text = "".join(f"\n{text[at : at + length]}" for at in range(0, len(text), length)) + "\n"
    etree.SubElement(parent, Ns.KEYSTORE(name)).text = text
