"""Token requests in the manner of the open-source clients of the real service: our own text, signed by xmlsec.

What is alike or not was seen in those clients: order of headers, prefixes, ids, mustUnderstand, white space, digits of
time, prefix lists, what they ask for. Nothing here shares code with the pipeline's own request.
"""

import base64
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import xmlsec
from lxml import etree

from pipeline.protocol.credential import SigningKey
from tests.doubles.sandbox_messages import rsa_key

SOAP = "http://www.w3.org/2003/05/soap-envelope"
WSA = "http://www.w3.org/2005/08/addressing"
WSP = "http://schemas.xmlsoap.org/ws/2004/09/policy"
WSSE = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-secext-1.0.xsd"
WSU = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-utility-1.0.xsd"
WST = "http://docs.oasis-open.org/ws-sx/ws-trust/200512"
WST14 = "http://docs.oasis-open.org/ws-sx/ws-trust/200802"
V13 = "http://vanguard.business.gov.au/2016/03"
IDENTITY = "http://schemas.xmlsoap.org/ws/2005/05/identity"
CLAIMS = "http://vanguard.ebusiness.gov.au/2008/06/identity/claims"
DS = "http://www.w3.org/2000/09/xmldsig#"
C14N = "http://www.w3.org/2001/10/xml-exc-c14n#"
X509V3 = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-x509-token-profile-1.0#X509v3"
BASE64 = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-soap-message-security-1.0#Base64Binary"
SAML = "http://docs.oasis-open.org/wss/oasis-wss-saml-token-profile-1.1#SAMLV"
SOAP_TYPE = "application/soap+xml; charset=utf-8"
ACTION = f"{WST}/RST/Issue"
SHA256 = ("http://www.w3.org/2001/04/xmldsig-more#rsa-sha256", "http://www.w3.org/2001/04/xmlenc#sha256")
SHA1 = (f"{DS}rsa-sha1", f"{DS}sha1")


@dataclass(frozen=True, slots=True)
class Ask:
    """Who asks whom for what. `second_party` to act for it; `entropy` for the clients that contribute to the key."""

    sts: str
    applies_to: str
    certificate: str
    first_party: str
    now: datetime
    second_party: str | None = None
    message_id: str = field(default_factory=lambda: f"urn:uuid:{uuid.uuid4()}")
    entropy: bytes = bytes(range(32))

    def time(self, seconds: float = 0, digits: int = 3) -> str:
        moment = (self.now + timedelta(seconds=seconds)).astimezone(UTC)
        fraction = f"{moment.microsecond:06d}7"[:digits]
        return f"{moment:%Y-%m-%dT%H:%M:%S}{'.' if digits else ''}{fraction}Z"


@dataclass(frozen=True, slots=True)
class Client:
    """One client: how it writes a request, what it tells HTTP, and which key its user gets."""

    name: str
    write: Callable[[Ask], str]
    headers: Mapping[str, str]
    seconds: int
    """Of lifetime that it wants."""
    key_bytes: int
    contributes: bool = False
    token_type: str = f"{SAML}2.0"
    legacy: bool = False


def signed(document: str, key: SigningKey) -> bytes:
    """Fill in the digests and the signature of a written request."""
    root = etree.fromstring(document.encode())
    context = xmlsec.SignatureContext()
    context.key = rsa_key(key)
    for element in root.iter("*"):
        if element.get(f"{{{WSU}}}Id") is not None:
            context.register_id(element, "Id", WSU)
    context.sign(next(root.iter(f"{{{DS}}}Signature")))
    content: bytes = etree.tostring(root, encoding="utf-8", xml_declaration=True)
    return content


def certificate_text(der: bytes) -> str:
    return base64.b64encode(der).decode()


