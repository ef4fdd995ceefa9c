"""SBR2 messages in the manner of other AS4 implementations: our own text, of what was seen of theirs."""

from datetime import UTC, datetime

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
