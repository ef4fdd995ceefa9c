"""Single Touch Payroll over SBR2 (ebMS3/AS4): a signed push, a receipt, and the outcome by selective pull.

One lodgment has one MessageId, its reference at our domain, for every push. The compressed document is stored once and
pushed as it is; only what stands around it is sealed anew when a token has expired. What was acknowledged is asked
about, by pulls that carry ids of their own.
"""

from collections.abc import Iterable
from datetime import datetime
from io import BytesIO

from pipeline.channels.contract import Document, Envelope, Prepared, Reply, SealOrder, Sent, TokenSubject
from pipeline.channels.sbr2_profile import SERVICE, UPDATE, Sbr2Profile
from pipeline.channels.sbr2_replies import Asked, read_reply
from pipeline.channels.stp_documents import StpError, read_pay_event
from pipeline.channels.stp_fields import Payer
from pipeline.lodgment.decisions import RetryPolicy
from pipeline.lodgment.errors import ConfigurationError, RefusedError
from pipeline.lodgment.failures import Failure
from pipeline.lodgment.job import JobRefusedError, LodgmentJob
from pipeline.lodgment.lodgment import Lodgment
from pipeline.lodgment.outcome import Outcome
from pipeline.lodgment.references import TokenKey
from pipeline.protocol.algorithms import Algorithm
from pipeline.protocol.as4_signature import SignedEnvelope, signed_envelope
from pipeline.protocol.as4_signed_info import As4SignatureError, references_of
from pipeline.protocol.credential import Credential
from pipeline.protocol.ebms3 import Ebms3Error, PullRequest, SignedReference, UserMessage
from pipeline.protocol.gzip_stream import MEDIA_TYPE, Compression, GzipError, inflate
from pipeline.protocol.mime_writer import ROOT_CONTENT_TYPE, AttachmentHead, cid_url, multipart_related
from pipeline.protocol.namespaces import Ns
from pipeline.protocol.sbr_ebms3 import Document as AttachedDocument
from pipeline.protocol.sbr_ebms3 import PartyKind, Push
from pipeline.protocol.wsse import AssertionReference, AttachedPart, identity_token
from pipeline.protocol.wstrust import SecurityToken
from pipeline.protocol.xml import XmlError, parse

NAME = "sbr2_stp"
_ENVELOPE_END = b"</soap:Envelope>"


