"""Verifiers in Python that share no code with what seals: signxml, and a plain one over hashlib, hmac and cryptography.

Both read the finished message afresh and know nothing of fragments. The plain one takes what signxml cannot: names that
are not ASCII, which signxml writes anew.
"""

import base64
import hashlib
import hmac
from datetime import datetime
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from lxml import etree
from signxml.algorithms import DigestAlgorithm, SignatureMethod
from signxml.verifier import SignatureConfiguration, XMLVerifier

from tests.oracles.verdict import Signed

_DS = "{http://www.w3.org/2000/09/xmldsig#}"
_XENC = "{http://www.w3.org/2001/04/xmlenc#}"
_WSU_ID = "{http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-utility-1.0.xsd}Id"
_SECURITY = ".//{http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-secext-1.0.xsd}Security"
_EXCLUSIVE = "http://www.w3.org/2001/10/xml-exc-c14n#"
_SHA256 = "http://www.w3.org/2001/04/xmlenc#sha256"
RSA_SHA256 = "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256"
HMAC_SHA256 = "http://www.w3.org/2001/04/xmldsig-more#hmac-sha256"


class DoesNotHoldError(Exception):
    """The plain verifier's refusal."""


def plainly(document: bytes, certificate: x509.Certificate, session_key: bytes = b"") -> list[Signed]:
    """Every signature in the Security header, checked by the book (XML Signature 1.1, 3.2).

    Raises:
        DoesNotHoldError: one of them does not hold.
    """
    security = etree.fromstring(document).find(_SECURITY)
    if security is None:
        raise DoesNotHoldError("no Security header")
    return [_checked(signature, certificate, session_key) for signature in security.findall(f"{_DS}Signature")]


def _checked(signature: etree._Element, certificate: x509.Certificate, session_key: bytes) -> Signed:
    info = signature.find(f"{_DS}SignedInfo")
    if info is None:
        raise DoesNotHoldError("no SignedInfo")
    method = _algorithm(info, "SignatureMethod")
    if _algorithm(info, "CanonicalizationMethod") != _EXCLUSIVE:
        raise DoesNotHoldError("another canonicalization")
    value = base64.b64decode(signature.findtext(f"{_DS}SignatureValue", ""))
    signed = _canonical(info)
    if method == RSA_SHA256:
        public = certificate.public_key()
        assert isinstance(public, RSAPublicKey)
        try:
            public.verify(value, signed, padding.PKCS1v15(), hashes.SHA256())
        except InvalidSignature as error:
            raise DoesNotHoldError("the RSA value") from error
    elif method != HMAC_SHA256 or not hmac.compare_digest(value, hmac.digest(session_key, signed, "sha256")):
        raise DoesNotHoldError(f"the value by {method}")
    covered = [_covered(reference) for reference in info.findall(f"{_DS}Reference")]
    return Signed(method, tuple(covered))


def _covered(reference: etree._Element) -> tuple[str, str]:
    wanted = reference.get("URI", "").removeprefix("#")
    root = reference.getroottree().getroot()
    found = [node for node in root.iter("*") if wanted in {node.get(_WSU_ID), node.get("Id"), node.get("ID")}]
    transforms = [one.get("Algorithm") for one in reference.iter(f"{_DS}Transform")]
    if len(found) != 1 or transforms != [_EXCLUSIVE] or _algorithm(reference, "DigestMethod") != _SHA256:
        raise DoesNotHoldError(f"the reference to {wanted}")
    digest = hashlib.sha256(_canonical(found[0])).digest()
    if digest != base64.b64decode(reference.findtext(f"{_DS}DigestValue", "")):
        raise DoesNotHoldError(f"the digest of {wanted}")
    return str(found[0].tag), wanted


def _algorithm(parent: etree._Element, name: str) -> str | None:
    found = parent.find(f"{_DS}{name}")
    return None if found is None else found.get("Algorithm")


def _canonical(element: etree._Element) -> bytes:
    content: bytes = etree.tostring(element, method="c14n", exclusive=True, with_comments=False, with_tail=False)
    return content


class _Endorsement(XMLVerifier):
    """signxml takes the first signature that it finds; the endorsing one is that without KeyInfo."""

    def _get_signature(self, root: Any) -> Any:
        return next(one for one in root.iter(f"{_DS}Signature") if one.find(f"{_DS}KeyInfo") is None)


def by_signxml(document: bytes, certificate: x509.Certificate, now: datetime, references: int = 2) -> list[bytes]:
    """The octets that the first signature in the document covers, as signxml digested them. Raises its own errors."""
    wanted = SignatureConfiguration(
        expect_references=references,
        signature_methods=frozenset({SignatureMethod.RSA_SHA256}),
        digest_algorithms=frozenset({DigestAlgorithm.SHA256}),
        verification_time=now,
    )
    return _octets(XMLVerifier().verify(document, x509_cert=certificate, expect_config=wanted))


def endorsement_by_signxml(document: bytes, session_key: bytes) -> list[bytes]:
    """The octets that the endorsing signature covers, as signxml digested them. Raises its own errors."""
    wanted = SignatureConfiguration(
        require_x509=False,
        expect_references=3,
        signature_methods=frozenset({SignatureMethod.HMAC_SHA256}),
        digest_algorithms=frozenset({DigestAlgorithm.SHA256}),
    )
    return _octets(_Endorsement().verify(document, hmac_key=session_key, expect_config=wanted))


def _octets(found: Any) -> list[bytes]:
    return [one.signed_data for one in (found if isinstance(found, list) else [found])]


def signxml_can_write(document: bytes) -> bool:
    """Whether all names are ASCII: signxml serialises a message in it before it verifies."""
    return all(f"{node.nsmap}{node.tag}{node.attrib.keys()}".isascii() for node in etree.fromstring(document).iter("*"))


def opened(assertion: bytes, private_key: RSAPrivateKey) -> bytes:
    """What is in an EncryptedAssertion: RSA-OAEP and AES-256-CBC as XML Encryption 1.1 has them (5.2.2, 5.5.2)."""
    root = etree.fromstring(assertion)
    wrapped, sealed = (base64.b64decode(value.text or "") for value in root.iter(f"{_XENC}CipherValue"))
    key = private_key.decrypt(wrapped, _OAEP)
    decryptor = Cipher(algorithms.AES(key), modes.CBC(sealed[:16])).decryptor()
    padded = decryptor.update(sealed[16:]) + decryptor.finalize()
    return padded[: -padded[-1]]


def proof_key_of(assertion: bytes, private_key: RSAPrivateKey) -> bytes:
    """The key that the SubjectConfirmation of an opened assertion holds for the relying party."""
    (value,) = etree.fromstring(assertion).iter(f"{_XENC}CipherValue")
    return private_key.decrypt(base64.b64decode(value.text or ""), _OAEP)


_OAEP = padding.OAEP(mgf=padding.MGF1(hashes.SHA1()), algorithm=hashes.SHA1(), label=None)  # noqa: S303  - rsa-oaep-mgf1p is defined with SHA-1 (XML Encryption 1.1, 5.5.2)
