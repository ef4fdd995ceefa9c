"""The SBR2 channel: what it sends is verified as a gateway would, what it is answered is read as far as it may be."""

import hashlib
from dataclasses import replace

import pytest

from pipeline.channels.contract import Channel, Reply, SealOrder, Sent
from pipeline.channels.sbr2_stp import Sbr2Stp
from pipeline.lodgment.errors import ConfigurationError, RefusedError
from pipeline.lodgment.failures import Blast, Failure, FailureClass
from pipeline.lodgment.job import Agent, Employer, JobRefusedError
from pipeline.lodgment.lodgment import Lodgment
from pipeline.lodgment.outcome import Outcome, Result
from pipeline.protocol.as4_signature import Covered
from pipeline.protocol.as4_verify import PUSH_POLICY, SignaturePolicy, Verified, verify_message
from pipeline.protocol.ebms3 import PullRequest, UserMessage
from pipeline.protocol.ebms3_payloads import payloads
from pipeline.protocol.ebms3_reader import read_messaging
from pipeline.protocol.gzip_stream import Measure
from pipeline.protocol.mime import read_package
from tests.doubles.asic import make_credential
from tests.doubles.sbr2 import (
    DOMAIN,
    GATES,
    NOW,
    SOFTWARE_ID,
    error,
    events,
    make_channel,
    make_job,
    make_profile,
    prepared,
    receipt,
    response,
    sealed,
    taken,
)
from tests.doubles.stp import ABN, pay_event

DOCUMENT = pay_event(payees=3)
PULL_POLICY = SignaturePolicy(frozenset({Covered.MESSAGING, Covered.ASSERTION, Covered.BODY}))
SOAP = "application/soap+xml; charset=UTF-8"
ORIGINAL = "0199aaaa-0000-7000-8000-000000000001@pipeline.example.test"


def message_id(lodgment: Lodgment) -> str:
    return f"{lodgment.reference}@{DOMAIN}"


def received(lodgment: Lodgment, payload: bytes) -> tuple[UserMessage | PullRequest, Verified]:
    """The message as the gateway has it, once its signature was found to cover everything."""
    envelope = sealed(lodgment, payload)
    body = envelope.head + payload + envelope.tail
    assert envelope.measure(payload) == Measure(len(body), hashlib.sha256(body).digest())
    ((_, content_type),) = make_channel().headers(lodgment)
    package = read_package(content_type, (body,))
    policy = PUSH_POLICY if payload else PULL_POLICY
    verified = verify_message(package.root, package.attachments, policy, lambda named: named)
    (unit,) = read_messaging(verified.messaging)
    assert isinstance(unit, UserMessage | PullRequest)
    return unit, verified


def read(
    body: bytes, lodgment: Lodgment, head: bytes = b"", status: int = 200, content_type: str = SOAP
) -> Outcome | Failure:
    return make_channel().read_reply(Reply(status, content_type, body), Sent(lodgment, head))


def test_answers_the_contract() -> None:
    channel: Channel = make_channel()
    assert (channel.name, channel.gateway(), channel.checks_receipts) == ("sbr2_stp", "second", True)


def test_pushes_the_stored_document_under_one_message_id_whatever_is_sealed_anew() -> None:
    document = prepared(DOCUMENT)
    lodgment = taken(document)
    first, second = (sealed(lodgment, document.content, nonce) for nonce in ("n1", "n2"))
    assert first.head != second.head
    assert first.tail == second.tail
    message, verified = received(lodgment, document.content)
    assert isinstance(message, UserMessage)
    assert message.info.message_id == message_id(lodgment)
    (payload,) = payloads(message, verified.attachments)
    assert payload.content == document.content
    assert b"".join(payload.document(10**6)) == DOCUMENT
    assert {one.name: one.value for one in message.properties}["SoftwareSubscriptionId"] == SOFTWARE_ID


