"""Keystores for sandboxes and tests, in every vintage that `pipeline.protocol.keystore` reads. Never for real keys."""

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.modes import CBC
from cryptography.hazmat.primitives.padding import PKCS7
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from lxml import etree

from pipeline.protocol import ber
from pipeline.protocol.credential import Credential
from pipeline.protocol.namespaces import Ns
from pipeline.protocol.xml import parse

_PBE_SHA1_3DES = bytes.fromhex("060A2A864886F70D010C0103")
"""OBJECT IDENTIFIER 1.2.840.113549.1.12.1.3, pbeWithSHAAnd3-KeyTripleDES-CBC (RFC 7292, appendix C)."""
_PKCS7_DATA = bytes.fromhex("06092A864886F70D010701")
_PKCS7_SIGNED_DATA = bytes.fromhex("06092A864886F70D010702")
_CONSTRUCTED_STRING = 0x24
_ITERATIONS = 1024
_SHA1_BLOCK = 64


@dataclass(frozen=True, slots=True)
class Vintage:
    """How a store was written: by default as now; `Vintage(False, 8, "+00:00")` is the issuer's offline sample."""

    indefinite_length: bool = True
    salt_size: int = 20
    utc_offset: str = "+10:00"
    """Written behind the certificate's UTC digits as they are, which is the present issuer's mistake."""
    leaf_last: bool = False


def write(credentials: Sequence[Credential], password: str, seed: bytes, vintage: Vintage | None = None) -> bytes:
    """A `keystore.xml`. Salts and integrity values are derived from `seed`, so the same call gives the same bytes."""
    vintage = vintage or Vintage()
    root = parse(f'<credentialStore xmlns="{Ns.KEYSTORE.value}"/>'.encode())
    _add(root, "salt", _base64(_derived(seed, "store", 20)))
    parent = etree.SubElement(root, Ns.KEYSTORE("credentials"))
    for credential in credentials:
        salt = _derived(seed, f"salt {credential.id}", vintage.salt_size)
        element = etree.SubElement(parent, Ns.KEYSTORE("credential"), id=credential.id)
        element.set("credentialSalt", _base64(salt))
        element.set("credentialType", "U" if credential.id.startswith("ABRP:") else "D")
        element.set("integrityValue", _base64(_derived(seed, f"integrity {credential.id}", 20)))
        for name, text in _fields(credential, password, salt, vintage):
            _add(element, name, text)
    document: bytes = etree.tostring(root, encoding="utf-8", xml_declaration=True)
    return document


def protect(key: RSAPrivateKey, password: str, salt: bytes) -> bytes:
    """An EncryptedPrivateKeyInfo (RFC 5958, 3) under pbeWithSHAAnd3-KeyTripleDES-CBC, which no library here writes."""
    plain = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
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


def _fields(credential: Credential, password: str, salt: bytes, vintage: Vintage) -> tuple[tuple[str, str], ...]:
    certificate = credential.certificate
    user = credential.id.startswith("ABRP:")
    given, _, family = credential.name.rpartition(" ") if user else (credential.name, "", "")
    chain = (certificate, *credential.chain)
    ordered = chain[::-1] if vintage.leaf_last else chain
    return (
        ("name1", given),
        ("name2", family),
        ("abn", credential.abn),
        ("legalName", credential.name),
        ("personId", credential.id.partition("_")[2] if user else ""),
        ("serialNumber", str(certificate.serial_number)),
        ("creationDate", _digits(certificate.not_valid_before_utc)),
        ("notBefore", _digits(certificate.not_valid_before_utc) + vintage.utc_offset),
        ("notAfter", _digits(certificate.not_valid_after_utc) + vintage.utc_offset),
        ("sha1fingerprint", _base64(_sha1(certificate.public_bytes(Encoding.DER)))),
        ("publicCertificate", _base64(certificate_set(ordered, indefinite_length=vintage.indefinite_length))),
        ("protectedPrivateKey", _base64(protect(credential.private_key, password, salt))),
    )


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


def _add(parent: etree._Element, name: str, text: str) -> None:
    etree.SubElement(parent, Ns.KEYSTORE(name)).text = text
