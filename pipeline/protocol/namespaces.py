"""Namespace URIs, by the name of the standard that owns them."""

from enum import StrEnum


class Ns(StrEnum):
    """XML namespaces."""

    SOAP = "http://www.w3.org/2003/05/soap-envelope"
    SOAP11 = "http://schemas.xmlsoap.org/soap/envelope/"
    WSSE = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-secext-1.0.xsd"
    WSSE11 = "http://docs.oasis-open.org/wss/oasis-wss-wssecurity-secext-1.1.xsd"
    WSU = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-utility-1.0.xsd"
    DS = "http://www.w3.org/2000/09/xmldsig#"
    XENC = "http://www.w3.org/2001/04/xmlenc#"
    WSA = "http://www.w3.org/2005/08/addressing"
    WSP = "http://schemas.xmlsoap.org/ws/2004/09/policy"
    WST = "http://docs.oasis-open.org/ws-sx/ws-trust/200512"
    WST14 = "http://docs.oasis-open.org/ws-sx/ws-trust/200802"
    IDENTITY = "http://schemas.xmlsoap.org/ws/2005/05/identity"
    SAML2 = "urn:oasis:names:tc:SAML:2.0:assertion"
    EBMS3 = "http://docs.oasis-open.org/ebxml-msg/ebms/v3.0/ns/core/200704/"
    EBBP_SIGNALS = "http://docs.oasis-open.org/ebxml-bp/ebbp-signals-2.0"
    SBR_EVENT = "http://sbr.gov.au/comn/event.02.data"
    VANGUARD_FAULT = "http://vanguard.business.gov.au/2009/02"
    VANGUARD_RELATIONSHIP = "http://vanguard.business.gov.au/2016/03"
    KEYSTORE = "http://auth.abr.gov.au/credential/xsd/SBRCredentialStore"
    SOFTWARE_SUBSCRIPTION = "http://sbr.gov.au/identifier/softwareSubscriptionId"
    ASIC_HEADER = "uri:business.document.header.types.asic.gov.au"

    def __call__(self, local_name: str) -> str:
        """The element name in Clark notation, as lxml wants it."""
        return f"{{{self.value}}}{local_name}"
