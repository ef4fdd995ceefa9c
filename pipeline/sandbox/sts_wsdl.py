"""The token service's description: SOAP libraries that work from a WSDL ask for it before they send anything.

WSDL 1.1 with a SOAP 1.2 binding, named as the published description of the real service names it. The messages are left
open: the clients that read it build their requests themselves.
"""

from pipeline.protocol.xml import escape_attribute

_STS = "http://schemas.microsoft.com/ws/2008/06/identity/securitytokenservice"
_WST = "http://docs.oasis-open.org/ws-sx/ws-trust/200512"
_HTTP = "http://schemas.xmlsoap.org/soap/http"


def sts_wsdl(url: str) -> bytes:
    """The description of the token service at `url`, in UTF-8."""
    return f"""<?xml version="1.0" encoding="utf-8"?>
<wsdl:definitions xmlns:wsdl="http://schemas.xmlsoap.org/wsdl/" xmlns:soap12="http://schemas.xmlsoap.org/wsdl/soap12/"
    xmlns:xs="http://www.w3.org/2001/XMLSchema" xmlns:wst="{_WST}" xmlns:tns="{_STS}" targetNamespace="{_STS}"
    name="SecurityTokenService">
  <wsdl:documentation>SYNTHETIC. A sandbox service; not the WSDL of MAS-ST.</wsdl:documentation>
  <wsdl:types>
    <xs:schema targetNamespace="{_WST}" elementFormDefault="qualified">
      <xs:element name="RequestSecurityToken" type="wst:Open"/>
      <xs:element name="RequestSecurityTokenResponseCollection" type="wst:Open"/>
      <xs:complexType name="Open">
        <xs:sequence><xs:any minOccurs="0" maxOccurs="unbounded" processContents="lax"/></xs:sequence>
        <xs:anyAttribute processContents="lax"/>
      </xs:complexType>
    </xs:schema>
  </wsdl:types>
  <wsdl:message name="Trust13IssueIn"><wsdl:part name="request" element="wst:RequestSecurityToken"/></wsdl:message>
  <wsdl:message name="Trust13IssueOut">
    <wsdl:part name="response" element="wst:RequestSecurityTokenResponseCollection"/>
  </wsdl:message>
  <wsdl:portType name="SecurityTokenService">
    <wsdl:operation name="Trust13Issue">
      <wsdl:input message="tns:Trust13IssueIn"/>
      <wsdl:output message="tns:Trust13IssueOut"/>
    </wsdl:operation>
  </wsdl:portType>
  <wsdl:binding name="S007SecurityTokenServiceEndpoint" type="tns:SecurityTokenService">
    <soap12:binding transport="{_HTTP}"/>
    <wsdl:operation name="Trust13Issue">
      <soap12:operation soapAction="{_WST}/RST/Issue" style="document"/>
      <wsdl:input><soap12:body use="literal"/></wsdl:input>
      <wsdl:output><soap12:body use="literal"/></wsdl:output>
    </wsdl:operation>
  </wsdl:binding>
  <wsdl:service name="SecurityTokenService">
    <wsdl:port name="S007SecurityTokenServiceEndpoint" binding="tns:S007SecurityTokenServiceEndpoint">
      <soap12:address location="{escape_attribute(url)}"/>
    </wsdl:port>
  </wsdl:service>
</wsdl:definitions>
""".encode()