def test_a_document_is_stored_the_same_to_the_byte_however_often_it_is_prepared() -> None:
    assert prepared(DOCUMENT).content == prepared(DOCUMENT).content


def test_asks_for_what_was_acknowledged_where_it_went_in() -> None:
    channel, lodgment = make_channel(), taken(prepared(DOCUMENT), gateway="first")
    assert not channel.asks(lodgment)
    assert channel.url(lodgment) == GATES["first"].push_url
    acknowledged = replace(lodgment, agency_reference=ORIGINAL)
    assert channel.asks(acknowledged)
    assert channel.url(acknowledged) == GATES["first"].pull_url
    question, _ = received(acknowledged, b"")
    assert isinstance(question, PullRequest)
    assert (question.selected, question.mpc) == (ORIGINAL, None)
    assert question.info.message_id != message_id(lodgment)


def test_says_when_the_gateway_of_a_lodgment_is_no_longer_in_the_settings() -> None:
    with pytest.raises(ConfigurationError, match="gateway 'closed'"):
        make_channel().url(taken(prepared(DOCUMENT), gateway="closed"))


def test_keeps_the_lane_the_payees_and_no_personal_data_among_its_notes() -> None:
    document = prepared(DOCUMENT)
    assert document.order_key == f"stp/{ABN}/1/SYN-BMS-0001"
    assert document.payees == {"1.2": "SYN-1", "1.3": "SYN-2", "1.4": "SYN-3"}
    assert document.facts["submission"] == "SYN-SUBMISSION-1"
    assert "111111111" not in str(document.facts)


@pytest.mark.parametrize(
    ("agent", "kind", "role"),
    [
        (None, "http://abr.gov.au/PartyIdType/ABN", "http://sbr.gov.au/ato/Role/Business"),
        (
            Agent(abn="53004085616", number="25123456"),
            "http://ato.gov.au/PartyIdType/TAN",
            "http://sbr.gov.au/ato/Role/Registered Agent",
        ),
    ],
)
def test_lodges_as_the_employer_or_as_its_agent(agent: Agent | None, kind: str, role: str) -> None:
    document = prepared(DOCUMENT, make_job(agent=agent))
    message, _ = received(taken(document), document.content)
    assert isinstance(message, UserMessage)
    assert (message.sender.ids[0].type, message.sender.role) == (kind, role)
    assert message.sender.ids[0].value == (ABN if agent is None else agent.number)


@pytest.mark.parametrize(
    ("document", "code"),
    [
        (pay_event({"Rp/Payroll/InteractionRecordCt": "9"}), "stp.rules"),
        (b"<a/>", "stp.records"),
        (DOCUMENT + pay_event().replace(b'"1.', b'"2.'), "payload.payers"),
        (pay_event({"Rp/AustralianBusinessNumberId": "53004085616"}), "payload.party"),
    ],
)
def test_refuses_a_document_with_its_rule(document: bytes, code: str) -> None:
    with pytest.raises(JobRefusedError) as refusal:
        prepared(document)
    assert refusal.value.code == code


def test_refuses_a_job_about_another_employer_than_its_document_is() -> None:
    with pytest.raises(JobRefusedError, match=r"employer\.wpn"):
        prepared(DOCUMENT, make_job(employer=Employer(wpn="123456782")))


def test_refuses_an_unknown_action() -> None:
    with pytest.raises(JobRefusedError, match="payevnt/Submit"):
        prepared(DOCUMENT, make_job(action="Delete"))


def test_refuses_to_seal_without_a_token() -> None:
    document = prepared(DOCUMENT)
    with pytest.raises(RefusedError) as refusal:
        make_channel().seal(SealOrder(taken(document), document.content, make_credential(), None, NOW, "n1"))
    assert refusal.value.code == "seal.incomplete"


