"""The request for a security token (WS-Trust 1.3, 3.1) in its signed envelope, as working clients send it."""

import base64
from datetime import datetime, timedelta

from lxml import etree

from pipeline.protocol import wsaddressing
from pipeline.protocol.credential import Credential
from pipeline.protocol.fragments import start_tag
from pipeline.protocol.namespaces import Ns
from pipeline.protocol.psha1 import COMPUTED_KEY_ALGORITHM
from pipeline.protocol.suites import V1_3, Suite
from pipeline.protocol.timestamps import security_timestamp, utc_text
from pipeline.protocol.wsse import Part, binary_security_token, certificate_signature
from pipeline.protocol.wstrust import (
    SYMMETRIC_KEY,
    Claim,
    Relationship,
    RelationshipId,
    TokenRequest,
    WsTrustError,
)

ISSUE = f"{Ns.WST}/Issue"
ISSUE_ACTION = f"{Ns.WST}/RST/Issue"
MESSAGE_TTL = timedelta(minutes=5)
REQUEST_LIMIT = 100_000
"""Bytes: "100KB" in the smaller of its two readings (MAS-ST 4.1.1)."""
_ABN_SCHEME = "uri://abr.gov.au/ABN"
_RELATIONSHIP_ID = {
    RelationshipId.QUALIFIED: Ns.VANGUARD_RELATIONSHIP("ID"),
    RelationshipId.UNQUALIFIED: "ID",
    RelationshipId.WSU: Ns.WSU("Id"),
}


def signed_request(
    request: TokenRequest,
    credential: Credential,
    sts: str,
    message_id: str,
    now: datetime,
    nonce: str,
    *,
    suite: Suite = V1_3,
    back_date: timedelta = timedelta(0),
) -> bytes:
    """The whole SOAP message. `nonce` makes element ids; it and `message_id` must be fresh in every attempt.

    `back_date` moves the message's own Timestamp into the past, for a service whose clock runs behind.

    The signature covers the Timestamp and `wsa:To` and nothing else: the service definition has the body signed too
    (4.1.2.1), but the service's policy says `SignedParts: Header To` and no working client signs more.

    Raises:
        WsTrustError: `wstrust.size`.
    """
    to = wsaddressing.to(sts, f"To-{nonce}")
    timestamp, _ = security_timestamp(now - back_date, MESSAGE_TTL, f"TS-{nonce}")
    token, token_part = binary_security_token(credential.certificate_der)
    parts = tuple(
        Part.digested(part_id, suite.digest(content), suite)
        for part_id, content in ((f"TS-{nonce}", timestamp), (f"To-{nonce}", to))
    )
    signature, _ = certificate_signature(credential.private_key, f"SIG-{nonce}", token_part, parts, suite)
    message = b"".join(
        (
            start_tag("soap:Envelope", {"soap": Ns.SOAP}).encode(),
            b"<soap:Header>",
            wsaddressing.action(ISSUE_ACTION),
            wsaddressing.message_id(message_id),
            wsaddressing.reply_to_anonymous(),
            to,
            start_tag("wsse:Security", {"wsse": Ns.WSSE}, {"soap:mustUnderstand": "1"}).encode(),
            timestamp,
            token,
            signature,
            b"</wsse:Security></soap:Header><soap:Body>",
            request_security_token(request, now),
            b"</soap:Body></soap:Envelope>",
        )
    )
    if len(message) > REQUEST_LIMIT:
        raise WsTrustError(
            "wstrust.size",
            f"the request has {len(message)} bytes, more than {REQUEST_LIMIT} (MAS-ST 4.1.1): ask for fewer claims",
        )
    return message


def request_security_token(request: TokenRequest, now: datetime) -> bytes:
    """The RequestSecurityToken element (WS-Trust 1.3, 3.1) for `request`, to be the content of a SOAP body."""
    root = etree.Element(Ns.WST("RequestSecurityToken"), nsmap={"wst": Ns.WST.value, "wsu": Ns.WSU.value})
    if request.context is not None:
        root.set("Context", request.context)
    _add(root, Ns.WST("RequestType"), ISSUE)
    applies_to = etree.SubElement(root, Ns.WSP("AppliesTo"), nsmap={"wsp": Ns.WSP.value, "wsa": Ns.WSA.value})
    _add(etree.SubElement(applies_to, Ns.WSA("EndpointReference")), Ns.WSA("Address"), request.applies_to)
    _add(root, Ns.WST("TokenType"), request.token_type)
    if request.claims:
        _add_claims(root, request.claims)
    lifetime = etree.SubElement(root, Ns.WST("Lifetime"))
    _add(lifetime, Ns.WSU("Created"), utc_text(now))
    _add(lifetime, Ns.WSU("Expires"), utc_text(now + request.lifetime))
    _add(root, Ns.WST("KeyType"), SYMMETRIC_KEY)
    if request.key_size is not None:
        _add(root, Ns.WST("KeySize"), str(request.key_size))
    if request.entropy is not None:
        secret = etree.SubElement(etree.SubElement(root, Ns.WST("Entropy")), Ns.WST("BinarySecret"))
        secret.set("Type", f"{Ns.WST}/Nonce")
        secret.text = base64.b64encode(request.entropy).decode()
        _add(root, Ns.WST("ComputedKeyAlgorithm"), COMPUTED_KEY_ALGORITHM)
    if request.relationship is not None:
        _add_act_as(root, request.relationship)
    content: bytes = etree.tostring(root)
    return content


def _add_claims(root: etree._Element, claims: tuple[Claim, ...]) -> None:
    parent = etree.SubElement(root, Ns.WST("Claims"), nsmap={"i": Ns.IDENTITY.value}, Dialect=Ns.IDENTITY.value)
    for claim in claims:
        asked = etree.SubElement(
            parent, Ns.IDENTITY("ClaimType"), Uri=claim.uri, Optional="true" if claim.optional else "false"
        )
        if claim.value is not None:
            _add(asked, Ns.IDENTITY("Value"), claim.value)


def _add_act_as(root: etree._Element, relationship: Relationship) -> None:
    """ActAs belongs to WS-Trust 1.4 (9.2); the attributes inside are qualified, as every working client writes them."""
    v13 = Ns.VANGUARD_RELATIONSHIP
    act_as = etree.SubElement(root, Ns.WST14("ActAs"), nsmap={"tr08": Ns.WST14.value})
    identity = {_RELATIONSHIP_ID[relationship.id_attribute]: relationship.id}
    token = etree.SubElement(act_as, v13("RelationshipToken"), identity, nsmap={"v13": v13.value})
    kind = etree.SubElement(token, v13("Relationship"), {v13("Type"): "OSPfor"})
    etree.SubElement(kind, v13("Attribute"), {v13("Name"): "SSID", v13("Value"): relationship.software_id})
    for name, abn in (("FirstParty", relationship.first_party), ("SecondParty", relationship.second_party)):
        etree.SubElement(token, v13(name), {v13("Scheme"): _ABN_SCHEME, v13("Value"): abn})


def _add(parent: etree._Element, name: str, text: str) -> None:
    etree.SubElement(parent, name).text = text
