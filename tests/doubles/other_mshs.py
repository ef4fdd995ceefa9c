"""SBR2 messages in the manner of other AS4 implementations: our own text, of what was seen of theirs."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from pipeline.protocol.algorithms import Algorithm
from pipeline.protocol.gzip_stream import MEDIA_TYPE
from pipeline.protocol.namespaces import Ns
from pipeline.sandbox.sbr2_message import PRODUCT
from tests.doubles.pay_jobs import SOFTWARE_ID
from tests.doubles.stp import ABN

_ABN = "http://abr.gov.au/PartyIdType/ABN"
_PART = {
    "PartID": "1",
    "MimeType": "text/plain",
    "CompressionType": MEDIA_TYPE,
    "DocumentName": "PAYEVNT",
    "DocumentType": "BASE",
    "filename": "Lohnabrechnung M\u00e4rz.xml",
}


def push_of_another_style(message_id: str, assertion: bytes, attached: str) -> bytes:
    """An unsigned push: security first, one namespace under three prefixes, white space, a timestamp without offset.

    `assertion` stands in its Security already, `attached` is the Content-ID as it is written in a URL.
    """
    properties = {**PRODUCT, "SoftwareSubscriptionId": SOFTWARE_ID, "MSHIdentity": "another", "MSHVersion": "1.0.0.3"}
    written = "\n".join(f"<eb3:Property name='{name}'>{value}</eb3:Property>" for name, value in properties.items())
    described = "".join(f'<Property name="{name}">{value}</Property>' for name, value in _PART.items())
    return f"""<?xml version="1.0" encoding="UTF-8" standalone="no"?>
<S12:Envelope xmlns:S12="{Ns.SOAP}" xmlns:eb3="{Ns.EBMS3}" xmlns:unused="urn:unused">
  <S12:Header>
    <wsse:Security xmlns:wsse="{Ns.WSSE}" xmlns:wsu="{Ns.WSU}"
      S12:mustUnderstand="1">{assertion.decode()}</wsse:Security>
    <eb3:Messaging xmlns:eb="{Ns.EBMS3}" S12:mustUnderstand="1">
      <eb:UserMessage mpc="http://docs.oasis-open.org/ebxml-msg/ebms/v3.0/ns/core/200704/defaultMPC">
        <eb:MessageInfo>
          <eb:Timestamp>{datetime.now(UTC):%Y-%m-%dT%H:%M:%S}</eb:Timestamp>
          <eb:MessageId>{message_id}</eb:MessageId>
        </eb:MessageInfo>
        <eb:PartyInfo>
          <eb:From>
            <eb:PartyId type="{_ABN}">{ABN}</eb:PartyId>
            <eb:Role>http://sbr.gov.au/ato/Role/Business</eb:Role>
          </eb:From>
          <eb:To>
            <eb:PartyId type="{_ABN}">51824753556</eb:PartyId>
            <eb:Role>http://sbr.gov.au/agency</eb:Role>
          </eb:To>
        </eb:PartyInfo>
        <eb:CollaborationInfo>
          <eb:AgreementRef pmode="pm-push">http://agreements.example.test/push</eb:AgreementRef>
          <eb:Service>http://sbr.gov.au/ato/payevnt/2020</eb:Service>
          <eb:Action>Submit.004.00</eb:Action>
          <eb:ConversationId>1</eb:ConversationId>
        </eb:CollaborationInfo>
        <eb:MessageProperties>
{written}
        </eb:MessageProperties>
        <PayloadInfo xmlns="{Ns.EBMS3}">
          <PartInfo href="cid:{attached}">
            <Schema></Schema>
            <Description xml:lang="de">Lohnabrechnung M&#xE4;rz</Description>
            <PartProperties>{described}</PartProperties>
          </PartInfo>
        </PayloadInfo>
      </eb:UserMessage>
    </eb3:Messaging>
  </S12:Header>
  <S12:Body/>
</S12:Envelope>""".encode()


def receipts(message_id: str, references: Sequence[tuple[str, str]]) -> Mapping[str, tuple[str, bytes]]:
    """Content type and body of a receipt as several implementations write it; `references` are URIs and digests."""
    return {
        "signed, bare time, folded digests": (_SOAP, _signed_receipt(message_id, references)),
        "prefix of its own on each element": (_SOAP, _prefixed_receipt(message_id, references)),
        "one part of a multipart": _one_part(_prefixed_receipt(message_id, references)),
        "all references in one": (_SOAP, _prefixed_receipt(message_id, references, apart=False)),
        "a copy of the message, no digests": (_SOAP, _awareness_receipt(message_id)),
    }


def errors(message_id: str, code: str, detail: str) -> Mapping[str, tuple[str, bytes]]:
    """Content type and body of an error as several implementations write it."""
    info = _info("error@gateway.example.test", message_id)
    attributes = f'errorCode="{code}" severity="failure" shortDescription="Other"'
    bare = f"<eb3:Error {attributes}><eb3:Description xml:lang='en'>{detail}</eb3:Description></eb3:Error>"
    full = (
        f'<eb3:Error category="CONTENT" {attributes} origin="ebMS" refToMessageInError="{message_id}">'
        f"<eb3:Description xml:lang='en'>x</eb3:Description><eb3:ErrorDetail>\n {detail}\n</eb3:ErrorDetail>"
        "</eb3:Error>"
    )
    shouting = full.replace('"failure"', '"FAILURE"')
    fault = (
        "<s:Fault><s:Code><s:Value>s:Receiver</s:Value></s:Code><s:Reason><s:Text xml:lang='en'>An error occurred"
        "</s:Text></s:Reason></s:Fault>"
    )
    written = {
        "description only": _signal(info + bare),
        "detail, upper-case category": _signal(info + full),
        "upper-case severity": _signal(info + shouting),
        "a SOAP fault beside it": _signal(info + full, fault),
        "without RefToMessageId": _signal(_info("error@gateway.example.test", None) + full),
    }
    return {name: (_SOAP, body) for name, body in written.items()}


_SOAP = "application/soap+xml;charset=utf-8"


def _info(message_id: str, refers_to: str | None) -> str:
    reference = "" if refers_to is None else f"<eb3:RefToMessageId>{refers_to}</eb3:RefToMessageId>"
    return (
        f"<eb3:MessageInfo>\n<eb3:Timestamp>{datetime.now(UTC):%Y-%m-%dT%H:%M:%S}</eb3:Timestamp>\n"
        f"<eb3:MessageId>{message_id}</eb3:MessageId>{reference}</eb3:MessageInfo>"
    )


def _signal(content: str, body: str = "", security: str = "") -> bytes:
    return f"""\ufeff<?xml version='1.0' encoding='utf-8'?>
