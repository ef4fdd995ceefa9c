"""The gateway's check of a Security header: whose document it is, and whether the token says so too (WIG 5.4)."""

from dataclasses import dataclass
from datetime import datetime

import xmlsec
from lxml import etree

from pipeline.protocol.namespaces import Ns
from pipeline.sandbox.home import APPLIES_TO, Home
from pipeline.sandbox.judge import (
    HMAC_SHA256,
    RSA_SHA256,
    ForgedError,
    Identified,
    Rule,
    check_envelope,
    check_signature,
    identified,
    only,
)
from pipeline.sandbox.relying_party import OpenToken, RelyingParty, UnacceptableError, UnreadableError
from pipeline.sandbox.signers import Signers, check_token
from pipeline.sandbox.soap import FaultError, Name
from pipeline.sandbox.sts_gate import read_certificate, require_reference


@dataclass(frozen=True, slots=True)
class _Header:
    """The four parts of a Security header, and the Body."""

    token: etree._Element
    assertion: etree._Element
    document_signature: etree._Element
    envelope_signature: etree._Element
    body: etree._Element
    ids: dict[str, Identified]


def security_fault(code: str, reason: str) -> FaultError:
    """`wsse:<code>` (WIG 4.3.3.1, WS-Security 12)."""
    return FaultError((Name(code, "wsse", Ns.WSSE.value),), reason)


class Sentry:
    """Lets an envelope pass, or says which fault it earns."""

    def __init__(self, home: Home) -> None:
        self._relying_party = RelyingParty(home.relying_party, home.sts.certificate)
        self._signers = Signers(home)

    def check(self, root: etree._Element, now: datetime) -> None:
        """Believe the Body of this envelope.

        Raises:
            FaultError: SecurityTokenUnavailable, FailedCheck or InvalidSecurityToken.
        """
        try:
            header = _read_header(root)
            signer = self._signers.signer(read_certificate(header.token), now)
            check_signature(
                header.document_signature,
                header.ids,
                (header.body, header.token),
                RSA_SHA256,
                signer.key,
            )
            token = self._relying_party.open(header.assertion[0])
            self._check_endorsement(header, token)
            check_token(token, signer, APPLIES_TO, now)
        except UnreadableError as error:
            raise security_fault("FailedCheck", str(error)) from error
        except ForgedError as error:
            reason = f"The provided signatures or encryption were invalid: {error}"
            raise security_fault("FailedCheck", reason) from error
        except UnacceptableError as error:
            raise security_fault("InvalidSecurityToken", f"An invalid security token was provided: {error}") from error

    def _check_endorsement(self, header: _Header, token: OpenToken) -> None:
        """The session key signs document signature, Body and assertion: it ties document to identity (WIG 5.4.4)."""
        key = xmlsec.Key.from_binary_data(xmlsec.constants.KeyDataHmac, token.proof_key)
        covered = [header.document_signature, header.body, _covered_assertion(header)]
        check_signature(header.envelope_signature, header.ids, covered, HMAC_SHA256, key)


def _read_header(root: etree._Element) -> _Header:
    header = only(root, Ns.SOAP("Header"))
    body = only(root, Ns.SOAP("Body"))
    if not header.findall(f"{Ns.WSSE('Security')}/{Ns.SAML2('EncryptedAssertion')}"):
        raise security_fault("SecurityTokenUnavailable", "No security token was provided")
    check_envelope(root)
    security = only(header, Ns.WSSE("Security"))
    ids = identified(root)
    token = only(security, Ns.WSSE("BinarySecurityToken"))
    assertion = only(security, Ns.SAML2("EncryptedAssertion"))
    if [child.tag for child in assertion] != [Ns.XENC("EncryptedData")]:
        raise ForgedError(Rule.STRUCTURE, "EncryptedAssertion must hold one EncryptedData")
    signatures = list(root.iter(Ns.DS("Signature")))
    if len(security) != 4 or any(signature.getparent() is not security for signature in signatures):
        raise ForgedError(Rule.STRUCTURE, "Security holds a token, an assertion and two signatures, and nothing else")
    by_certificate = [one for one in signatures if one.find(Ns.DS("KeyInfo")) is not None]
    by_session_key = [one for one in signatures if one.find(Ns.DS("KeyInfo")) is None]
    if len(by_certificate) != 1 or len(by_session_key) != 1:
        raise ForgedError(Rule.STRUCTURE, "one signature has a KeyInfo, and the one by the session key has none")
    require_reference(by_certificate[0], token, ids)
    return _Header(token, assertion, by_certificate[0], by_session_key[0], body, ids)


def _covered_assertion(header: _Header) -> etree._Element:
    """Referred to by an id of its own, or by that of the EncryptedData in it: the guide does not show which."""
    own = any(one.element is header.assertion for one in header.ids.values())
    return header.assertion if own else header.assertion[0]
