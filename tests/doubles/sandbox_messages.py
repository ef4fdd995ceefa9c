"""Messages for judging the sandbox: lxml trees signed by xmlsec templates, and easy to build wrongly.

They share no code with the pipeline's own client. Trees are handed out unsigned, so that a test can bend them before or
after each signature.
"""

import base64
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import xmlsec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from lxml import etree

from pipeline.protocol.credential import SigningKey
from pipeline.sandbox.asic_messages import Service
from tests.doubles.synthetic_credentials import raw

SOAP = "http://www.w3.org/2003/05/soap-envelope"
WSA = "http://www.w3.org/2005/08/addressing"
WSP = "http://schemas.xmlsoap.org/ws/2004/09/policy"
WSSE = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-secext-1.0.xsd"
WSU = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-utility-1.0.xsd"
WST = "http://docs.oasis-open.org/ws-sx/ws-trust/200512"
WST14 = "http://docs.oasis-open.org/ws-sx/ws-trust/200802"
V13 = "http://vanguard.business.gov.au/2016/03"
FAULT = "http://vanguard.business.gov.au/2009/02"
IDENTITY = "http://schemas.xmlsoap.org/ws/2005/05/identity"
SAML2 = "urn:oasis:names:tc:SAML:2.0:assertion"
DS = "http://www.w3.org/2000/09/xmldsig#"
XENC = "http://www.w3.org/2001/04/xmlenc#"
HDR = "uri:business.document.header.types.asic.gov.au"
X509V3 = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-x509-token-profile-1.0#X509v3"
BASE64 = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-soap-message-security-1.0#Base64Binary"
SAML20 = "http://docs.oasis-open.org/wss/oasis-wss-saml-token-profile-1.1#SAMLV2.0"
CLAIM = "http://vanguard.ebusiness.gov.au/2008/06/identity/claims/"
WSU_ID = f"{{{WSU}}}Id"
MANDATORY = ("abn", "commonname", "credentialtype", "samlsubjectid", "fingerprint")


@dataclass(frozen=True, slots=True)
class Suite:
    """The algorithms of one signature, as constants of xmlsec, whose type has no public name."""

    signature: Any = xmlsec.constants.TransformRsaSha256
    digest: Any = xmlsec.constants.TransformSha256
    canonicalization: Any = xmlsec.constants.TransformExclC14N


RSA = Suite()
HMAC = Suite(signature=xmlsec.constants.TransformHmacSha256)


@dataclass(frozen=True, slots=True)
class Token:
    """What the token service gave."""

    assertion: bytes = field(repr=False)
    proof_key: bytes = field(repr=False)
    expires_at: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """A reply over HTTP."""

    status: int
    body: bytes

    @property
    def root(self) -> etree._Element:
        return etree.fromstring(self.body)

    def text(self, tag: str) -> str | None:
        """The text of the first element of that name, in Clark notation."""
        return self.root.findtext(f".//{tag}")

    @property
    def codes(self) -> list[str]:
        """The fault's codes, the outermost first, without prefixes."""
        return [(value.text or "").rpartition(":")[2] for value in self.root.iter(f"{{{SOAP}}}Value")]

    @property
    def reason(self) -> str:
        return self.text(f"{{{SOAP}}}Text") or ""

    @property
    def event(self) -> str | None:
        """The event code of a token service's fault."""
        assert self.status == 500
        return self.text(f"{{{FAULT}}}EventCode")

    @property
    def result(self) -> str:
        """The verdict of a business reply."""
        result = self.root.find(f".//{{{HDR}}}result")
        assert result is not None, self.reason
        return str(etree.QName(result[0]).localname)


def element(tag: str, *content: str | etree._Element, **attributes: str) -> etree._Element:
    """An element in Clark notation with its content; `wsu_id` becomes `wsu:Id`."""
    made = etree.Element(tag)
    if "wsu_id" in attributes:
        made.set(WSU_ID, attributes.pop("wsu_id"))
    for name, value in attributes.items():
        made.set(name, value)
    for part in content:
        if isinstance(part, str):
            made.text = part
        else:
            made.append(part)
    return made


