"""What differs between ASIC environments and services, as data."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from pipeline.lodgment.decisions import RetryPolicy
from pipeline.lodgment.references import SAML_2_0, TokenKey
from pipeline.protocol.wsse import AssertionReference
from pipeline.protocol.xml import DOCUMENT_LIMIT

SERVICE = "business-names"
PING = "ping"


@dataclass(frozen=True, slots=True)
class ServiceEntry:
    """One message type: what its header says, the namespace of its `request`, and the path of its port."""

    message_type: str
    message_version: int
    namespace: str
    path: str
    policy: RetryPolicy = field(default_factory=RetryPolicy)

    @classmethod
    def usual(cls, message_type: str, version: int) -> "ServiceEntry":
        """An entry named like the messages seen on the wire: `queryNameAvailability`, version 2, has the namespace
        `uri:v2.external.query.name.availability.asic.gov.au`, the path `/gateway/ExternalQueryNameAvailabilityPortV2`.
        """
        dotted = "".join(f".{letter.lower()}" if letter.isupper() else letter for letter in message_type)
        return cls(
            message_type,
            version,
            f"uri:v{version}.external.{dotted}.asic.gov.au",
            f"/gateway/External{message_type[0].upper()}{message_type[1:]}PortV{version}",
        )


def business_names() -> dict[tuple[str, str], ServiceEntry]:
    """The table of `(service, action)` for ASIC Business Names.

    From public WSDLs: `queryNameAvailability`, `searchNniName`. Printed in the guide: the path of `ping` (WIG 6.3.2).
    The rest follows the same pattern and is not proved on the wire: the WSDL that ASIC gives at registration is
    normative (WIG 3.1), and settings replace any entry.
    """
    return {
        (SERVICE, "bnLodgeApplication"): ServiceEntry.usual("bnLodgeApplication", 1),
        (SERVICE, "queryNameAvailability"): ServiceEntry.usual("queryNameAvailability", 2),
        (SERVICE, "searchNniName"): ServiceEntry.usual("searchNniName", 3),
        (SERVICE, PING): ServiceEntry(PING, 1, "uri:v1.external.ping.asic.gov.au", "/gateway/ExternalPingPort"),
    }


@dataclass(frozen=True, slots=True)
class Software:
    """The product that writes the messages, for ASIC's own tracking (WIG 3.3.1.6); 1 to 100 characters each."""

    organisation: str
    product: str
    version: str


@dataclass(frozen=True, slots=True)
class TokenTerms:
    """Authentication by an assertion of the token service and two signatures: what that service is asked (WIG 5.1)."""

    sts: str
    applies_to: str
    claims: tuple[str, ...]
    key_size: int = 512
    """Bits of the session key (WIG 5.1.2)."""
    saml_version: str = SAML_2_0
    act_as_employer: bool = False
    """Ask for tokens that act for the employer under the job's software id (MAS-ST 3.3.1). The guide knows no second
    party, so ASIC's terms leave it off."""

    def key(
        self, environment: str, credential: str, employer: str | None = None, software_id: str | None = None
    ) -> TokenKey:
        """What a token on these terms is kept under: the sender's own, or where they say so one for the employer."""
        return TokenKey(
            environment=environment,
            sts=self.sts,
            applies_to=self.applies_to,
            credential=credential,
            second_party=employer if self.act_as_employer else None,
            software_id=software_id if self.act_as_employer else None,
            claims=self.claims,
            key_size=self.key_size,
            saml_version=self.saml_version,
        )


@dataclass(frozen=True, slots=True)
class BasicCredentials:
    """Authentication by user name and password over TLS, sent without being asked for (WIG 5.2)."""

    username: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class AsicProfile:
    """One ASIC environment. The type of `authentication` decides how requests are secured."""

    environment: str
    base_url: str
    authentication: TokenTerms | BasicCredentials
    software: Software | None = None
    services: Mapping[tuple[str, str], ServiceEntry] = field(default_factory=business_names)
    assertion_reference: AssertionReference = AssertionReference.WSU_ID
    request_limit: int = DOCUMENT_LIMIT
    """Bytes of a whole request (WIG 2.2.3)."""