<s:Envelope xmlns:s="{Ns.SOAP}" xmlns:eb3="{Ns.EBMS3}">
  <s:Header>{security}<eb3:Messaging s:mustUnderstand="1" xmlns:wsu="{Ns.WSU}" wsu:Id="id-1"><eb3:SignalMessage>
    {content}
  </eb3:SignalMessage></eb3:Messaging></s:Header>
  <s:Body xmlns:wsu="{Ns.WSU}" wsu:Id="id-2">{body}</s:Body>
</s:Envelope>
""".encode()


def _signed_receipt(message_id: str, references: Sequence[tuple[str, str]]) -> bytes:
    """As Holodeck and Domibus sign theirs: a Security header that nobody asked for, References in default namespace."""
    listed = "".join(
        f'<ebbp:MessagePartNRInformation><Reference xmlns="{Ns.DS}" Id="r-{number}" URI="{uri}"><Transforms><Transform '
        f'Algorithm="{Algorithm.EXCLUSIVE_C14N}"><ec:InclusiveNamespaces xmlns:ec="{Algorithm.EXCLUSIVE_C14N}" '
        f'PrefixList="s"/></Transform></Transforms><DigestMethod Algorithm="{Algorithm.SHA256}"/><DigestValue>\n'
        f"{digest[:20]}\n{digest[20:]}</DigestValue></Reference></ebbp:MessagePartNRInformation>"
        for number, (uri, digest) in enumerate(references)
    )
    receipt = (
        f'<ebbp:NonRepudiationInformation xmlns:ebbp="{Ns.EBBP_SIGNALS}">{listed}</ebbp:NonRepudiationInformation>'
    )
    security = (
        f'<wsse:Security xmlns:wsse="{Ns.WSSE}" s:mustUnderstand="true"><wsse:BinarySecurityToken>bm9uZQ=='
        f'</wsse:BinarySecurityToken><ds:Signature xmlns:ds="{Ns.DS}"><ds:SignedInfo/></ds:Signature></wsse:Security>'
    )
    content = _info("receipt@gateway.example.test", message_id) + f"<eb3:Receipt>{receipt}</eb3:Receipt>"
    return _signal(content, security=security)


def _prefixed_receipt(message_id: str, references: Sequence[tuple[str, str]], *, apart: bool = True) -> bytes:
    listed = [
        f'<ns4:Reference xmlns:ns4="{Ns.DS}" URI="{uri}"><ns4:DigestMethod Algorithm="{Algorithm.SHA256}"/>'
        f"<ns4:DigestValue>{digest}</ns4:DigestValue></ns4:Reference>"
        for uri, digest in reversed(references)
    ]
    parts = listed if apart else ["".join(listed)]
    inside = "".join(f"<ns3:MessagePartNRInformation>{one}</ns3:MessagePartNRInformation>" for one in parts)
    receipt = f'<ns3:NonRepudiationInformation xmlns:ns3="{Ns.EBBP_SIGNALS}">{inside}</ns3:NonRepudiationInformation>'
    return _signal(_info("receipt@gateway.example.test", message_id) + f"<eb3:Receipt>{receipt}</eb3:Receipt>")


def _awareness_receipt(message_id: str) -> bytes:
    """Reception awareness without non-repudiation (AS4 1.0, 5.1.8): the message's own header comes back."""
    copy = f"<eb3:UserMessage>{_info(message_id, None)}</eb3:UserMessage>"
    return _signal(_info("receipt@gateway.example.test", message_id) + f"<eb3:Receipt>{copy}</eb3:Receipt>")


def _one_part(envelope: bytes) -> tuple[str, bytes]:
    boundary = "MIMEBoundary_0a1b"
    body = (
        f"--{boundary}\nContent-Type: application/soap+xml; charset=UTF-8\nContent-Transfer-Encoding: 8bit\n"
        "Content-ID: <0.root@gateway.example.test>\n\n"
    ).encode()
    content_type = (
        f"multipart/related; boundary={boundary}; type=\"application/soap+xml\"; start-info='x'; "
        'start="<0.root@gateway.example.test>"; action="urn:none"'
    )
    return content_type, body + envelope + f"\n--{boundary}--".encode()
