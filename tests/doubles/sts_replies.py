"""Responses of a token service as text, so that each can be bent in one place; the token in them is synthetic."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

from pipeline.protocol.namespaces import Ns

NOW = datetime(2026, 11, 23, 4, 5, 6, tzinfo=UTC)
MESSAGE_ID = "urn:uuid:11111111-2222-3333-4444-555555555555"
APPLIES_TO = "https://agency.invalid"
PROOF_KEY = bytes(range(64))
PROOF_KEY_TEXT = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIjJCUmJygpKissLS4vMDEyMzQ1Njc4OTo7PD0+Pw=="
ENCRYPTED_DATA = (
    f'<xenc:EncryptedData xmlns:xenc="{Ns.XENC}" Id="ED-1" Type="{Ns.XENC}Element"><xenc:CipherData>'
    "<xenc:CipherValue>U1lOVEhFVElD</xenc:CipherValue></xenc:CipherData></xenc:EncryptedData>"
)
ASSERTION = f'<saml2:EncryptedAssertion xmlns:saml2="{Ns.SAML2}">{ENCRYPTED_DATA}</saml2:EncryptedAssertion>'


def reference(name: str) -> str:
    """Either reference of the response: the assertion's id shows nowhere else."""
    return (
        f'<wst:{name}><wsse:SecurityTokenReference xmlns:wsse="{Ns.WSSE}"><wsse:KeyIdentifier>_a1</wsse:KeyIdentifier>'
        f"</wsse:SecurityTokenReference></wst:{name}>"
    )


def lifetime(created: str | None, expires: str | None) -> str:
    """A Lifetime element; None leaves a child out."""
    times = (("Created", created), ("Expires", expires))
    inside = "".join(f"<wsu:{name}>{text}</wsu:{name}>" for name, text in times if text is not None)
    return f'<wst:Lifetime xmlns:wsu="{Ns.WSU}">{inside}</wst:Lifetime>'


PARTS: Mapping[str, str] = {
    "TokenType": "<wst:TokenType>http://docs.oasis-open.org/wss/oasis-wss-saml-token-profile-1.1#SAMLV2.0</wst:TokenType>",
    "RequestedSecurityToken": f"<wst:RequestedSecurityToken>{ASSERTION}</wst:RequestedSecurityToken>",
    "RequestedAttachedReference": reference("RequestedAttachedReference"),
    "RequestedUnattachedReference": reference("RequestedUnattachedReference"),
    "AppliesTo": (
        f'<wsp:AppliesTo xmlns:wsp="{Ns.WSP}"><wsa:EndpointReference><wsa:Address>{APPLIES_TO}</wsa:Address>'
        "</wsa:EndpointReference></wsp:AppliesTo>"
    ),
    "RequestedProofToken": (
        f'<wst:RequestedProofToken><wst:BinarySecret Type="{Ns.WST}/Nonce">{PROOF_KEY_TEXT}</wst:BinarySecret>'
        "</wst:RequestedProofToken>"
    ),
    "Lifetime": lifetime("2026-11-23T04:05:06.000Z", "2026-11-23T04:35:06.000Z"),
}
"""The children of the response that was recorded from the service, in its order."""

RELATES_TO = f"<wsa:RelatesTo>{MESSAGE_ID}</wsa:RelatesTo>"


def parts(**changes: str) -> tuple[str, ...]:
    """The recorded children, some of them replaced, or left out by an empty text."""
    assert changes.keys() <= PARTS.keys()
    return tuple({**PARTS, **changes}.values())


def response(children: Iterable[str] = PARTS.values(), attributes: str = "") -> str:
    """One RequestSecurityTokenResponse."""
    return f"<wst:RequestSecurityTokenResponse{attributes}>{''.join(children)}</wst:RequestSecurityTokenResponse>"


def collection(*responses: str) -> str:
    """The body's child."""
    name = "wst:RequestSecurityTokenResponseCollection"
    return f"<{name}>{''.join(responses)}</{name}>"


def envelope(body: str, header: str = RELATES_TO) -> bytes:
    """A whole SOAP message around the body's content."""
    return (
        f'<soap:Envelope xmlns:soap="{Ns.SOAP}" xmlns:wsa="{Ns.WSA}" xmlns:wst="{Ns.WST}">'
        f"<soap:Header>{header}</soap:Header><soap:Body>{body}</soap:Body></soap:Envelope>"
    ).encode()


def token_reply(header: str = RELATES_TO, **changes: str) -> bytes:
    """The recorded reply, with children replaced by name."""
    return envelope(collection(response(parts(**changes))), header)


def fault(codes: Iterable[str], reason: str = "", detail: str = "") -> bytes:
    """A SOAP 1.2 fault; `codes` are QNames whose prefixes are `soap`, `wsse`, `wst` or `v`, the outermost first."""
    nested = ""
    first, *more = codes
    for code in reversed(more):
        nested = f"<soap:Subcode><soap:Value>{code}</soap:Value>{nested}</soap:Subcode>"
    return envelope(
        f'<soap:Fault xmlns:v="{Ns.VANGUARD_FAULT}" xmlns:wsse="{Ns.WSSE}"><soap:Code><soap:Value>{first}</soap:Value>'
        f'{nested}</soap:Code><soap:Reason><soap:Text xml:lang="en-AU">{reason}</soap:Text></soap:Reason>'
        f"{f'<soap:Detail>{detail}</soap:Detail>' if detail else ''}</soap:Fault>"
    )


def sts_fault_detail(event: str) -> str:
    """The structured detail that most faults carry (MAS-ST 4.1.4.4)."""
    return (
        f'<STSFault xmlns="{Ns.VANGUARD_FAULT}"><EventCode>{event}</EventCode><EventSeverity>Severe</EventSeverity>'
        "<EventDescription>synthetic</EventDescription><UserAdvice>synthetic</UserAdvice></STSFault>"
    )
