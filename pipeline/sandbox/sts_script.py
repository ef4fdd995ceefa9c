"""What the sandbox's token service can be told to do: which fault, how much it says, how a response is arranged."""

from enum import StrEnum


class Event(StrEnum):
    """Event codes that the sandbox can send: those of 4.2, and what else is known of the real service."""

    INTERNAL = "E1001"
    UNAVAILABLE = "E1003"
    BUSY = "E1004"
    TOKEN_TYPE = "E2001"  # noqa: S105  - an event code, not a secret
    RELYING_PARTY = "E2003"
    REVOKED = "E2014"
    EXPIRED = "E2015"
    NOT_YET_VALID = "E2017"
    AUTHORITY = "E2020"
    CORRUPT = "E2029"
    NOT_RECOGNISED = "E2169"
    NO_POLICY = "E2180"
    CLAIM_UNAVAILABLE = "E2182"
    CLAIM_UNKNOWN = "E2183"
    CLAIM_DATA = "E2190"
    NOT_SYNCHRONISED = "E2192"
    REQUEST_TYPE = "E9000"
    NO_APPLIES_TO = "E9001"
    UNSUPPORTED_TOKEN = "E9002"  # noqa: S105  - an event code, not a secret
    ALGORITHM = "E9003"
    SECURITY = "E9004"
    INVALID_TOKEN = "E9005"  # noqa: S105  - an event code, not a secret
    NOT_AUTHENTICATED = "E9006"


class FaultShape(StrEnum):
    """How much a fault says; clients meet all of them."""

    DETAIL = "detail"
    """STSFault in the Detail, the nested subcode, and all of it once more in the Reason (4.2.3, examples 2 to 4)."""
    SUBCODE = "subcode"
    """The nested subcode alone."""
    REASON = "reason"
    """The Reason alone names the code."""
    BARE = "bare"
    """No event code anywhere (4.2.3, example 1)."""
    HTML = "html"
    """Not a fault at all: the page of a gateway."""
    EMPTY = "empty"


class Variant(StrEnum):
    """How the response is arranged."""

    RECORDED = "recorded"
    """As captured: children are siblings, no KeyType, no KeySize."""
    SPECIFIED = "specified"
    """As the service definition draws it: everything else inside RequestedSecurityToken (4.1.3)."""
    SPARSE = "sparse"
    """Only what nobody can do without: token, key and lifetime."""
    NUMBERED = "numbered"
    """As recorded, with the prefixes ns1, ns2 and so on, all of them declared on the envelope."""
    DEFAULTED = "defaulted"
    """As recorded, without prefixes: a default namespace on every element."""
