"""The security token as the sandbox issues it: a SAML assertion, signed, then encrypted for the relying party."""

import base64
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

import xmlsec
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from lxml import etree

from pipeline.protocol.namespaces import Ns
from pipeline.sandbox.certificates import KeyPair
from pipeline.sandbox.saml11 import saml11_assertion
from pipeline.sandbox.soap import node, timestamp

ISSUER = "Sandbox Security Token Service (SYNTHETIC)"
HOLDER_OF_KEY = "urn:oasis:names:tc:SAML:2.0:cm:holder-of-key"
OAEP = padding.OAEP(mgf=padding.MGF1(hashes.SHA1()), algorithm=hashes.SHA1(), label=None)  # noqa: S303  - rsa-oaep-mgf1p is defined with SHA-1 (XML Encryption, 5.4.2), and no collision matters there
ENCRYPTION = (Ns.XENC.value + "aes256-cbc", Ns.XENC.value + "rsa-oaep-mgf1p")
"""Of the assertion, and of the key that it is encrypted with."""
_XSI = "http://www.w3.org/2001/XMLSchema-instance"
_PREFIXES: Mapping[str, str] = {
    "saml2": Ns.SAML2.value,
    "ds": Ns.DS.value,
    "xenc": Ns.XENC.value,
    "wsse": Ns.WSSE.value,
}


@dataclass(frozen=True, slots=True)
class Grant:
    """What a token says: for whom, for which relying party, for how long, and the key that proves it."""

    audience: str
    claims: Mapping[str, str]
    created_at: datetime
    expires_at: datetime
    proof_key: bytes = field(repr=False)


