"""ASIC Business Names over SOAP 1.2 (Web Services Implementation Guide 2.2).

soap:Envelope
  soap:Header
    wsse:Security                    none with HTTP Basic
      saml2:EncryptedAssertion       as the token service gave it
      wsse:BinarySecurityToken       the leaf certificate
      ds:Signature                   RSA over Body and BinarySecurityToken: who wrote it
      ds:Signature                   HMAC, session key, over that signature, Body and assertion: who may send it
  soap:Body
    msg:request
      hdr:businessDocumentHeader
      businessDocumentBody           the payload, spliced in unchanged

No wsu:Timestamp: the guide names these four parts and no other (WIG 5.4).
"""

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from lxml import etree

from pipeline.channels.asic_header import RequestFacts, request_header
from pipeline.channels.asic_profile import PING, SERVICE, AsicProfile, BasicCredentials, ServiceEntry
from pipeline.channels.asic_replies import PingReply, read_outcome, read_ping
from pipeline.channels.contract import Document, Envelope, Prepared, Reply, SealOrder, Sent, TokenSubject
from pipeline.lodgment.decisions import RetryPolicy
from pipeline.lodgment.errors import ConfigurationError, RefusedError
from pipeline.lodgment.failures import Failure
from pipeline.lodgment.job import JobRefusedError, LodgmentJob
from pipeline.lodgment.lodgment import Lodgment
from pipeline.lodgment.outcome import Outcome
from pipeline.lodgment.references import TokenKey
from pipeline.protocol.credential import Credential
from pipeline.protocol.fragments import element, spliceable
from pipeline.protocol.soap import CONTENT_TYPE, Frame, envelope, request_body
from pipeline.protocol.wsse import (
    Part,
    binary_security_token,
    certificate_signature,
    endorsing_signature,
    identity_token,
)
from pipeline.protocol.wstrust import SecurityToken
from pipeline.protocol.xml import XmlError, parse

NAME = "asic_bn"
_BODY = "businessDocumentBody"
_ENVELOPE_RESERVE = 256 * 1024
"""Bytes kept free for everything around the payload; the assertion is the largest part, about 10 KB."""
_XML_RULES: Mapping[str, str] = {
    "xml.size": "the document is too large: with its envelope it must fit in ASIC's limit of 50 MB (WIG 2.2.3)",
    "xml.malformed": "the document is not well-formed XML: write it with an XML library, in UTF-8 or UTF-16",
    "xml.doctype": "a document type declaration is not allowed (SOAP 1.2, 5): remove it and write its entities out",
    "xml.width": "the document has too many elements, attributes or namespace declarations: split it",
    "xml.canonical": "the document has no canonical form: its namespace names must be absolute URIs without ampersands",
}


@dataclass(frozen=True, slots=True)
class PingRequest:
    """A whole ping (WIG 6.3.2), to be sent as it is."""

    url: str
    headers: tuple[tuple[str, str], ...] = field(repr=False)
    body: bytes = field(repr=False)


