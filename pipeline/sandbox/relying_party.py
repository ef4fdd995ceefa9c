"""The security token as the gateway reads it: decrypted, its signature checked, and read from the signed node."""

import base64
import binascii
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

import xmlsec
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from lxml import etree

from pipeline.protocol.namespaces import Ns
from pipeline.protocol.xml import XmlError, canonical, parse
from pipeline.sandbox.assertion import ENCRYPTION, HOLDER_OF_KEY, OAEP
from pipeline.sandbox.certificates import KeyPair
from pipeline.sandbox.judge import ForgedError, check_enveloped_signature, text

_CACHE_SIZE = 1_000
_TOKEN_LIMIT = 1_000_000


class UnreadableError(Exception):
    """The token does not decrypt. One text for every cause: a second one would answer an attacker's question."""

    def __init__(self) -> None:
        super().__init__("the security token cannot be decrypted")


class UnacceptableError(Exception):
    """The token was read, and what it says is not enough."""


@dataclass(frozen=True, slots=True)
class OpenToken:
    """A token whose signature holds. Its times and audience are not judged yet."""

    audience: str
    claims: Mapping[str, str]
    not_before: datetime
    not_on_or_after: datetime
    proof_key: bytes = field(repr=False)


class RelyingParty:
    """Opens tokens. The same token comes with every envelope, so opened ones are remembered by their exact bytes."""

    def __init__(self, own: KeyPair, sts: x509.Certificate) -> None:
        pem = own.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        self._keys = xmlsec.KeysManager()
        self._keys.add_key(xmlsec.Key.from_memory(pem, xmlsec.constants.KeyDataFormatPem))
        self._private_key = own.key
        certificate = sts.public_bytes(Encoding.PEM)
        self._sts = xmlsec.Key.from_memory(certificate, xmlsec.constants.KeyDataFormatCertPem)
        self._opened: dict[bytes, OpenToken] = {}

    def open(self, encrypted_data: etree._Element) -> OpenToken:
        """The token in an EncryptedData.

        Raises:
            UnreadableError: it does not decrypt to an assertion, for whatever reason.
            UnacceptableError: the assertion is not the token service's, or is incomplete.
        """
        try:
            content = canonical(encrypted_data)
        except XmlError as error:
            raise UnreadableError from error
        digest = hashlib.sha256(content).digest()
        if digest not in self._opened:
            token = self._read(self._decrypt(content))
            if len(self._opened) >= _CACHE_SIZE:
                del self._opened[next(iter(self._opened))]
            self._opened[digest] = token
        return self._opened[digest]

    def _decrypt(self, content: bytes) -> etree._Element:
        """Works on a copy with nothing around it: decryption replaces the node, and the envelope stays as signed."""
        wrapper = etree.Element("wrapper")
        wrapper.append(parse(content, _TOKEN_LIMIT))
        if [one.get("Algorithm") for one in wrapper.iter(Ns.XENC("EncryptionMethod"))] != list(ENCRYPTION):
            raise UnreadableError
        try:
            assertion = xmlsec.EncryptionContext(self._keys).decrypt(wrapper[0])
            # Parsed afresh: the ids and namespaces of the wrapper must not reach into the assertion.
            root = parse(etree.tostring(assertion), _TOKEN_LIMIT)
        except (xmlsec.Error, XmlError, TypeError, ValueError) as error:
            raise UnreadableError from error
        if root.tag != Ns.SAML2("Assertion"):
            raise UnreadableError
        return root

    def _read(self, assertion: etree._Element) -> OpenToken:
        try:
            check_enveloped_signature(assertion, self._sts)
            conditions = _one(assertion, "Conditions")
            audience = text(_one(_one(conditions, "AudienceRestriction"), "Audience"), "Audience")
            attributes = _one(assertion, "AttributeStatement").findall(Ns.SAML2("Attribute"))
            claims = {one.get("Name", ""): text(_one(one, "AttributeValue"), "AttributeValue") for one in attributes}
            return OpenToken(
                audience=audience,
                claims=claims,
                not_before=datetime.fromisoformat(conditions.get("NotBefore", "")),
                not_on_or_after=datetime.fromisoformat(conditions.get("NotOnOrAfter", "")),
                proof_key=self._proof_key(assertion),
            )
        except (ForgedError, ValueError) as error:
            raise UnacceptableError(f"the token is not acceptable: {error}") from error

    def _proof_key(self, assertion: etree._Element) -> bytes:
        confirmation = _one(_one(assertion, "Subject"), "SubjectConfirmation")
        if confirmation.get("Method") != HOLDER_OF_KEY:
            raise UnacceptableError("the token did not include a session key")
        value = confirmation.find(f".//{Ns.XENC('EncryptedKey')}//{Ns.XENC('CipherValue')}")
        try:
            return self._private_key.decrypt(base64.b64decode(text(value, "CipherValue"), validate=True), OAEP)
        except (ValueError, binascii.Error) as error:
            raise UnreadableError from error


def _one(parent: etree._Element, name: str) -> etree._Element:
    found = parent.findall(Ns.SAML2(name))
    if len(found) != 1:
        raise UnacceptableError(f"the token must hold exactly one {name}")
    return found[0]