def _signed_info(
    prefix: str, ids: tuple[str, str], suite: tuple[str, str] = SHA256, lists: tuple[str, str] | None = None
) -> str:
    def listed(number: int) -> str:
        return "" if lists is None else f'<x:InclusiveNamespaces xmlns:x="{C14N}" PrefixList="{lists[number]}"/>'

    references = "".join(
        f'<{prefix}Reference URI="#{one}"><{prefix}Transforms><{prefix}Transform Algorithm="{C14N}">{listed(1)}'
        f'</{prefix}Transform></{prefix}Transforms><{prefix}DigestMethod Algorithm="{suite[1]}"/>'
        f"<{prefix}DigestValue/></{prefix}Reference>"
        for one in ids
    )
    return (
        f'<{prefix}SignedInfo><{prefix}CanonicalizationMethod Algorithm="{C14N}">{listed(0)}'
        f'</{prefix}CanonicalizationMethod><{prefix}SignatureMethod Algorithm="{suite[0]}"/>{references}'
        f"</{prefix}SignedInfo><{prefix}SignatureValue/>"
    )


def _act_as(ask: Ask, identity: str) -> str:
    if ask.second_party is None:
        return ""
    return (
        f'<tr:ActAs xmlns:tr="{WST14}"><v13:RelationshipToken {identity}="35e6d176-bcf0-c7ac-c98d-5eae177e414d" '
        f'xmlns:v13="{V13}"><v13:Relationship v13:Type="OSPfor"><v13:Attribute v13:Name="SSID" '
        'v13:Value="0000123400"/></v13:Relationship>\n'
        f'<v13:FirstParty v13:Scheme="uri://abr.gov.au/ABN" v13:Value="{ask.first_party}"/>'
        f'<v13:SecondParty v13:Scheme="uri://abr.gov.au/ABN" v13:Value="{ask.second_party}"/>'
        "</v13:RelationshipToken></tr:ActAs>"
    )


def _wcf_head(ask: Ask, suite: tuple[str, str] = SHA256, back: int = 0) -> str:
    token = f"uuid-{uuid.uuid4()}-2"
    return (
        f'<s:Envelope xmlns:s="{SOAP}" xmlns:a="{WSA}" xmlns:u="{WSU}"><s:Header>'
        f'<a:Action s:mustUnderstand="1">{ACTION}</a:Action><a:MessageID>{ask.message_id}</a:MessageID>'
        f'<ActivityId CorrelationId="{uuid.uuid4()}" xmlns="http://schemas.microsoft.com/2004/09/ServiceModel/'
        f'Diagnostics">{uuid.uuid4()}</ActivityId><a:ReplyTo><a:Address>{WSA}/anonymous</a:Address></a:ReplyTo>'
        f'<a:To s:mustUnderstand="1" u:Id="_1">{ask.sts}</a:To><o:Security s:mustUnderstand="1" xmlns:o="{WSSE}">'
        f'<u:Timestamp u:Id="_0"><u:Created>{ask.time(-back)}</u:Created><u:Expires>{ask.time(300)}</u:Expires>'
        f'</u:Timestamp><o:BinarySecurityToken u:Id="{token}" ValueType="{X509V3}" EncodingType="{BASE64}">'
        f'{ask.certificate}</o:BinarySecurityToken><Signature xmlns="{DS}">{_signed_info("", ("_0", "_1"), suite)}'
        f'<KeyInfo><o:SecurityTokenReference><o:Reference URI="#{token}"/></o:SecurityTokenReference></KeyInfo>'
        "</Signature></o:Security></s:Header><s:Body>"
    )


def _two_claims(values: tuple[str, str] | None = None) -> str:
    written = ("", "") if values is None else tuple(f"<i:Value>{value}</i:Value>" for value in values)
    claims = "".join(
        f'<i:ClaimType Uri="{CLAIMS}/{name}" Optional="false">{inside}</i:ClaimType>'
        for name, inside in zip(("abn", "credentialtype"), written, strict=True)
    )
    return f'<trust:Claims Dialect="{IDENTITY}" xmlns:i="{IDENTITY}">{claims}</trust:Claims>'


