"""What MAS-ST can say instead of giving a token, as data: each code's meaning, who must act, and what fails with it.

Receiver faults and E1001, E1003, E1004, E2190 mend themselves; every other code needs a person (MAS-ST 4.2).
"""

from collections.abc import Mapping
from dataclasses import replace

from pipeline.channels.faults import FaultRule
from pipeline.lodgment.failures import Blast, FailureClass, Party

_ABOUT_CREDENTIAL = "Put a valid credential into the keystore under the same name, then release what is held."


def _wait(blast: Blast, advice: str) -> FaultRule:
    return FaultRule(FailureClass.UNAVAILABLE, Party.AGENCY, blast, f"{advice} It is asked again by itself.")


def _gate(advice: str) -> FaultRule:
    """Not the token service, which answers in SOAP: whatever stands before it may let the next one in."""
    return replace(_wait(Blast.CHANNEL, advice), who=Party.OPERATOR)


def _credential(advice: str) -> FaultRule:
    return FaultRule(FailureClass.OUR_CREDENTIAL, Party.OPERATOR, Blast.CREDENTIAL, advice)


def _settings(advice: str) -> FaultRule:
    return FaultRule(FailureClass.OUR_DOCUMENT, Party.OPERATOR, Blast.CHANNEL, advice)


EVENT_RULES: Mapping[str, FaultRule] = {
    "E1001": _wait(Blast.CHANNEL, "The token service has an internal error."),
    "E1003": _wait(Blast.CHANNEL, "The token service is not available at the moment."),
    "E1004": _wait(Blast.CHANNEL, "The token service is not available at the moment."),
    "E2190": _wait(Blast.EMPLOYER, "The token service could not look up the claims of this business."),
    "E2192": _wait(
        Blast.EMPLOYER,
        "The claims of this business are not synchronised at the token service yet.",
    ),
    "E2001": _settings("The token type is not one that the service issues. Set saml_version to 2.0."),
    "E2003": FaultRule(
        FailureClass.OUR_CREDENTIAL,
        Party.OPERATOR,
        Blast.CHANNEL,
        "The token service does not know the relying party in AppliesTo, or not for this credential. Check applies_to"
        " against the agency's guide, that credential, token service and agency belong to one environment, and that"
        " the credential has the agency's permission in the authorisation manager (effective within 24 hours).",
    ),
    "E2014": _credential(f"The machine credential was revoked. {_ABOUT_CREDENTIAL}"),
    "E2015": _credential(f"The machine credential has expired. {_ABOUT_CREDENTIAL}"),
    "E2017": _credential(
        "The machine credential is not valid yet. Compare this machine's clock with the certificate's first day."
    ),
    "E2020": _credential(
        "The token service does not know the authority that issued the credential. A test credential was sent to"
        " production, or the other way round: use a credential of this environment."
    ),
    "E2029": _credential(f"The token service cannot process the credential; it may be corrupt. {_ABOUT_CREDENTIAL}"),
    "E2169": _credential(
        "The token service does not recognise the credential. It belongs to another environment, or it has expired:"
        f" expired test credentials are answered so. {_ABOUT_CREDENTIAL}"
    ),
    "E2180": _credential(
        "The token service has no usage policy for this kind of credential. Use a machine credential (ABR_Device)."
    ),
    "E2182": _settings(
        "A claim asked for as mandatory has no value for this credential. A device has no person's claims: compare"
        " the mandatory claims in the settings with the agency's guide."
    ),
    "E2183": _settings("A claim asked for as mandatory is unknown. Correct its URI in the settings."),
    "E9000": _settings(
        "The token service does not know the request type. Check that sts_url is a WS-Trust 1.3 address."
    ),
    "E9001": _settings("The request named no relying party. Set applies_to."),
    "E9002": _settings("The token service does not take this kind of token. Check that sts_url is the v1.3 address."),
    "E9003": _settings(
        "The token service does not take an algorithm of the signature, which is SHA-256. Check that sts_url is the"
        " v1.3 address: v1.2 speaks SHA-1, which sts_contract has to name."
    ),
    "E9004": _settings(
        "The token service could not process the security header. Check this machine's clock first: a message that"
        " seems more than five minutes old or from the future is answered so."
    ),
    "E9005": _credential(f"The token service refused the certificate in the request. {_ABOUT_CREDENTIAL}"),
    "E9006": _credential(
        "The token service could not authenticate or authorise the credential. Check its validity, its environment and"
        " its permissions in the authorisation manager."
    ),
}
"""By event code (MAS-ST 4.2; E1003, E1004 and E2192 are known from elsewhere)."""

