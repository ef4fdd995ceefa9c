"""SOAP faults of ASIC Business Names as data: what each code means, who must act, and what fails with it."""

from collections.abc import Mapping

from pipeline.channels.faults import FaultRule
from pipeline.lodgment.failures import Blast, FailureClass, Party

RULES: Mapping[str, FaultRule] = {
    # WIG 4.3.3.1, table 3
    "asic:FAULT.MALFORMEDXML": FaultRule(
        FailureClass.OUR_DOCUMENT,
        Party.OPERATOR,
        Blast.LODGMENT,
        "ASIC could not read the request as XML. The payload was well formed when it was taken, so the envelope was "
        "built wrongly or damaged on the way: keep it, report a defect, and replay only after that is settled.",
    ),
    "asic:FAULT.INVALIDXML": FaultRule(
        FailureClass.OUR_DOCUMENT,
        Party.PRODUCER,
        Blast.LODGMENT,
        "The request breaks the schema of its service. Correct the payload against the WSDL and lodge it as a new job; "
        "if every lodgment of this action fails so, check the action's namespace and version in the settings.",
    ),
    "asic:FAULT.TOOBIG": FaultRule(
        FailureClass.OUR_DOCUMENT,
        Party.PRODUCER,
        Blast.LODGMENT,
        "The request is larger than the 50 MB that ASIC takes. Make the document smaller and lodge it as a new job.",
    ),
    "asic:FAULT.ATTACHMENTERROR": FaultRule(
        FailureClass.OUR_DOCUMENT,
        Party.PRODUCER,
        Blast.LODGMENT,
        "ASIC could not process an attachment in the payload. Correct the attachment and lodge it as a new job.",
    ),
    "asic:FAULT.UNKNOWNSERVICE": FaultRule(
        FailureClass.OUR_DOCUMENT,
        Party.OPERATOR,
        Blast.CHANNEL,
        "ASIC offers no such service at this address. Check the action's path and namespace in the settings against "
        "the WSDL, then release what is held.",
    ),
    "wsse:SecurityTokenUnavailable": FaultRule(
        FailureClass.STALE_TOKEN,
        Party.NOBODY,
        Blast.LODGMENT,
        "ASIC found no security token in the request. It is sealed again with a new token; if that does not help, the "
        "environment expects another authentication than the settings say.",
    ),
    "wsse:FailedCheck": FaultRule(
        FailureClass.STALE_TOKEN,
        Party.NOBODY,
        Blast.LODGMENT,
        "The token did not decrypt at ASIC, or a signature did not verify. It is sealed again with a new token; if "
        "that does not help, check that the token's AppliesTo names this ASIC environment.",
    ),
    "wsse:InvalidSecurityToken": FaultRule(
        FailureClass.STALE_TOKEN,
        Party.NOBODY,
        Blast.LODGMENT,
        "ASIC refused the token: expired, altered, or without a mandatory claim. It is sealed again with a new token; "
        "if that does not help, compare the claims in the settings with table 4 of the guide.",
    ),
    "asic:FAULT.UNAVAILABLE": FaultRule(
        FailureClass.UNAVAILABLE,
        Party.NOBODY,
        Blast.CHANNEL,
        "ASIC says that the service is unavailable. Nothing to do: it is sent again by itself, at the announced time.",
    ),
    # WIG 4.3.3.2, figure 6
    "asic:FAULT.ASICNOTRESPONDING": FaultRule(
        FailureClass.UNAVAILABLE,
        Party.NOBODY,
        Blast.CHANNEL,
        "ASIC's own systems do not answer its gateway. Nothing to do: it is sent again by itself, same reference.",
    ),
    # WS-Security 1.1, 12
    "wsse:MessageExpired": FaultRule(
        FailureClass.STALE_TOKEN,
        Party.NOBODY,
        Blast.LODGMENT,
        "ASIC took the message for too old. It is sealed again with a new token; if that fails, check our clock.",
    ),
    "wsse:FailedAuthentication": FaultRule(
        FailureClass.OUR_CREDENTIAL,
        Party.OPERATOR,
        Blast.CREDENTIAL,
        "ASIC does not accept the credential. Check that it is valid, registered with ASIC, and of this environment.",
    ),
    "wsse:InvalidSecurity": FaultRule(
        FailureClass.OUR_DOCUMENT,
        Party.OPERATOR,
        Blast.CHANNEL,
        "ASIC could not process the security header. Check the authentication and assertion reference in the settings.",
    ),
    "wsse:UnsupportedSecurityToken": FaultRule(
        FailureClass.OUR_DOCUMENT,
        Party.OPERATOR,
        Blast.CHANNEL,
        "ASIC does not take this kind of token. Check that token service and AppliesTo are those of this environment.",
    ),
    "wsse:UnsupportedAlgorithm": FaultRule(
        FailureClass.OUR_DOCUMENT,
        Party.OPERATOR,
        Blast.CHANNEL,
        "ASIC does not take an algorithm of the signatures: SHA-256 is all that is emitted. Ask ASIC what it requires.",
    ),
    # SOAP 1.2 part 1, 5.4.6
    "soap:MustUnderstand": FaultRule(
        FailureClass.OUR_DOCUMENT,
        Party.OPERATOR,
        Blast.CHANNEL,
        "This address does not process security headers. Check the action's path and authentication in the settings.",
    ),
    "soap:VersionMismatch": FaultRule(
        FailureClass.OUR_DOCUMENT,
        Party.OPERATOR,
        Blast.CHANNEL,
        "This address does not speak SOAP 1.2. Check the action's path in the settings.",
    ),
}
"""By code as the guide prints it, which is also what operators search for."""

_CODE_BY_NAME: Mapping[str, str] = {code.partition(":")[2].casefold(): code for code in RULES}

_SENDER = FaultRule(
    FailureClass.OUR_DOCUMENT,
    Party.OPERATOR,
    Blast.LODGMENT,
    "ASIC says that the request is at fault, with a code that is not in the table. Read the text, mend it, replay.",
    known=False,
)
_RECEIVER = FaultRule(
    FailureClass.UNAVAILABLE,
    Party.NOBODY,
    Blast.CHANNEL,
    "ASIC says that its own side failed, with a code that is not in the table. It is sent again by itself.",
    known=False,
)


def known_rule(codes: tuple[str, ...]) -> tuple[str, FaultRule] | None:
    """The finest code that has a row, and that row; `codes` are local names, the outermost first (WIG 4.3.2.2)."""
    for code in reversed(codes):
        # the guide itself prints `asic:.FAULT.MALFORMEDXML` once
        known = _CODE_BY_NAME.get(code.lstrip(".").casefold())
        if known is not None:
            return known, RULES[known]
    return None


def default_rule(codes: tuple[str, ...]) -> FaultRule:
    """What an unknown code means: a Receiver fault needs no change to the request, any other does (WIG 4.3.2.1)."""
    return _RECEIVER if codes[:1] == ("Receiver",) else _SENDER