def _wcf_body(ask: Ask, claims: str, lifetime: tuple[str, str], rest: str, token_type: str) -> str:
    return (
        f'<trust:RequestSecurityToken xmlns:trust="{WST}"><wsp:AppliesTo xmlns:wsp="{WSP}"><wsa:EndpointReference '
        f'xmlns:wsa="{WSA}"><wsa:Address>{ask.applies_to}</wsa:Address></wsa:EndpointReference></wsp:AppliesTo>{claims}'
        f'<trust:KeyType>{WST}/SymmetricKey</trust:KeyType><trust:Lifetime><wsu:Created xmlns:wsu="{WSU}">{lifetime[0]}'
        f'</wsu:Created><wsu:Expires xmlns:wsu="{WSU}">{lifetime[1]}</wsu:Expires></trust:Lifetime>'
        f"<trust:RequestType>{WST}/Issue</trust:RequestType><trust:TokenType>{token_type}</trust:TokenType>{rest}"
        "</trust:RequestSecurityToken></s:Body></s:Envelope>"
    )


def _entropy(ask: Ask) -> str:
    nonce = base64.b64encode(ask.entropy).decode()
    return (
        f'<trust:Entropy><trust:BinarySecret Type="{WST}/Nonce">{nonce}</trust:BinarySecret></trust:Entropy>'
        f"<trust:ComputedKeyAlgorithm>{WST}/CK/PSHA1</trust:ComputedKeyAlgorithm>"
    )


def _wcf(ask: Ask) -> str:
    lifetime = ask.time(), ask.time(3600)
    return _wcf_head(ask) + _wcf_body(ask, _two_claims(), lifetime, _act_as(ask, "v13:ID"), f"{SAML}2.0")


def _dotnet(ask: Ask) -> str:
    """The federation stack of modern .NET: combined entropy, values of claims, seven digits in Lifetime."""
    lifetime = ask.time(digits=7), ask.time(1800, digits=7)
    claims = _two_claims((ask.second_party or ask.first_party, "ABR_Device"))
    rest = f"<trust:KeySize>256</trust:KeySize>{_entropy(ask)}{_act_as(ask, 'v13:ID')}"
    return _wcf_head(ask) + _wcf_body(ask, claims, lifetime, rest, f"{SAML}2.0")


def _legacy_php(ask: Ask) -> str:
    """Contract v1.2: SHA-1, SAML 1.1, an algorithm for a computed key without entropy, a clock set back."""
    algorithm = f"<trust:ComputedKeyAlgorithm>{WST}/CK/PSHA1</trust:ComputedKeyAlgorithm>"
    lifetime = ask.time(), ask.time(1800)
    return _wcf_head(ask, SHA1, back=9) + _wcf_body(ask, _two_claims(), lifetime, algorithm, f"{SAML}1.1")


def _php(ask: Ask) -> str:
    """A filled-in template: every prefix on the envelope, two of them for one namespace, white space throughout."""
    token = f"uuid-{uuid.uuid4().hex[:13]}"
    return f"""<s:Envelope
 xmlns:s="{SOAP}" xmlns:a="{WSA}" xmlns:u="{WSU}" xmlns:o="{WSSE}" xmlns:sig="{DS}" xmlns:trust="{WST}"
 xmlns:wsp="{WSP}" xmlns:i="{IDENTITY}" xmlns:wsu="{WSU}">
\t<s:Header>
\t\t<a:Action s:mustUnderstand="1">{ACTION}</a:Action>
\t\t<a:MessageID>{ask.message_id}</a:MessageID>
\t\t<a:ReplyTo>
\t\t\t<a:Address>{WSA}/anonymous</a:Address>
\t\t</a:ReplyTo>
\t\t<a:To s:mustUnderstand="1" u:Id="_1">{ask.sts}</a:To>
\t\t<o:Security s:mustUnderstand="1">
\t\t\t<u:Timestamp u:Id="_0">
\t\t\t\t<u:Created>{ask.time()}</u:Created>
\t\t\t\t<u:Expires>{ask.time(300)}</u:Expires>
\t\t\t</u:Timestamp>
\t\t\t<o:BinarySecurityToken
\t\t\t\tEncodingType="{BASE64}" ValueType="{X509V3}" wsu:Id="{token}">{ask.certificate}</o:BinarySecurityToken>
\t\t\t<sig:Signature>
\t\t\t\t{_signed_info("sig:", ("_0", "_1"))}
\t\t\t\t<sig:KeyInfo>
\t\t\t\t\t<o:SecurityTokenReference>
\t\t\t\t\t\t<o:Reference URI="#{token}"/>
\t\t\t\t\t</o:SecurityTokenReference>
\t\t\t\t</sig:KeyInfo>
\t\t\t</sig:Signature>
\t\t</o:Security>
\t</s:Header>
\t<s:Body>
\t\t<trust:RequestSecurityToken>
\t\t\t<wsp:AppliesTo>
\t\t\t\t<a:EndpointReference>
\t\t\t\t\t<a:Address>{ask.applies_to}</a:Address>
\t\t\t\t</a:EndpointReference>
\t\t\t</wsp:AppliesTo>
\t\t\t{_two_claims()}
\t\t\t<trust:KeyType>{WST}/SymmetricKey</trust:KeyType>
\t\t\t<trust:Lifetime>
\t\t\t\t<wsu:Created>{ask.time()}</wsu:Created>
\t\t\t\t<wsu:Expires>{ask.time(86_400)}</wsu:Expires>
\t\t\t</trust:Lifetime>
\t\t\t<trust:RequestType>{WST}/Issue</trust:RequestType>
\t\t\t<trust:TokenType>{SAML}2.0</trust:TokenType>
\t\t\t{_act_as(ask, "v13:ID")}
\t\t</trust:RequestSecurityToken>
\t</s:Body>
</s:Envelope>"""