class Sbr2Stp:
    """The channel; see `pipeline.channels.contract.Channel`."""

    def __init__(self, profile: Sbr2Profile) -> None:
        self._profile = profile

    @property
    def name(self) -> str:
        return NAME

    @property
    def checks_receipts(self) -> bool:
        return True

    @property
    def attaches(self) -> bool:
        return True

    @property
    def needs_software_id(self) -> bool:
        return self._profile.software_ids

    def prepare(self, job: LodgmentJob, document: Document, now: datetime) -> Prepared:
        """The document, compressed once and for all, after it was found to be what the ATO would take.

        Raises:
            JobRefusedError: `payload.action`, `payload.party`, `payload.payers`, `stp.records`, `stp.rules`.
        """
        if job.service != SERVICE or job.action not in self._profile.actions:
            known = ", ".join(f"{SERVICE}/{action}" for action in sorted(self._profile.actions))
            raise JobRefusedError("payload.action", (f"action: this channel has no such message, only {known}",))
        compression = Compression(document.pieces())
        content = _whole(compression)
        try:
            # What is checked is what will be sent, inflated again as the agency does.
            pieces = inflate((content,), self._profile.document_limit)
            event = read_pay_event(pieces, update=job.action == UPDATE, now=now)
        except StpError as error:
            more = (f"and {error.more} faults more",) if error.more else ()
            raise JobRefusedError(error.code, (*(f"payload: {fault}" for fault in error.faults), *more)) from error
        except GzipError as error:
            text = f"payload: the document has more than {self._profile.document_limit} bytes"
            raise JobRefusedError("payload.size", (text,)) from error
        if len(event.payers) != 1:
            text = f"payload: holds {len(event.payers)} payers; a job lodges for one, `lodge submit` splits such files"
            raise JobRefusedError("payload.payers", (text,))
        (payer,) = event.payers
        kind, number = _sender(job, payer)
        facts = {
            "party_kind": kind.value,
            "party": number,
            "parent": payer.document_id,
            "submission": payer.submission_id,
            "replaces": "true" if payer.replaces else "",
            "updates": "true" if job.action == UPDATE else "",
            "payees": str(payer.payees),
            "size": str(compression.raw.size),
        }
        return Prepared(content, facts, payer.lane, event.payees)

    def token_key(self, subject: TokenSubject) -> TokenKey | None:
        """One token serves every employer: the software id travels in the message, not in the token."""
        return self._profile.terms.key(self._profile.environment, subject.credential)

    def asks(self, lodgment: Lodgment) -> bool:
        return lodgment.agency_reference is not None

    def seal(self, order: SealOrder) -> Envelope:
        """A push of the payload, or the question for its outcome.

        Raises:
            RefusedError: `seal.incomplete`, `seal.token.assertion`, `seal.xml.character`, `seal.ebms.*`.
        """
        if order.credential is None or order.token is None:
            raise RefusedError("seal.incomplete", "a message needs a credential and a security token")
        try:
            if self.asks(order.lodgment):
                signed = self._signed(self._question(order), order.credential, order.token, order.nonce, ())
                return Envelope(signed.soap, b"")
            return self._push(order, order.credential, order.token)
        except (XmlError, Ebms3Error) as error:
            text = f"{order.lodgment.reference} cannot be sealed: {error}"
            raise RefusedError(f"seal.{error.code}", text) from error

    def gateway(self) -> str | None:
        return self._profile.gate

    def url(self, lodgment: Lodgment) -> str:
        name = lodgment.gateway or self._profile.gate
        gate = self._profile.gates.get(name)
        if gate is None:
            text = f"{NAME}: {lodgment.id} went through gateway {name!r}, which the settings no longer describe: add it"
            raise ConfigurationError("channel.gateway", text)
        return gate.pull_url if self.asks(lodgment) else gate.push_url

    def headers(self, lodgment: Lodgment) -> tuple[tuple[str, str], ...]:
        if self.asks(lodgment):
            return (("Content-Type", ROOT_CONTENT_TYPE),)
        empty = multipart_related(b"", _root_id(lodgment, self._profile), (), _boundary(lodgment))
        return (("Content-Type", empty.content_type),)

    def read_reply(self, reply: Reply, sent: Sent) -> Outcome | Failure:
        asked = Asked(
            reference=sent.lodgment.reference,
            message_id=self._message_id(sent.lodgment),
            references=_references_in(sent.head),
            pulled=sent.lodgment.agency_reference,
            parent=sent.lodgment.facts.get("parent", ""),
        )
        return read_reply(self._profile, reply.status, reply.content_type, reply.body, asked)

    def policy(self, service: str, action: str) -> RetryPolicy:  # noqa: ARG002  - it has one service
        return self._profile.policies.get(action, self._profile.policy)

    def _message_id(self, lodgment: Lodgment) -> str:
        return f"{lodgment.reference}@{self._profile.domain}"

    def _question(self, order: SealOrder) -> PullRequest:
        asked = order.lodgment.agency_reference
        assert asked is not None  # noqa: S101  - what `asks` is about
        return self._profile.messages.pull(f"{order.nonce}@{self._profile.domain}", asked, order.now)

    def _push(self, order: SealOrder, credential: Credential, token: SecurityToken) -> Envelope:
        lodgment, payload = order.lodgment, order.payload_measure()
        content_id = f"payload.{lodgment.reference}@{self._profile.domain}"
        digest = AttachedPart(cid_url(content_id), payload.sha256)
        signed = self._signed(self._message(order, content_id), credential, token, order.nonce, (digest,))
        package = multipart_related(
            signed.soap,
            _root_id(lodgment, self._profile),
            (AttachmentHead(content_id, MEDIA_TYPE, payload.size),),
            _boundary(lodgment),
        )
        head, tail = package.between
        return Envelope(head, tail)

    def _message(self, order: SealOrder, content_id: str) -> UserMessage:
        lodgment, facts, messages = order.lodgment, order.lodgment.facts, self._profile.messages
        entry = self._profile.actions.get(lodgment.action)
        if entry is None:
            text = f"{NAME} in {self._profile.environment} has no action {lodgment.action}"
            raise ConfigurationError("channel.action", text)
        return messages.push(
            Push(
                message_id=self._message_id(lodgment),
                sender=messages.party(PartyKind(facts["party_kind"]), facts["party"]),
                service=entry.service,
                action=entry.action,
                conversation_id=lodgment.reference,
                document=AttachedDocument(content_id, entry.document_name, part_id=lodgment.reference),
                software=self._profile.software,
                software_id=lodgment.software_id,
            ),
            order.now,
        )

    def _signed(
        self,
        unit: UserMessage | PullRequest,
        credential: Credential,
        token: SecurityToken,
        nonce: str,
        attachments: tuple[AttachedPart, ...],
    ) -> SignedEnvelope:
        identity = identity_token(token.assertion, AssertionReference.WSU_ID)
        return signed_envelope(unit, credential, identity, attachments, nonce, self._profile.layout)


def _whole(pieces: Iterable[bytes]) -> bytes:
    """The pieces in one; joining them would hold all of them twice for a moment."""
    content = BytesIO()
    for piece in pieces:
        content.write(piece)
    return content.getvalue()


def _sender(job: LodgmentJob, payer: Payer) -> tuple[PartyKind, str]:
    """Who lodges: the agent if there is one, else the employer. The document must be about the job's employer.

    Raises:
        JobRefusedError: `payload.party`.
    """
    employer = job.employer
    if (payer.abn, payer.wpn) != (employer.abn, employer.wpn):
        field = "abn" if employer.abn is not None else "wpn"
        rule = f"employer.{field}: the document is about another payer; correct the job or pick the right document"
        raise JobRefusedError("payload.party", (rule,))
    if job.agent is not None:
        if job.agent.number is None:
            rule = "agent.number: must be given, an agent lodges under its registered agent number"
            raise JobRefusedError("payload.party", (rule,))
        return PartyKind.TAN, job.agent.number
    if payer.abn is not None:
        return PartyKind.ABN, payer.abn
    return PartyKind.WPN, payer.wpn or ""


def _boundary(lodgment: Lodgment) -> str:
    return f"=_{lodgment.id.hex}"


def _root_id(lodgment: Lodgment, profile: Sbr2Profile) -> str:
    return f"root.{lodgment.reference}@{profile.domain}"


def _references_in(head: bytes) -> tuple[SignedReference, ...]:
    """What our own signature covers, read back from the envelope that was sent; nothing where none is at hand."""
    start, end = head.find(b"<?xml"), head.find(_ENVELOPE_END)
    if start < 0 or end < 0:
        return ()
    try:
        signature = parse(head[start : end + len(_ENVELOPE_END)]).find(f".//{Ns.DS('Signature')}")
        if signature is None:
            return ()
        return tuple(one.value for one in references_of(signature, {Algorithm.SHA256}))
    except (XmlError, As4SignatureError):
        return ()