def utc(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def envelope(body: etree._Element, header: Sequence[etree._Element]) -> etree._Element:
    return element(
        f"{{{SOAP}}}Envelope",
        element(f"{{{SOAP}}}Header", *header),
        element(f"{{{SOAP}}}Body", body, wsu_id="body"),
    )


def at(root: etree._Element, tag: str) -> etree._Element:
    """The first element of that name."""
    return next(root.iter(tag))


def binary_security_token(certificate_der: bytes) -> etree._Element:
    return element(
        f"{{{WSSE}}}BinarySecurityToken",
        base64.b64encode(certificate_der).decode(),
        ValueType=X509V3,
        EncodingType=BASE64,
        wsu_id="certificate",
    )


def sign(
    root: etree._Element, key: xmlsec.Key, ids: Sequence[str], suite: Suite = RSA, signature_id: str | None = None
) -> etree._Element:
    """Append a signature over the elements with these ids to the first Security header."""
    signature = xmlsec.template.create(root, suite.canonicalization, suite.signature, ns="ds")
    for one in ids:
        reference = xmlsec.template.add_reference(signature, suite.digest, uri=f"#{one}")
        xmlsec.template.add_transform(reference, suite.canonicalization)
    if signature_id is not None:
        signature.set("Id", signature_id)
        key_info = xmlsec.template.ensure_key_info(signature)
        reference = element(f"{{{WSSE}}}Reference", URI="#certificate", ValueType=X509V3)
        key_info.append(element(f"{{{WSSE}}}SecurityTokenReference", reference))
    at(root, f"{{{WSSE}}}Security").append(signature)
    context = xmlsec.SignatureContext()
    context.key = key
    for holder in root.iter("*"):
        for name, namespace in (("Id", WSU), ("Id", None)):
            clark = name if namespace is None else f"{{{namespace}}}{name}"
            if holder.get(clark) in ids:
                context.register_id(holder, name, namespace)
    context.sign(signature)
    return signature


def rsa_key(private_key: SigningKey) -> xmlsec.Key:
    pem = raw(private_key).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return xmlsec.Key.from_memory(pem, xmlsec.constants.KeyDataFormatPem)


def hmac_key(secret: bytes) -> xmlsec.Key:
    return xmlsec.Key.from_binary_data(xmlsec.constants.KeyDataHmac, secret)


def token_request(certificate_der: bytes, to: str, applies_to: str, now: datetime) -> etree._Element:
    """An unsigned request for a token, right in every part; ids are `stamp`, `to` and `certificate`."""
    stamp = element(
        f"{{{WSU}}}Timestamp",
        element(f"{{{WSU}}}Created", utc(now)),
        element(f"{{{WSU}}}Expires", utc(now + timedelta(minutes=5))),
        wsu_id="stamp",
    )
    rst = element(
        f"{{{WST}}}RequestSecurityToken",
        element(f"{{{WST}}}RequestType", f"{WST}/Issue"),
        element(
            f"{{{WSP}}}AppliesTo",
            element(f"{{{WSA}}}EndpointReference", element(f"{{{WSA}}}Address", applies_to)),
        ),
        element(f"{{{WST}}}TokenType", SAML20),
        element(
            f"{{{WST}}}Claims",
            *(element(f"{{{IDENTITY}}}ClaimType", Uri=CLAIM + name, Optional="false") for name in MANDATORY),
            Dialect=IDENTITY,
        ),
        element(
            f"{{{WST}}}Lifetime",
            element(f"{{{WSU}}}Created", utc(now)),
            element(f"{{{WSU}}}Expires", utc(now + timedelta(minutes=30))),
        ),
        element(f"{{{WST}}}KeyType", f"{WST}/SymmetricKey"),
        element(f"{{{WST}}}KeySize", "512"),
    )
    return envelope(
        rst,
        (
            element(f"{{{WSA}}}Action", f"{WST}/RST/Issue"),
            element(f"{{{WSA}}}MessageID", f"urn:uuid:{uuid.uuid4()}"),
            element(f"{{{WSA}}}To", to, wsu_id="to"),
            element(f"{{{WSSE}}}Security", stamp, binary_security_token(certificate_der)),
        ),
    )


def request(service: Service, body: Sequence[etree._Element], now: datetime, reference: str) -> etree._Element:
    """A `request` with its header, right in every part."""
    eastern = (now.astimezone(UTC) + timedelta(hours=10)).replace(tzinfo=None).isoformat(timespec="seconds")
    stamp = element(
        f"{{{HDR}}}messageTimestamp", element(f"{{{HDR}}}timestamp", eastern), element(f"{{{HDR}}}source", "sender")
    )
    header = element(
        f"{{{HDR}}}businessDocumentHeader",
        element(f"{{{HDR}}}messageType", service.message_type),
        element(f"{{{HDR}}}messageReferenceNumber", reference),
        element(f"{{{HDR}}}messageVersion", str(service.version)),
        element(f"{{{HDR}}}senderId", "SYNTHETIC-1"),
        element(f"{{{HDR}}}senderType", "REGA"),
        element(f"{{{HDR}}}messageTimestamps", stamp),
    )
    return element(service.tag("request"), header, element(service.tag("businessDocumentBody"), *body))


def lodgment_body(
    service: Service, scenario: str | None = None, name: str = "Quoll", **script: str
) -> list[etree._Element]:
    """The content of a synthetic application."""
    chosen = [] if scenario is None else [element(service.tag("sandboxScenario"), scenario, **script)]
    holder = element(service.tag("holder"), element(service.tag("abn"), "34999000001"))
    holder.append(element(service.tag("name"), "SYNTHETIC holder"))
    named = element(service.tag("proposedName"), name)
    return [*chosen, named, element(service.tag("registrationYears"), "1"), holder]


def unsealed(message: etree._Element, token: Token, certificate_der: bytes) -> etree._Element:
    """An envelope with token and certificate and no signature; ids are `assertion`, `certificate` and `body`."""
    assertion = etree.fromstring(token.assertion)
    assertion.set(WSU_ID, "assertion")
    security = element(f"{{{WSSE}}}Security", assertion, binary_security_token(certificate_der))
    return envelope(message, (security,))


def seal(root: etree._Element, token: Token, private_key: SigningKey) -> bytes:
    """Both signatures, as the guide has them."""
    sign(root, rsa_key(private_key), ("body", "certificate"), signature_id="document")
    sign(root, hmac_key(token.proof_key), ("document", "body", "assertion"), HMAC)
    return etree.tostring(root)


def read_token(answer: Answer) -> Token:
    """The token in a response, however it is arranged."""
    assertion = at(answer.root, f"{{{SAML2}}}EncryptedAssertion")
    secret = answer.text(f"{{{WST}}}BinarySecret") or ""
    expires = answer.root.findtext(f".//{{{WST}}}Lifetime/{{{WSU}}}Expires") or ""
    content = etree.tostring(assertion, method="c14n", exclusive=True, with_tail=False)
    return Token(content, base64.b64decode(secret), expires)
