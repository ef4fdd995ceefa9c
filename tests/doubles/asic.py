"""Synthetic parties for ASIC Business Names: a credential, a token as the service would give it, and lodgments."""

import base64
import hashlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from uuid import UUID

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from pipeline.channels.asic_bn import AsicBusinessNames
from pipeline.channels.asic_profile import SERVICE, AsicProfile, BasicCredentials, Software, TokenTerms
from pipeline.channels.contract import Envelope, SealOrder
from pipeline.lodgment.lodgment import Lodgment
from pipeline.lodgment.references import MessageReferenceNumber
from pipeline.lodgment.states import State
from pipeline.protocol.credential import Credential, RsaKey
from pipeline.protocol.wsse import AssertionReference, identity_token
from pipeline.protocol.wstrust import SecurityToken

NOW = datetime(2026, 11, 23, 3, 30, tzinfo=UTC)
ABN = "11000002568"
NAMESPACE = "uri:v1.external.bn.lodge.application.asic.gov.au"
LODGMENT_ID = UUID("0199aabb-ccdd-7eef-8123-456789abcdef")
PAYLOAD = (
    f'<b:businessDocumentBody xmlns:b="{NAMESPACE}"><b:name>Zoë &amp; Sons</b:name></b:businessDocumentBody>'
).encode()

TERMS = TokenTerms(
    sts="https://sts.example.test/S007v1.3/service.svc",
    applies_to="https://asic.example.test",
    claims=("http://vanguard.ebusiness.gov.au/2008/06/identity/claims/abn",),
)


@cache
def make_credential(name: str = "Payroll") -> Credential:
    """A self-signed leaf with a 2048-bit key."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.COUNTRY_NAME, "AU"),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, ABN),
            x509.NameAttribute(NameOID.COMMON_NAME, name),
        ]
    )
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - timedelta(days=1))
        .not_valid_after(NOW + timedelta(days=700))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    der = certificate.public_bytes(serialization.Encoding.DER)
    return Credential(f"ABRD:{ABN}_{name}", ABN, name, certificate, der, RsaKey(key))


def make_assertion(*, default_namespace: bool = False) -> bytes:
    """An EncryptedAssertion shaped like the token service's, with noise where the ciphertext would be."""
    saml = "urn:oasis:names:tc:SAML:2.0:assertion"
    noise = base64.b64encode(b"".join(hashlib.sha256(bytes([n])).digest() for n in range(180))).decode()
    start, end = (
        (f'<EncryptedAssertion xmlns="{saml}">', "</EncryptedAssertion>")
        if default_namespace
        else (f'<saml2:EncryptedAssertion xmlns:saml2="{saml}" >\r\n', "</saml2:EncryptedAssertion>")
    )
    return (
        f'{start}<xenc:EncryptedData xmlns:xenc="http://www.w3.org/2001/04/xmlenc#" Id="ED-1"'
        ' Type="http://www.w3.org/2001/04/xmlenc#Element">'
        '<xenc:EncryptionMethod Algorithm="http://www.w3.org/2001/04/xmlenc#aes256-cbc"/>'
        f"<xenc:CipherData><xenc:CipherValue>{noise}</xenc:CipherValue></xenc:CipherData></xenc:EncryptedData>{end}"
    ).encode()


ASSERTION_ID = identity_token(make_assertion(), AssertionReference.WSU_ID).part.id
"""That an envelope puts on `make_assertion()`."""


def make_token(assertion: bytes | None = None, proof_key: bytes = bytes(range(64))) -> SecurityToken:
    return SecurityToken(assertion or make_assertion(), proof_key, "_synthetic", NOW, NOW + timedelta(minutes=30))


def make_lodgment(action: str = "bnLodgeApplication", *, id_: UUID = LODGMENT_ID) -> Lodgment:
    return Lodgment(
        id=id_,
        reference=MessageReferenceNumber(str(id_)),
        job_id="job-1",
        content_digest="0" * 64,
        channel="asic_bn",
        service=SERVICE,
        action=action,
        environment="sandbox",
        sender_id="900001",
        sender_type="REGA",
        party_abn=ABN,
        credential=f"ABRD:{ABN}_Payroll",
        software_id=None,
        order_key=None,
        priority=5,
        due_date=None,
        received_at=NOW,
        payload_id=UUID(int=1),
        facts={},
        state=State.AUTHORISED,
    )


def make_profile(reference: AssertionReference = AssertionReference.WSU_ID) -> AsicProfile:
    return AsicProfile(
        environment="sandbox",
        base_url="https://asic.example.test/",
        authentication=TERMS,
        software=Software("Synthetic Payroll Pty Ltd", 'Pay & "Go" <fast>', "1.0"),
        assertion_reference=reference,
    )


def make_channel(reference: AssertionReference = AssertionReference.WSU_ID) -> AsicBusinessNames:
    return AsicBusinessNames(make_profile(reference))


def make_acting_channel() -> AsicBusinessNames:
    """A channel whose tokens act for the employer."""
    return AsicBusinessNames(replace(make_profile(), authentication=replace(TERMS, act_as_employer=True)))


def make_basic_channel() -> AsicBusinessNames:
    login = BasicCredentials("agent", "pass:wörd")
    return AsicBusinessNames(replace(make_profile(), authentication=login))


def make_order(payload: bytes = PAYLOAD, nonce: str = "n1", token: SecurityToken | None = None) -> SealOrder:
    return SealOrder(make_lodgment(), payload, make_credential(), token or make_token(), NOW, nonce)


def on_the_wire(envelope: Envelope, payload: bytes) -> bytes:
    return envelope.head + payload + envelope.tail
