"""The same grant as a SAML 1.1 assertion, which the contract v1.2 was made for (SAML 1.1 core, 2.3 and 2.4)."""

from collections.abc import Mapping
from datetime import datetime

from lxml import etree

from pipeline.sandbox.soap import node, timestamp

SAML11 = "urn:oasis:names:tc:SAML:1.0:assertion"
_HOLDER_OF_KEY = "urn:oasis:names:tc:SAML:1.0:cm:holder-of-key"


def saml11_assertion(
    assertion_id: str,
    issuer: str,
    audience: str,
    claims: Mapping[str, str],
    lifetime: tuple[datetime, datetime],
    key_info: etree._Element,
) -> etree._Element:
    """The assertion, not yet signed; `key_info` holds the proof key for the relying party. Claims are attributes."""
    confirmation = node(_name("SubjectConfirmation"), node(_name("ConfirmationMethod"), _HOLDER_OF_KEY), key_info)
    attributes = (_attribute(uri, value) for uri, value in claims.items())
    return node(
        _name("Assertion"),
        node(
            _name("Conditions"),
            node(_name("AudienceRestrictionCondition"), node(_name("Audience"), audience)),
            attributes={"NotBefore": timestamp(lifetime[0]), "NotOnOrAfter": timestamp(lifetime[1])},
        ),
        node(_name("AttributeStatement"), node(_name("Subject"), confirmation), *attributes),
        attributes={
            "MajorVersion": "1",
            "MinorVersion": "1",
            "AssertionID": assertion_id,
            "Issuer": issuer,
            "IssueInstant": timestamp(lifetime[0]),
        },
        prefixes={"saml": SAML11},
    )


def _attribute(uri: str, value: str) -> etree._Element:
    """The claim's URI, parted into namespace and name (WS-Federation 1.2, 9.5)."""
    namespace, _, name = uri.rpartition("/")
    return node(
        _name("Attribute"),
        node(_name("AttributeValue"), value),
        attributes={"AttributeName": name, "AttributeNamespace": namespace},
    )


def _name(local: str) -> str:
    return f"{{{SAML11}}}{local}"