class AsicBusinessNames:
    """The channel `asic_bn` in one environment. Holds its profile."""

    def __init__(self, profile: AsicProfile) -> None:
        self._profile = profile

    @property
    def name(self) -> str:
        return NAME

    @property
    def checks_receipts(self) -> bool:
        return False

    @property
    def attaches(self) -> bool:
        return False

    @property
    def needs_software_id(self) -> bool:
        """The guide knows none (WIG 5.1); a token that acts for an employer names it (MAS-ST 3.3.1)."""
        terms = self._profile.authentication
        return not isinstance(terms, BasicCredentials) and terms.act_as_employer

    def prepare(self, job: LodgmentJob, document: Document, now: datetime) -> Prepared:  # noqa: ARG002  - the contract's signature
        """The message's `businessDocumentBody`, checked, in the form in which it is stored, sealed and sent.

        Raises:
            JobRefusedError: `payload.action`, `payload.root`, `payload.instruction`, `payload.xml.size` and its like.
        """
        entry = self._profile.services.get((job.service, job.action))
        if entry is None:
            known = ", ".join(sorted("/".join(key) for key in self._profile.services))
            raise JobRefusedError("payload.action", (f"action: this channel has no such message, only {known}",))
        limit = self._profile.request_limit - _ENVELOPE_RESERVE
        try:
            root = parse(document.read(), limit)
            _check_root(root, entry.namespace)
            prepared = spliceable(root)
        except XmlError as error:
            raise _refused(error.code, f"{_XML_RULES[error.code]}{_place(error)}") from error
        if len(prepared) > limit:
            raise _refused("xml.size", _XML_RULES["xml.size"])
        return Prepared(prepared)

    def asks(self, lodgment: Lodgment) -> bool:  # noqa: ARG002  - the contract's signature
        """Never: the same reference again is answered with the first answer (WIG 3.7), and nothing else asks for it."""
        return False

    def token_key(self, subject: TokenSubject) -> TokenKey | None:
        """The token says who the sender is, and, only where the terms ask for it, the employer that it acts for."""
        terms = self._profile.authentication
        if isinstance(terms, BasicCredentials):
            return None
        return terms.key(self._profile.environment, subject.credential, subject.party_abn, subject.software_id)

    def seal(self, order: SealOrder) -> Envelope:
        """The secured envelope. Its business body depends on the lodgment alone: each sealing says the same (WIG 3.7).

        Raises:
            RefusedError: `seal.incomplete`, `seal.size`, `seal.token.assertion`, `seal.xml.character`.
        """
        lodgment = order.lodgment
        facts = RequestFacts(lodgment.reference, lodgment.sender_id, lodgment.sender_type, lodgment.received_at)
        entry = self._entry(lodgment.service, lodgment.action)
        return self._sealed(entry, facts, order.payload, order.credential, order.token, order.nonce)

    def gateway(self) -> str | None:
        return None

    def url(self, lodgment: Lodgment) -> str:
        return self._url(self._entry(lodgment.service, lodgment.action))

    def headers(self, lodgment: Lodgment) -> tuple[tuple[str, str], ...]:  # noqa: ARG002  - the contract's signature
        return self._headers()

    def read_reply(self, reply: Reply, sent: Sent) -> Outcome | Failure:
        return read_outcome(reply.status, reply.content_type, reply.body, sent.lodgment.reference)

    def policy(self, service: str, action: str) -> RetryPolicy:
        return self._entry(service, action).policy

    def connectivity_url(self, service: str = SERVICE, action: str = PING) -> str:
        """A GET of this returns the WSDL where the network lets us through; no authentication is sent (WIG 6.2)."""
        return f"{self._url(self._entry(service, action))}?wsdl"

    def ping(
        self, facts: RequestFacts, credential: Credential | None, token: SecurityToken | None, nonce: str
    ) -> PingRequest:
        """A ping, authenticated like any lodgment. Its body is empty: the guide gives it a messageType and no more."""
        entry = self._entry(SERVICE, PING)
        payload = element(f"ping:{_BODY}", declared={"ping": entry.namespace}).encode()
        sealed = self._sealed(entry, facts, payload, credential, token, nonce)
        return PingRequest(self._url(entry), self._headers(), sealed.head + payload + sealed.tail)

    def read_ping_reply(self, status: int, content_type: str, body: bytes, reference: str) -> PingReply | Failure:
        return read_ping(status, content_type, body, reference)

    def _entry(self, service: str, action: str) -> ServiceEntry:
        entry = self._profile.services.get((service, action))
        if entry is None:
            raise ConfigurationError(
                "channel.action",
                f"{NAME} in {self._profile.environment} has no message {service}/{action} in its services",
            )
        return entry

    def _url(self, entry: ServiceEntry) -> str:
        return self._profile.base_url.rstrip("/") + entry.path

    def _headers(self) -> tuple[tuple[str, str], ...]:
        """With HTTP Basic the credentials go along unasked: ASIC never sends a challenge (WIG 5.2)."""
        content_type = ("Content-Type", CONTENT_TYPE)
        login = self._profile.authentication
        if not isinstance(login, BasicCredentials):
            return (content_type,)
        pair = base64.b64encode(f"{login.username}:{login.password}".encode()).decode()
        return (content_type, ("Authorization", f"Basic {pair}"))

    def _sealed(
        self,
        entry: ServiceEntry,
        facts: RequestFacts,
        payload: bytes,
        credential: Credential | None,
        token: SecurityToken | None,
        nonce: str,
    ) -> Envelope:
        frame = Frame.around(payload, entry.namespace)
        try:
            header = request_header(facts, entry, self._profile.software)
            body = request_body(frame, f"body-{nonce}", header, payload)
            security = self._security(body.part, credential, token, nonce)
        except XmlError as error:
            raise RefusedError(f"seal.{error.code}", f"{facts.reference} cannot be sealed: {error}") from error
        head, tail = envelope(frame, security, body)
        size = len(head) + len(payload) + len(tail)
        if size > self._profile.request_limit:
            raise RefusedError("seal.size", f"the envelope of {facts.reference} has {size} bytes, more than ASIC takes")
        return Envelope(head, tail)

    def _security(
        self, body: Part, credential: Credential | None, token: SecurityToken | None, nonce: str
    ) -> bytes | None:
        if isinstance(self._profile.authentication, BasicCredentials):
            return None
        if credential is None or token is None:
            raise RefusedError(
                "seal.incomplete", "an envelope needs a credential and a security token in this environment"
            )
        identity = identity_token(token.assertion, self._profile.assertion_reference)
        certificate, certificate_part = binary_security_token(credential.certificate_der)
        document_signature, document_part = certificate_signature(
            credential.private_key, f"signature-{nonce}", certificate_part, (body, certificate_part)
        )
        envelope_signature = endorsing_signature(token.proof_key, (document_part, body, identity.part))
        return b"".join((identity.wire, certificate, document_signature, envelope_signature))


def _check_root(root: etree._Element, namespace: str) -> None:
    if root.tag != f"{{{namespace}}}{_BODY}":
        raise _refused(
            "root", f"the root element must be {_BODY} in the namespace {namespace}: send that element alone"
        )
    if next(root.iter(etree.PI), None) is not None:
        raise _refused("instruction", "processing instructions are not allowed (SOAP 1.2, 5): remove them")


def _place(error: XmlError) -> str:
    cause = error.__cause__
    if not isinstance(cause, etree.XMLSyntaxError):
        return ""
    line, column = cause.position
    return f" (line {line}, column {column})"


def _refused(code: str, rule_and_fix: str) -> JobRefusedError:
    return JobRefusedError(f"payload.{code}", (f"payload: {rule_and_fix}",))