SUBCODE_RULES: Mapping[str, FaultRule] = {
    "FailedAuthentication": EVENT_RULES["E9006"],
    "InvalidSecurityToken": EVENT_RULES["E9005"],
    "InvalidSecurity": EVENT_RULES["E9004"],
    "MessageExpired": EVENT_RULES["E9004"],
    "UnsupportedAlgorithm": EVENT_RULES["E9003"],
    "UnsupportedSecurityToken": EVENT_RULES["E9002"],
    "MissingAppliesTo": EVENT_RULES["E9001"],
    "FailedCheck": _settings("The token service found the signature wrong. Check that sts_url is the v1.3 address."),
    "InvalidRequest": _settings("The token service calls the request malformed. Check lifetime, claims and key size."),
    "BadRequest": _settings("The token service does not understand the request. Check claims and lifetime."),
    "RequestFailed": _settings("The token service refused the request without a code. Check applies_to and claims."),
    "MustUnderstand": _settings("This address does not process security headers. Check sts_url."),
    "VersionMismatch": _settings("This address does not speak SOAP 1.2. Check sts_url."),
}
"""By the finest code of a fault without an event code (MAS-ST 4.2; WS-Trust 1.3, 11; WS-Security 1.1, 12)."""

CLOCK_CODES = frozenset({"E9004", "E2017", "InvalidSecurity", "MessageExpired", "wstrust.lifetime"})
"""Failures that a wrong clock of ours causes too."""

UNKNOWN_SENDER = FaultRule(
    FailureClass.OUR_DOCUMENT,
    Party.OPERATOR,
    Blast.LODGMENT,
    "The token service says that the request is at fault, with a code that is not in the table. Read its text, mend"
    " the cause, then release.",
    known=False,
)
UNKNOWN_RECEIVER = replace(
    _wait(Blast.CHANNEL, "The token service says that its own side failed, with a code that is not in the table."),
    known=False,
)
ABOUT_THE_BUSINESS = frozenset({"E2182", "InvalidRequest", "BadRequest", "RequestFailed"})
"""What may come from the business acted for, its software id or its claims, where the request names one."""

STATUS_RULES: Mapping[int, FaultRule] = {
    400: _settings("The token service refused the request unread. Check sts_url and whatever proxy stands before it."),
    401: _gate("Something before the token service asks for a login. Check sts_url and the proxy."),
    403: _gate("Something before the token service forbids us to pass. Check sts_url, the proxy and the allow-list."),
    404: _gate("There is nothing at sts_url now. If that lasts, check it: host and path differ between environments."),
    405: _gate("What is at sts_url takes no POST: a page in the service's place. If that lasts, check its path."),
    408: _wait(Blast.CHANNEL, "The token service gave up waiting."),
    410: _settings("sts_url is closed for good; the old acceptance host answers so. Set the address now in force."),
    413: _settings("The token request is too large for the service. Check how many claims are asked for."),
    415: _settings("sts_url does not take SOAP 1.2. Check its path."),
    429: _wait(Blast.CHANNEL, "The token service gets too many requests."),
}
"""By HTTP status of an answer that is no SOAP message."""

UNREADABLE = _wait(
    Blast.CHANNEL, "The answer is neither a token nor a fault: a maintenance page, or something in between."
)
REDIRECTED = _settings("The token service redirects, which is never followed with a signed request. Check sts_url.")
REFUSED_UNREAD = _settings("The token service refused the request unread. Check sts_url.")
NOT_BELIEVED = _wait(
    Blast.CHANNEL,
    "The token service answered, but not in a way that can be used as an answer to our request; nothing of it is used.",
)


def rule_for_status(status: int) -> FaultRule:
    """What an HTTP status means when the body says nothing."""
    if status in STATUS_RULES:
        return STATUS_RULES[status]
    if 300 <= status < 400:
        return REDIRECTED
    return REFUSED_UNREAD if 400 <= status < 500 else UNREADABLE
