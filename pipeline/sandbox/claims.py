"""The claims that the sandbox's token service knows, and what it can say of a machine credential (WIG 5.1, table 4)."""

import hashlib
from collections.abc import Mapping

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from pipeline.sandbox.home import KnownCredential
from pipeline.sandbox.soap import timestamp

CLAIM = "http://vanguard.ebusiness.gov.au/2008/06/identity/claims/"
IDENTITY_CLAIM = "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/"

MANDATORY = tuple(CLAIM + name for name in ("abn", "commonname", "credentialtype", "samlsubjectid", "fingerprint"))
"""Without these a token does not open ASIC's door, whatever the kind of credential."""

_DEVICE_OPTIONAL = ("stalecrlminutes", "subjectdn", "issuerdn", "notafterdate", "certificateserialnumber")
_USERS_ONLY = ("sbr_personid", "givennames", "credentialadministrator", "previoussubject")
KNOWN = frozenset(
    (
        *MANDATORY,
        *(CLAIM + name for name in (*_DEVICE_OPTIONAL, *_USERS_ONLY)),
        IDENTITY_CLAIM + "surname",
        IDENTITY_CLAIM + "emailaddress",
    )
)


def fingerprint(certificate_der: bytes) -> str:
    """The value of the fingerprint claim: SHA-1 by definition of the claim, a name and not a proof."""
    return hashlib.sha1(certificate_der, usedforsecurity=False).hexdigest().upper()


def values_for(
    credential: KnownCredential, certificate: x509.Certificate, second_party: str | None
) -> Mapping[str, str]:
    """What can be said of a device. With a second party the token describes that business (service definition, 3.3)."""
    values = {
        "abn": second_party or credential.abn,
        "commonname": credential.name,
        "credentialtype": "ABR_Device",
        "samlsubjectid": f"{credential.abn}:{certificate.serial_number:x}",
        "fingerprint": fingerprint(certificate.public_bytes(Encoding.DER)),
        "stalecrlminutes": "0",
        "subjectdn": certificate.subject.rfc4514_string(),
        "issuerdn": certificate.issuer.rfc4514_string(),
        "notafterdate": timestamp(certificate.not_valid_after_utc),
        "certificateserialnumber": str(certificate.serial_number),
    }
    return {CLAIM + name: value for name, value in values.items()}