def test_a_receipt_is_acknowledgement_and_no_outcome() -> None:
    document = prepared(DOCUMENT)
    lodgment = taken(document)
    head = sealed(lodgment, document.content).head
    _, verified = received(lodgment, document.content)
    for body in (receipt(message_id(lodgment), verified.references), receipt(message_id(lodgment))):
        said = read(body, lodgment, head)
        assert isinstance(said, Outcome)
        assert (said.result, said.agency_reference) == (Result.DELAYED, message_id(lodgment))


def test_a_receipt_for_other_bytes_leaves_the_outcome_unknown() -> None:
    document = prepared(DOCUMENT)
    lodgment = taken(document)
    head = sealed(lodgment, document.content).head
    _, verified = received(lodgment, document.content)
    forged = [replace(one, digest=b"\0" * 32) for one in verified.references]
    for body in (receipt(message_id(lodgment), forged), receipt(ORIGINAL, verified.references)):
        said = read(body, lodgment, head)
        assert isinstance(said, Failure)
        assert (said.kind, said.code) == (FailureClass.UNKNOWN, "reply.receipt")


def test_a_duplicate_adopts_the_original_message_id() -> None:
    lodgment = taken(prepared(DOCUMENT))
    said = read(error("EBMS:0004", f"CMN.ATO.GEN.DuplicateTransmission: original message {ORIGINAL}"), lodgment)
    assert isinstance(said, Outcome)
    assert (said.result, said.agency_reference) == (Result.DELAYED, ORIGINAL)
    unnamed = read(error("EBMS:0004", "CMN.ATO.GEN.DuplicateTransmission"), lodgment)
    assert isinstance(unnamed, Outcome)
    assert unnamed.agency_reference == message_id(lodgment)


def test_nothing_yet_is_never_a_failure() -> None:
    asked = taken(prepared(DOCUMENT), agency_reference=ORIGINAL)
    for status in (200, 500):
        said = read(error("EBMS:0006", message_id="x@y"), asked, status=status)
        assert isinstance(said, Outcome)
        assert (said.result, said.agency_reference) == (Result.DELAYED, None)


@pytest.mark.parametrize(
    ("code", "detail", "kind", "blast"),
    [
        ("EBMS:0004", "SBR.GEN.AUTH.006 not notified", FailureClass.THEIR_PERMISSION, Blast.EMPLOYER),
        ("EBMS:0004", "CMN.ATO.AUTH.006 not nominated", FailureClass.THEIR_PERMISSION, Blast.AGENT),
        ("EBMS:0004", "SBR.GEN.AUTH.123 something new", FailureClass.THEIR_PERMISSION, Blast.LODGMENT),
        ("EBMS:0004", "SBR.GEN.FAULT.SERVICEACTIONDENIED", FailureClass.OUR_CREDENTIAL, Blast.CHANNEL),
        ("EBMS:0004", None, FailureClass.UNKNOWN, Blast.LODGMENT),
        ("EBMS:0101", None, FailureClass.STALE_TOKEN, Blast.LODGMENT),
        ("EBMS:0202", None, FailureClass.UNAVAILABLE, Blast.CHANNEL),
        ("EBMS:7777", None, FailureClass.OUR_DOCUMENT, Blast.LODGMENT),
    ],
)
def test_an_error_is_classified_by_the_code_that_says_most(
    code: str, detail: str | None, kind: FailureClass, blast: Blast
) -> None:
    said = read(error(code, detail), taken(prepared(DOCUMENT)), status=500)
    assert isinstance(said, Failure)
    assert (said.kind, said.blast) == (kind, blast)


