"""Algorithm identifiers: what is emitted and what is accepted. SHA-1 is in no list (see `suites`)."""

from enum import StrEnum


class Algorithm(StrEnum):
    """XML Signature algorithm URIs of the v1.3 (SHA-256) profile."""

    EXCLUSIVE_C14N = "http://www.w3.org/2001/10/xml-exc-c14n#"
    SHA256 = "http://www.w3.org/2001/04/xmlenc#sha256"
    RSA_SHA256 = "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256"
    ATTACHMENT_CONTENT = (
        "http://docs.oasis-open.org/wss/oasis-wss-SwAProfile-1.1#Attachment-Content-Signature-Transform"
    )
    HMAC_SHA256 = "http://www.w3.org/2001/04/xmldsig-more#hmac-sha256"


class TokenProfile(StrEnum):
    """Token and encoding types of WS-Security."""

    X509V3 = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-x509-token-profile-1.0#X509v3"
    BASE64 = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-soap-message-security-1.0#Base64Binary"
    SAML11 = "http://docs.oasis-open.org/wss/oasis-wss-saml-token-profile-1.1#SAMLV1.1"
    SAML20 = "http://docs.oasis-open.org/wss/oasis-wss-saml-token-profile-1.1#SAMLV2.0"
    SAML11_ID = "http://docs.oasis-open.org/wss/oasis-wss-saml-token-profile-1.0#SAMLAssertionID"
    SAML_ID = "http://docs.oasis-open.org/wss/oasis-wss-saml-token-profile-1.1#SAMLID"
