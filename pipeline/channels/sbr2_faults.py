"""What SBR2 can say instead of taking a document, as data: each code's meaning, who must act, and how far it reaches.

Codes of the agency (`SBR.*`, `CMN.*`) come inside an ebMS error or a message event; the ebMS code says less.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from pipeline.channels.faults import FaultRule
from pipeline.lodgment.failures import Blast, FailureClass, Party

DUPLICATE = frozenset({"CMN.ATO.GEN.DuplicateTransmission"})
"""The payload was accepted before; the original MessageId comes with it."""
NOISE = frozenset({"CMN.ATO.GEN.OK", "SBR.GEN.INFO.1", "SBR.GEN.INFO.2", "SBR.GEN.INFO.4"})
"""Said beside a success."""

_RELEASE = "Then release what is held."


def _permission(who: Party, blast: Blast, advice: str) -> FaultRule:
    return FaultRule(FailureClass.THEIR_PERMISSION, who, blast, f"{advice} {_RELEASE}")


def _ours(blast: Blast, advice: str, who: Party = Party.OPERATOR, *, place: str = "the ebMS header") -> FaultRule:
    return FaultRule(FailureClass.OUR_DOCUMENT, who, blast, advice, place=place)


def _wait(advice: str) -> FaultRule:
    return FaultRule(FailureClass.UNAVAILABLE, Party.AGENCY, Blast.CHANNEL, f"{advice} It is sent again by itself.")


def _resubmit(advice: str) -> FaultRule:
    text = f"{advice} Whether it was lodged is not known; it is sent again by itself under the same message id."
    return FaultRule(FailureClass.UNKNOWN, Party.NOBODY, Blast.LODGMENT, text)


AGENCY_RULES: Mapping[str, FaultRule] = {
    "SBR.GEN.AUTH.006": _permission(
        Party.EMPLOYER,
        Blast.EMPLOYER,
        "The ATO has no notification that this business uses the cloud software provider. The employer, or the agent,"
        " notifies the provider and its software id in Access Manager, or by phone.",
    ),
    "SBR.GEN.AUTH.008": _permission(
        Party.OPERATOR,
        Blast.EMPLOYER,
        "The ATO knows this business with another software id. Compare the id and the ABN in the client's notification"
        " with `lodge software-ids`; whoever has it wrong corrects it.",
    ),
    "CMN.ATO.AUTH.001": _permission(
        Party.AGENT,
        Blast.AGENT,
        "The registered agent number does not belong to the agent's ABN or credential. The agent corrects the number,"
        " or links it in Access Manager.",
    ),
    "CMN.ATO.AUTH.002": _permission(
        Party.AGENT,
        Blast.EMPLOYER,
        "The agent is not authorised for this client. The agent adds the client; it may take until the next day.",
    ),
    "CMN.ATO.AUTH.004": _permission(
        Party.EMPLOYER, Blast.EMPLOYER, "The ATO has nothing for this business under this permission. Check the ABN."
    ),
    "CMN.ATO.AUTH.005": _permission(
        Party.AGENT,
        Blast.AGENT,
        "The credential is not linked to the agent number. Link it in Access Manager.",
    ),
    "CMN.ATO.AUTH.006": _permission(
        Party.AGENT,
        Blast.AGENT,
        "The practice has not nominated the cloud software provider. The agent notifies it in Access Manager, for the"
        " ABN of the practice.",
    ),
    "CMN.ATO.AUTH.007": _permission(
        Party.EMPLOYER,
        Blast.EMPLOYER,
        "The sender may not do this. The permission is changed in Access Manager.",
    ),
    "CMN.ATO.AUTH.008": _permission(
        Party.EMPLOYER,
        Blast.EMPLOYER,
        "The business has not appointed the sender. It does so in Access Manager, which takes about a day.",
    ),
    "CMN.ATO.AUTH.011": _permission(
        Party.AGENT, Blast.EMPLOYER, "The client is not associated with this agent number. The agent adds the client."
    ),
    "SBR.GEN.FAULT.SERVICEACTIONDENIED": FaultRule(
        FailureClass.OUR_CREDENTIAL,
        Party.OPERATOR,
        Blast.CHANNEL,
        "The product is not allowed to use this service and action. Compare product id, vendor, name and version in the"
        f" settings with the product's registration, and take it up with the ATO. {_RELEASE}",
    ),
    "SBR.GEN.FAULT.INTERNALERROR": _resubmit("The gateway had an internal error."),
    "SBR.GEN.FAULT.FAULTFROMAGENCY": _resubmit("The agency behind the gateway failed, or has this document already."),
    "CMN.ATO.GEN.EM0001": _resubmit("The ATO had an unexpected error."),
    "CMN.ATO.GEN.UNEXPECTEDNUMPAYLOADS": _ours(
        Blast.CHANNEL,
        "The ATO takes exactly one attachment in a bulk message, which this pipeline sends. Report it.",
        place="eb:PayloadInfo, and the parts of the multipart message",
    ),
    "CMN.ATO.EBMS.001": _ours(
        Blast.CHANNEL,
        "A field of the message header is missing or wrong. Read which one it is, correct the names of the message and"
        " part properties in the settings, then release what is held.",
        place="the message or part property that FieldId names",
    ),
    "CMN.ATO.GEN.XML03": _ours(
        Blast.LODGMENT,
        "The document breaks the ATO's schema. Correct it in the payroll product and lodge it as a new job.",
        Party.PRODUCER,
        place="the element that the event's location names: a letter in a number or date, or a character not allowed",
    ),
}

EBMS_RULES: Mapping[str, FaultRule] = {
    "EBMS:0001": _ours(Blast.CHANNEL, "The gateway does not know a value of the header. Check parties and service."),
    "EBMS:0003": _ours(Blast.CHANNEL, "Two values of the header do not fit each other. Check parties and service."),
    "EBMS:0004": _resubmit("The gateway reports an error without naming it."),
    "EBMS:0007": _ours(
        Blast.CHANNEL,
        "The gateway could not take the multipart message apart. Report a defect.",
        place="the multipart message: boundary, Content-ID, media types",
    ),
    "EBMS:0009": _ours(Blast.CHANNEL, "The gateway finds the ebMS header malformed. Report a defect."),
    "EBMS:0011": _wait("The gateway could not reach a payload."),
    "EBMS:0101": FaultRule(
        FailureClass.STALE_TOKEN,
        Party.NOBODY,
        Blast.LODGMENT,
        "The gateway could not verify the signature or the token. It is sealed again with a new token; where that does"
        " not help, check the credential and AppliesTo.",
    ),
    "EBMS:0102": FaultRule(
        FailureClass.STALE_TOKEN,
        Party.NOBODY,
        Blast.LODGMENT,
        "The gateway could not decrypt the token. It is sealed again with a new one; where that does not help, check"
        " that AppliesTo names this environment.",
    ),
    "EBMS:0103": _ours(
        Blast.CHANNEL,
        "The message does not follow the gateway's security policy. Check the settings.",
        place="wsse:Security: what is signed, by which algorithms, in which order",
    ),
    "EBMS:0202": _wait("The gateway could not deliver the message to the agency."),
    "EBMS:0301": _resubmit("The gateway misses a receipt."),
    "EBMS:0303": _ours(
        Blast.CHANNEL, "The gateway could not decompress the attachment. Report a defect.", place="the attachment"
    ),
}

_UNKNOWN_PERMISSION = replace(
    _permission(
        Party.OPERATOR,
        Blast.LODGMENT,
        "The ATO refuses for a reason of authorisation that is not in the table. Read its text and see who must act.",
    ),
    known=False,
)
UNKNOWN_ERROR = replace(
    _ours(
        Blast.LODGMENT,
        "The gateway reports an error that is not in the table. Read its text, mend it, then release.",
        place="as the error's text says",
    ),
    known=False,
)


def rule_for(nested: Iterable[str], ebms_code: str) -> tuple[str, FaultRule]:
    """The code that says most, and its rule: one of the agency's, known or of a known family, before the ebMS code."""
    codes = [code for code in nested if code not in NOISE]
    for code in codes:
        if code in AGENCY_RULES:
            return code, AGENCY_RULES[code]
    for code in codes:
        if ".AUTH." in code:
            return code, _UNKNOWN_PERMISSION
    if codes:
        return codes[0], UNKNOWN_ERROR
    return ebms_code, EBMS_RULES.get(ebms_code.upper(), UNKNOWN_ERROR)


def is_permission(code: str) -> bool:
    """Whether a message event says that the sender may not, rather than that the document is wrong."""
    return ".AUTH." in code or AGENCY_RULES.get(code) is AGENCY_RULES["SBR.GEN.FAULT.SERVICEACTIONDENIED"]