_SIXTEEN = (
    *(f"{CLAIMS}/{name}" for name in ("abn", "commonname", "credentialtype", "samlsubjectid", "fingerprint")),
    f"{CLAIMS}/sbr_personid",
    f"{CLAIMS}/givennames",
    f"{IDENTITY}/claims/surname",
    f"{IDENTITY}/claims/emailaddress",
    *(f"{CLAIMS}/{name}" for name in ("credentialadministrator", "stalecrlminutes", "subjectdn", "issuerdn")),
    *(f"{CLAIMS}/{name}" for name in ("notafterdate", "certificateserialnumber", "previoussubject")),
)


def _julia(ask: Ask) -> str:
    """The order of the ASIC and SBR guides: security first, no ReplyTo, `mustUnderstand="true"`, the sixteen claims."""
    claims = "".join(
        f'<i:ClaimType Optional="{"false" if number < 5 else "true"}" Uri="{uri}"/>'
        for number, uri in enumerate(_SIXTEEN)
    )
    return (
        f'<s:Envelope xmlns:s="{SOAP}" xmlns:wsa="{WSA}" xmlns:wsu="{WSU}"><s:Header>'
        f'<wsse:Security xmlns:wsse="{WSSE}" s:mustUnderstand="true"><wsu:Timestamp wsu:Id="timestamp">'
        f"<wsu:Created>{ask.time()}</wsu:Created><wsu:Expires>{ask.time(300)}</wsu:Expires></wsu:Timestamp>"
        f'<wsse:BinarySecurityToken EncodingType="{BASE64}" ValueType="{X509V3}" wsu:Id="signingCert">'
        f'{ask.certificate}</wsse:BinarySecurityToken><ds:Signature xmlns:ds="{DS}">'
        f"{_signed_info('ds:', ('timestamp', 'msgto'))}<ds:KeyInfo><wsse:SecurityTokenReference>"
        f'<wsse:Reference URI="#signingCert" ValueType="{X509V3}"/></wsse:SecurityTokenReference></ds:KeyInfo>'
        f'</ds:Signature></wsse:Security><wsa:To wsu:Id="msgto">{ask.sts}</wsa:To>'
        f"<wsa:MessageID>{ask.message_id}</wsa:MessageID><wsa:Action>{ACTION}</wsa:Action></s:Header><s:Body>"
        f'<wst:RequestSecurityToken xmlns:wst="{WST}"><wst:RequestType>{WST}/Issue</wst:RequestType>'
        f'<wsp:AppliesTo xmlns:wsp="{WSP}"><wsa:EndpointReference><wsa:Address>{ask.applies_to}</wsa:Address>'
        f"</wsa:EndpointReference></wsp:AppliesTo><wst:TokenType>{SAML}2.0</wst:TokenType>"
        f'<wst:Claims Dialect="{IDENTITY}" xmlns:i="{IDENTITY}">{claims}</wst:Claims><wst:Lifetime><wsu:Created>'
        f"{ask.time()}</wsu:Created><wsu:Expires>{ask.time(1800)}</wsu:Expires></wst:Lifetime>"
        f"<wst:KeyType>{WST}/SymmetricKey</wst:KeyType><wst:KeySize>512</wst:KeySize>{_act_as(ask, 'v13:ID')}"
        "</wst:RequestSecurityToken></s:Body></s:Envelope>"
    )