class Issuer:
    """Makes tokens that only `relying_party` can read. Keys are loaded once."""

    def __init__(self, sts: KeyPair, relying_party: x509.Certificate) -> None:
        pem = sts.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        self._signing = xmlsec.Key.from_memory(pem, xmlsec.constants.KeyDataFormatPem)
        self._certificate = sts.certificate
        public = relying_party.public_key()
        if not isinstance(public, RSAPublicKey):
            raise TypeError("the relying party's key must be RSA")
        self._relying_party = relying_party
        self._public = public
        pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        self._recipient = xmlsec.KeysManager()
        self._recipient.add_key(xmlsec.Key.from_memory(pem, xmlsec.constants.KeyDataFormatPem))

    def issue(self, grant: Grant, *, saml11: bool = False) -> tuple[str, etree._Element]:
        """The assertion's id, which only the response shows, and what RequestedSecurityToken holds.

        That is an EncryptedAssertion, or for SAML 1.1, which knows no such element, the EncryptedData itself.
        """
        assertion_id = f"_{uuid.uuid4()}"
        if saml11:
            lifetime = (grant.created_at, grant.expires_at)
            key_info = self._key_info(grant.proof_key)
            assertion = saml11_assertion(assertion_id, ISSUER, grant.audience, grant.claims, lifetime, key_info)
            self._sign(assertion, "AssertionID", len(assertion))
        else:
            assertion = self._assertion(grant, assertion_id)
            self._sign(assertion, "ID", 1)
        # Alone in its tree, so that what is encrypted declares its own namespaces.
        tree = node("tree", assertion)
        context = xmlsec.EncryptionContext(self._recipient)
        context.key = xmlsec.Key.generate(xmlsec.constants.KeyDataAes, 256, xmlsec.constants.KeyDataTypeSession)
        encrypted = context.encrypt_xml(self._encrypted_data(), tree[0])
        if saml11:
            return assertion_id, encrypted
        return assertion_id, node(Ns.SAML2("EncryptedAssertion"), encrypted, prefixes={"saml2": Ns.SAML2.value})

    def _assertion(self, grant: Grant, assertion_id: str) -> etree._Element:
        attributes = (
            node(Ns.SAML2("Attribute"), node(Ns.SAML2("AttributeValue"), value), attributes={"Name": name})
            for name, value in grant.claims.items()
        )
        return node(
            Ns.SAML2("Assertion"),
            node(Ns.SAML2("Issuer"), ISSUER),
            node(Ns.SAML2("Subject"), self._confirmation(grant.proof_key)),
            node(
                Ns.SAML2("Conditions"),
                node(Ns.SAML2("AudienceRestriction"), node(Ns.SAML2("Audience"), grant.audience)),
                attributes={
                    "NotBefore": timestamp(grant.created_at),
                    "NotOnOrAfter": timestamp(grant.expires_at),
                },
            ),
            node(Ns.SAML2("AttributeStatement"), *attributes),
            attributes={"ID": assertion_id, "IssueInstant": timestamp(grant.created_at), "Version": "2.0"},
            prefixes=_PREFIXES,
        )

    def _confirmation(self, proof_key: bytes) -> etree._Element:
        """Holder of key (SAML 2.0 profiles, 3.1): the proof key, readable by the relying party only."""
        data = node(
            Ns.SAML2("SubjectConfirmationData"),
            self._key_info(proof_key),
            attributes={f"{{{_XSI}}}type": "saml2:KeyInfoConfirmationDataType"},
            prefixes={"xsi": _XSI, "saml2": Ns.SAML2.value},
        )
        return node(Ns.SAML2("SubjectConfirmation"), data, attributes={"Method": HOLDER_OF_KEY})

    def _key_info(self, proof_key: bytes) -> etree._Element:
        encrypted = self._encrypted_key(base64.b64encode(self._public.encrypt(proof_key, OAEP)).decode())
        return node(Ns.DS("KeyInfo"), encrypted, prefixes=_PREFIXES)

    def _sign(self, assertion: etree._Element, id_name: str, place: int) -> None:
        signature = xmlsec.template.create(
            assertion, xmlsec.constants.TransformExclC14N, xmlsec.constants.TransformRsaSha256, ns="ds"
        )
        reference = xmlsec.template.add_reference(
            signature, xmlsec.constants.TransformSha256, uri=f"#{assertion.get(id_name)}"
        )
        xmlsec.template.add_transform(reference, xmlsec.constants.TransformEnveloped)
        xmlsec.template.add_transform(reference, xmlsec.constants.TransformExclC14N)
        certificate = base64.b64encode(self._certificate.public_bytes(Encoding.DER)).decode()
        x509_data = node(Ns.DS("X509Data"), node(Ns.DS("X509Certificate"), certificate))
        signature.append(node(Ns.DS("KeyInfo"), x509_data))
        assertion.insert(place, signature)
        context = xmlsec.SignatureContext()
        context.key = self._signing
        context.register_id(assertion, id_name)
        context.sign(signature)

    def _encrypted_data(self) -> etree._Element:
        return node(
            Ns.XENC("EncryptedData"),
            node(Ns.XENC("EncryptionMethod"), attributes={"Algorithm": ENCRYPTION[0]}),
            node(Ns.DS("KeyInfo"), self._encrypted_key(""), prefixes={"ds": Ns.DS.value}),
            _cipher_data(""),
            attributes={"Id": f"ED-{uuid.uuid4().hex.upper()}", "Type": Ns.XENC.value + "Element"},
            prefixes={"xenc": Ns.XENC.value},
        )

    def _encrypted_key(self, cipher_value: str) -> etree._Element:
        """Names the recipient's certificate by issuer and serial number, inside a token reference, as recorded."""
        issuer_serial = node(
            Ns.DS("X509IssuerSerial"),
            node(Ns.DS("X509IssuerName"), self._relying_party.issuer.rfc4514_string()),
            node(Ns.DS("X509SerialNumber"), str(self._relying_party.serial_number)),
        )
        reference = node(
            Ns.WSSE("SecurityTokenReference"),
            node(Ns.DS("X509Data"), issuer_serial),
            prefixes={"wsse": Ns.WSSE.value},
        )
        return node(
            Ns.XENC("EncryptedKey"),
            node(Ns.XENC("EncryptionMethod"), attributes={"Algorithm": ENCRYPTION[1]}),
            node(Ns.DS("KeyInfo"), reference),
            _cipher_data(cipher_value),
            attributes={"Id": f"EK-{uuid.uuid4().hex.upper()}"},
            prefixes=_PREFIXES,
        )


def _cipher_data(value: str) -> etree._Element:
    return node(Ns.XENC("CipherData"), node(Ns.XENC("CipherValue"), value))
