"""The faults of MAS-ST (service definition, 4.1.4 and 4.2): codes as data, in the shape in which they are sent."""

import uuid
from dataclasses import dataclass
from datetime import datetime

from lxml import etree

from pipeline.protocol.namespaces import Ns
from pipeline.sandbox.soap import FaultError, Name, node, timestamp
from pipeline.sandbox.sts_script import Event, FaultShape

_CORE = "http://sbr.gov.au/comn/core.02.data"
"""Whose FaultDetail carries AvailableAfter, by the public schemas of SBR Core."""


def _wst(local: str) -> Name:
    return Name(local, "wst", Ns.WST.value)


def _wsse(local: str) -> Name:
    return Name(local, "wsse", Ns.WSSE.value)


INVALID_REQUEST = _wst("InvalidRequest")
REQUEST_FAILED = _wst("RequestFailed")


@dataclass(frozen=True, slots=True)
class _Row:
    subcode: Name | None
    description: str
    advice: str = "Correct the request, or ask the software's provider."


_ROWS = {
    Event.INTERNAL: _Row(None, "Service is not available.", "Re-attempt the request."),
    Event.UNAVAILABLE: _Row(None, "Service is not available.", "Re-attempt the request."),
    Event.BUSY: _Row(None, "Service is not available.", "Re-attempt the request."),
    Event.TOKEN_TYPE: _Row(REQUEST_FAILED, "The token type specified in the request was not recognised."),
    Event.RELYING_PARTY: _Row(REQUEST_FAILED, "The relying party in the AppliesTo element is not recognised."),
    Event.REVOKED: _Row(
        _wsse("FailedAuthentication"), "Business User Credential has been revoked.", "Obtain a new credential."
    ),
    Event.EXPIRED: _Row(
        _wsse("FailedAuthentication"), "Business User Credential has expired.", "Obtain a new credential."
    ),
    Event.NOT_YET_VALID: _Row(_wsse("FailedAuthentication"), "The credential's validity starts in the future."),
    Event.AUTHORITY: _Row(
        _wsse("FailedAuthentication"), "The Credential Authority that issued the credential is not recognised."
    ),
    Event.CORRUPT: _Row(_wsse("FailedAuthentication"), "The credential could not be processed and may be corrupt."),
    Event.NOT_RECOGNISED: _Row(_wsse("FailedAuthentication"), "The credential supplied is not recognised."),
    Event.NO_POLICY: _Row(_wsse("FailedAuthentication"), "No usage policy for the credential could be found."),
    Event.CLAIM_UNAVAILABLE: _Row(REQUEST_FAILED, "A mandatory claim could not be provided."),
    Event.CLAIM_UNKNOWN: _Row(INVALID_REQUEST, "A mandatory request was made for an unrecognised claim."),
    Event.CLAIM_DATA: _Row(None, "Claim data could not be found.", "Re-attempt the request."),
    Event.NOT_SYNCHRONISED: _Row(None, "Claim data not synchronised in data source.", "Re-attempt the request."),
    Event.REQUEST_TYPE: _Row(REQUEST_FAILED, "An unknown request type was encountered in the message."),
    Event.NO_APPLIES_TO: _Row(_wst("MissingAppliesTo"), "The AppliesTo element of the RST was not supplied."),
    Event.UNSUPPORTED_TOKEN: _Row(_wsse("UnsupportedSecurityToken"), "An unsupported token was provided."),
    Event.ALGORITHM: _Row(_wsse("UnsupportedAlgorithm"), "An unsupported signature algorithm was used."),
    Event.SECURITY: _Row(_wsse("InvalidSecurity"), "An error was discovered processing the wsse:Security header."),
    Event.INVALID_TOKEN: _Row(_wsse("InvalidSecurityToken"), "An invalid security token was provided."),
    Event.NOT_AUTHENTICATED: _Row(
        _wsse("FailedAuthentication"), "ID3242: The security token could not be authenticated or authorized."
    ),
}


def event_fault(
    event: Event, note: str = "", shape: FaultShape = FaultShape.DETAIL, available_after: datetime | None = None
) -> FaultError:
    """The fault of one event code. `note` is the sandbox's own hint, for whoever is building a client."""
    row = _ROWS[event]
    severity = "Severe" if row.subcode is None else "Normal"
    description = f"{row.description} {note}".strip()
    # E1xxx and E2xxx are qualified names; E9xxx stand bare in the table (4.2).
    bare = event.value.startswith("E9")
    own = Name(event.value) if bare else Name(event.value, "v", Ns.VANGUARD_FAULT.value)
    told = (
        f"{description} Event Code: [{event.value}]. Event Severity: [{severity}]. Event Description: [{description}]. "
        f"User Advice: [{row.advice}]. Agency Reference: []. MAS-ST Reference: [{uuid.uuid4()}]. Transaction Id: []."
    )
    nested = (own,) if shape in {FaultShape.DETAIL, FaultShape.SUBCODE} else ()
    detail = [_detail(event, severity, description, row.advice)] if shape is FaultShape.DETAIL else []
    if available_after is not None:
        detail.append(node(f"{{{_CORE}}}FaultDetail", node(f"{{{_CORE}}}AvailableAfter", timestamp(available_after))))
    reason = told if shape in {FaultShape.DETAIL, FaultShape.REASON} else description
    if row.subcode is None:
        return FaultError.by_receiver(nested, reason, detail)
    return FaultError((row.subcode, *nested), reason, detail=detail)


def _detail(event: Event, severity: str, description: str, advice: str) -> etree._Element:
    tag = Ns.VANGUARD_FAULT
    return node(
        tag("STSFault"),
        node(tag("EventCode"), event.value),
        node(tag("EventSeverity"), severity),
        node(tag("EventDescription"), description),
        node(tag("UserAdvice"), advice),
        prefixes={"v": tag.value},
    )


def invalid_request(note: str) -> FaultError:
    """`wst:InvalidRequest` without an event code, for what the table has none (4.1.2)."""
    return FaultError((INVALID_REQUEST,), f"The request was invalid or malformed. {note}")