def _java(ask: Ask) -> str:
    """Metro: prefix lists, whole seconds, an Id on everything, secondary parameters, entropy, ActAs with a bare ID."""
    lists = ("wsse S", "wsu wsse S")
    return (
        f'<S:Envelope xmlns:S="{SOAP}" xmlns:wsse="{WSSE}" xmlns:wsu="{WSU}" xmlns:ds="{DS}"><S:Header>'
        f'<To xmlns="{WSA}" wsu:Id="_5002">{ask.sts}</To>'
        f'<Action xmlns="{WSA}" S:mustUnderstand="true">{ACTION}</Action>'
        f'<ReplyTo xmlns="{WSA}"><Address>{WSA}/anonymous</Address></ReplyTo>'
        f'<MessageID xmlns="{WSA}">{ask.message_id}</MessageID><wsse:Security S:mustUnderstand="true">'
        f'<wsu:Timestamp wsu:Id="_3"><wsu:Created>{ask.time(digits=0)}</wsu:Created>'
        f"<wsu:Expires>{ask.time(300, digits=0)}</wsu:Expires></wsu:Timestamp>"
        f'<wsse:BinarySecurityToken ValueType="{X509V3}" EncodingType="{BASE64}" wsu:Id="uuid_4f">{ask.certificate}'
        f'</wsse:BinarySecurityToken><ds:Signature Id="_1">{_signed_info("ds:", ("_5002", "_3"), lists=lists)}'
        f'<ds:KeyInfo><wsse:SecurityTokenReference wsu:Id="uuid_50"><wsse:Reference ValueType="{X509V3}" '
        'URI="#uuid_4f"/></wsse:SecurityTokenReference></ds:KeyInfo></ds:Signature></wsse:Security></S:Header><S:Body>'
        f'<trust:RequestSecurityToken xmlns:trust="{WST}"><trust:RequestType>{WST}/Issue</trust:RequestType>'
        f'<wsp:AppliesTo xmlns:wsp="{WSP}"><EndpointReference xmlns="{WSA}"><Address>{ask.applies_to}</Address>'
        f"</EndpointReference></wsp:AppliesTo><trust:Lifetime><wsu:Created>{ask.time()}</wsu:Created><wsu:Expires>"
        f"{ask.time(1200)}</wsu:Expires></trust:Lifetime>{_entropy(ask)}{_act_as(ask, 'ID')}<trust:SecondaryParameters>"
        f"<trust:TokenType>{SAML}2.0</trust:TokenType><trust:KeyType>{WST}/SymmetricKey</trust:KeyType>"
        f"<trust:KeySize>256</trust:KeySize>{_two_claims()}</trust:SecondaryParameters></trust:RequestSecurityToken>"
        "</S:Body></S:Envelope>"
    )


_WITH_ACTION = {"Content-Type": f'{SOAP_TYPE}; action="{ACTION}"'}
_EMPTY_ACTION = {"Content-Type": f'{SOAP_TYPE}; action=""'}
_PLAIN = {"Content-Type": SOAP_TYPE}
_SOAP_ACTION = {"Content-Type": SOAP_TYPE, "SOAPAction": ACTION}

CLIENTS = (
    Client("wcf", _wcf, _WITH_ACTION, 3600, 32),
    Client("dotnet", _dotnet, _WITH_ACTION, 1800, 32, contributes=True),
    Client("php", _php, _EMPTY_ACTION, 86_400, 32),
    Client("julia", _julia, _PLAIN, 1800, 64),
    Client("java", _java, _WITH_ACTION, 1200, 32, contributes=True),
    Client("legacy-php", _legacy_php, _SOAP_ACTION, 1800, 32, token_type=f"{SAML}1.1", legacy=True),
)