@pytest.mark.parametrize(
    ("items", "result"),
    [
        ([("CMN.ATO.GEN.OK", "Information", None)], Result.ACCEPTED),
        ([("CMN.ATO.PAYEVNTEMP.000180", "Warning", "1.2")], Result.ACCEPTED),
        ([("CMN.ATO.PAYEVNTEMP.000180", "Error", "1.2")], Result.PARTIALLY_ACCEPTED),
        ([("CMN.ATO.PAYEVNTEMP.000180", "Error", "1.2"), ("CMN.ATO.GEN.OK", "Error", "1.1")], Result.REJECTED),
        ([("CMN.ATO.PAYEVNT.EM14160", "Error", None)], Result.REJECTED),
    ],
)
def test_the_outcome_follows_whose_records_the_errors_are_about(
    items: list[tuple[str, str, str | None]], result: Result
) -> None:
    asked = taken(prepared(DOCUMENT), agency_reference=ORIGINAL)
    content_type, body = response(ORIGINAL, events(*items))
    said = read(body, asked, content_type=content_type)
    assert isinstance(said, Outcome)
    assert said.result is result
    first = said.events[0]
    assert (first.code, first.record, first.description) == (items[0][0], items[0][2], "Payee 7 is odd")
    assert first.details == ("number: 7",)


def test_a_permission_that_is_missing_holds_instead_of_rejecting() -> None:
    asked = taken(prepared(DOCUMENT), agency_reference=ORIGINAL)
    content_type, body = response(ORIGINAL, events(("SBR.GEN.AUTH.008", "Error", None)))
    said = read(body, asked, content_type=content_type)
    assert isinstance(said, Failure)
    assert (said.kind, said.code) == (FailureClass.THEIR_PERMISSION, "SBR.GEN.AUTH.008")


def test_a_response_to_another_message_is_not_believed() -> None:
    asked = taken(prepared(DOCUMENT), agency_reference=ORIGINAL)
    content_type, body = response("another@agency.example.test", events(("CMN.ATO.GEN.OK", "Information", None)))
    said = read(body, asked, content_type=content_type)
    assert isinstance(said, Failure)
    assert (said.kind, said.code) == (FailureClass.UNKNOWN, "reply.reference")


def test_a_signed_response_is_believed_only_by_its_signature() -> None:
    agency, stranger = make_credential("Agency"), make_credential("Stranger")
    channel = Sbr2Stp(replace(make_profile(), agency_certificates=(agency.certificate,), signed_responses=True))
    asked = taken(prepared(DOCUMENT), agency_reference=ORIGINAL)
    good = events(("CMN.ATO.GEN.OK", "Information", None))

    def said_by(signer: object) -> Outcome | Failure:
        content_type, body = response(ORIGINAL, good, signer=signer)  # type: ignore[arg-type]
        return channel.read_reply(Reply(200, content_type, body), Sent(asked))

    assert isinstance(said_by(agency), Outcome)
    for signer in (stranger, None):
        refused = said_by(signer)
        assert isinstance(refused, Failure)
        assert refused.kind is FailureClass.UNKNOWN


def test_a_reply_cut_short_at_any_byte_is_never_an_outcome() -> None:
    asked = taken(prepared(DOCUMENT), agency_reference=ORIGINAL)
    content_type, body = response(ORIGINAL, events(("CMN.ATO.GEN.OK", "Information", None)))
    whole = len(body) - len(b"\r\n")
    for end in range(0, whole, 7):
        said = read(body[:end], asked, content_type=content_type)
        assert isinstance(said, Failure), end
        assert said.kind is FailureClass.UNKNOWN


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (503, FailureClass.UNAVAILABLE),
        (502, FailureClass.UNKNOWN),
        (500, FailureClass.UNKNOWN),
        (413, FailureClass.OUR_DOCUMENT),
        (404, FailureClass.UNAVAILABLE),
        (405, FailureClass.UNAVAILABLE),
        (410, FailureClass.OUR_DOCUMENT),
        (403, FailureClass.UNAVAILABLE),
        (200, FailureClass.UNKNOWN),
    ],
)
def test_an_answer_that_is_no_message_is_judged_by_its_status(status: int, kind: FailureClass) -> None:
    said = read(b"<html>sorry</html>", taken(prepared(DOCUMENT)), status=status, content_type="text/html")
    assert isinstance(said, Failure)
    assert said.kind is kind
