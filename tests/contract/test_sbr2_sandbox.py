"""The sandbox's SBR2 gateways: what they believe, what they refuse and by which code, and what they give again."""

import asyncio
import shutil
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.x509 import load_pem_x509_certificate
from lxml import etree

from pipeline.protocol.as4_receipts import disagreements
from pipeline.protocol.as4_signature import Covered, SecurityLayout
from pipeline.protocol.as4_verify import RESPONSE_POLICY, verify_message
from pipeline.protocol.credential import Credential
from pipeline.protocol.ebms3 import Party, PartyId, Property, Receipt, UserMessage
from pipeline.protocol.ebms3_payloads import payloads
from pipeline.protocol.gzip_stream import inflate
from pipeline.protocol.keystore import select
from pipeline.protocol.mime import read_package
from pipeline.protocol.sbr_ebms3 import PartyKind
from pipeline.protocol.sbr_events import read_events
from pipeline.sandbox.book import Line, read_book
from pipeline.sandbox.home import APPLIES_TO, Home, Standing, open_home
from pipeline.sandbox.sbr2 import Door
from pipeline.sandbox.sbr2_message import SERVICE
from pipeline.sandbox.sts import TokenService
from tests.doubles.pay_jobs import pay_run
from tests.doubles.sbr2_client import (
    CONTENT_ID,
    PROFILE,
    SOFTWARE,
    Sbr2Client,
    Wire,
    fresh_id,
    gzipped,
    now,
    pull,
    push,
    token_of,
)

DOCUMENT = pay_run("one")
GZIPPED = (CONTENT_ID, gzipped(DOCUMENT))


def other_credential(home: Home, credentials: tuple[Credential, ...]) -> Credential:
    good = [one for one in home.credentials if one.standing is Standing.GOOD]
    return select(credentials, good[1].id)


def lines(tmp_path: Path) -> list[Line]:
    return read_book(tmp_path / "book.sqlite")


async def test_acknowledges_what_was_signed_and_answers_a_pull_with_the_same_signed_response_each_time(
    client: Sbr2Client, home: Home, tmp_path: Path
) -> None:
    message = push()
    wire = client.sealed(message, [GZIPPED])
    said = await client.post(wire, Door.PUSH)
    assert isinstance(said.unit, Receipt)
    assert disagreements(said.unit, message.info.message_id, wire.references) == ()

    first, second = [await client.pull(message.info.message_id) for _ in range(2)]
    assert first.answer.reply == second.answer.reply
    certificate = load_pem_x509_certificate(home.sbr2_certificate_file.read_bytes())
    package = read_package(first.answer.reply.content_type, (first.answer.reply.body,))
    verified = verify_message(package.root, package.attachments, RESPONSE_POLICY, lambda _: certificate)
    assert isinstance(first.unit, UserMessage)
    assert first.unit.info.ref_to_message_id == message.info.message_id
    (payload,) = payloads(first.unit, verified.attachments)
    (event,) = read_events(b"".join(payload.document(10**6)))
    assert [item.code for item in event.items] == ["CMN.ATO.GEN.OK"]

    (line,) = lines(tmp_path)
    assert (line.seen, line.processed, line.pulls, line.gateway) == (1, 1, 2, "first")
    assert line.reference == message.info.message_id


async def test_a_token_for_the_real_test_system_is_good_at_the_gateway_that_stands_in_for_it(
    client: Sbr2Client, home: Home
) -> None:
    token = token_of(TokenService(home), client.credential, "https://test.sbr.gov.au/services")
    assert isinstance((await replace(client, token=token).push(DOCUMENT)).unit, Receipt)


@pytest.mark.parametrize("media_type", ["text/xml", "text/plain"])
async def test_the_document_is_taken_as_text_and_as_xml(client: Sbr2Client, media_type: str) -> None:
    message = push()
    (part,) = message.parts
    properties = tuple(replace(one, value=media_type) if one.name == "MimeType" else one for one in part.properties)
    said = await client.push(DOCUMENT, replace(message, parts=(replace(part, properties=properties),)))
    assert isinstance(said.unit, Receipt)


Change = Callable[[UserMessage], UserMessage]


def without(name: str) -> Change:
    return lambda message: replace(message, properties=tuple(p for p in message.properties if p.name != name))


def with_part(name: str, value: str | None) -> Change:
    """The attachment's property changed, or taken away."""

    def change(message: UserMessage) -> UserMessage:
        (part,) = message.parts
        kept = tuple(one for one in part.properties if one.name != name)
        return replace(message, parts=(replace(part, properties=kept + ((Property(name, value),) if value else ())),))

    return change


def by(party: Party) -> Change:
    return lambda message: replace(message, sender=party)


def asking(service: str, action: str) -> Change:
    return lambda message: replace(
        message, collaboration=replace(message.collaboration, service=service, action=action)
    )


def with_property(name: str, value: str) -> Change:
    def change(message: UserMessage) -> UserMessage:
        kept = without(name)(message)
        return replace(kept, properties=(*kept.properties, Property(name, value)))

    return change


ABN_TYPE = "http://abr.gov.au/PartyIdType/ABN"
BUSINESS = "http://sbr.gov.au/ato/Role/Business"
REFUSED: dict[str, tuple[Change, str, str | None]] = {
    "no product": (without("ProductID"), "EBMS:0004", "CMN.ATO.EBMS.001"),
    "no vendor": (without("BMS Vendor"), "EBMS:0004", "CMN.ATO.EBMS.001"),
    "no name": (without("BMS Name"), "EBMS:0004", "CMN.ATO.EBMS.001"),
    "no version": (without("BMS Version"), "EBMS:0004", "CMN.ATO.EBMS.001"),
    "another version": (
        with_property("BMS Version", "2.0"),
        "EBMS:0004",
        "SBR.GEN.FAULT.SERVICEACTIONDENIED",
    ),
    "no software id": (without("SoftwareSubscriptionId"), "EBMS:0004", "SBR.GEN.AUTH.008"),
    "no such software id": (with_property("SoftwareSubscriptionId", "0004785937"), "EBMS:0004", "SBR.GEN.AUTH.008"),
    "no document type": (with_part("DocumentType", None), "EBMS:0004", "CMN.ATO.EBMS.001"),
    "another document name": (with_part("DocumentName", "OTHER"), "EBMS:0004", "CMN.ATO.EBMS.001"),
    "no compression": (with_part("CompressionType", None), "EBMS:0004", "CMN.ATO.EBMS.001"),
    "no part id": (with_part("PartID", None), "EBMS:0004", "CMN.ATO.EBMS.001"),
    "another agency": (
        lambda message: replace(message, receiver=Party((PartyId("53004085616", ABN_TYPE),), message.receiver.role)),
        "EBMS:0001",
        None,
    ),
    "another role": (by(Party((PartyId("51824753556", ABN_TYPE),), "http://sbr.gov.au/agency")), "EBMS:0001", None),
    "no party type": (by(Party((PartyId("51824753556"),), BUSINESS)), "EBMS:0001", None),
    "two senders": (by(Party((PartyId("51824753556", ABN_TYPE),) * 2, BUSINESS)), "EBMS:0001", None),
    "another sender than the document's": (by(PROFILE.party(PartyKind.ABN, "53004085616")), "EBMS:0003", None),
    "another service": (asking("http://sbr.gov.au/ato/payevnt/2017", "Submit.004.00"), "EBMS:0001", None),
    "another action": (asking(SERVICE, "Submit.002.00"), "EBMS:0001", None),
    "a timestamp ahead": (
        lambda message: replace(message, info=replace(message.info, timestamp=now() + timedelta(hours=10))),
        "EBMS:0003",
        None,
    ),
}


@pytest.mark.parametrize("what", REFUSED)
async def test_refuses_a_header_by_its_code_and_processes_nothing(
    client: Sbr2Client, tmp_path: Path, what: str
) -> None:
    change, code, nested = REFUSED[what]
    said = await client.push(DOCUMENT, change(push()))
    assert said.code == code, said.detail
    assert said.nested == ((nested,) if nested else ())
    assert said.answer.reply.status == 500
    assert lines(tmp_path) == []


async def test_who_lodges_for_itself_needs_no_software_id(client: Sbr2Client) -> None:
    own = client.credential.abn
    message = without("SoftwareSubscriptionId")(by(PROFILE.party(PartyKind.ABN, own))(push()))
    assert (await client.push(pay_run("own", abn=own), message)).code is None


async def test_takes_exactly_one_attachment(client: Sbr2Client) -> None:
    message = push()
    (part,) = message.parts
    second = replace(part, href="cid:second@client.example.test")
    two = client.sealed(replace(message, parts=(part, second)), [GZIPPED, ("second@client.example.test", b"x")])
    none = client.sealed(replace(message, parts=()), [])
    for wire in (two, none):
        said = await client.post(wire, Door.PUSH)
        assert (said.code, said.nested) == ("EBMS:0004", ("CMN.ATO.GEN.UNEXPECTEDNUMPAYLOADS",))
    elsewhere = client.sealed(message, [("other@client.example.test", GZIPPED[1])])
    assert (await client.post(elsewhere, Door.PUSH)).code == "EBMS:0007"


async def test_refuses_what_does_not_inflate_and_what_cannot_be_taken_apart(client: Sbr2Client, tmp_path: Path) -> None:
    for broken in (GZIPPED[1][:-9], GZIPPED[1][:-4] + bytes(4), DOCUMENT):
        said = await client.post(client.sealed(push(), [(CONTENT_ID, broken)]), Door.PUSH)
        assert said.code == "EBMS:0303"
    content_type, body = client.sealed(push(), [GZIPPED]).packed()
    assert (await client.post_bytes(content_type, body[: len(body) // 2], Door.PUSH)).code == "EBMS:0007"
    assert (await client.post_bytes("multipart/related", body, Door.PUSH)).code == "EBMS:0007"
    assert (await client.post_bytes("text/xml", b"<a", Door.PUSH)).code == "EBMS:0009"
    assert lines(tmp_path) == []


def moved(tag: str) -> Callable[[Wire], Wire]:
    """The element `tag` moved into a wrapper beside, and another put in its place: signature wrapping."""

    def change(wire: Wire) -> Wire:
        root = etree.fromstring(wire.soap)
        (element,) = [one for one in root.iter("*") if etree.QName(one).localname == tag]
        parent = element.getparent()
        assert parent is not None
        copy = etree.fromstring(etree.tostring(element))
        for attribute in list(copy.attrib):
            if str(attribute).endswith("Id"):
                del copy.attrib[attribute]
        parent.replace(element, copy)
        etree.SubElement(root[0], "{urn:wrapper}wrapper").append(element)
        return replace(wire, soap=etree.tostring(root))

    return change


def attached(content: bytes) -> Callable[[Wire], Wire]:
    return lambda wire: replace(wire, attachments=(replace(wire.attachments[0], content=content),))


TAMPERED: dict[str, tuple[Callable[[Wire], Wire], str]] = {
    "another document": (attached(gzipped(pay_run("other"))), "EBMS:0101"),
    "another action": (lambda wire: wire.changed(b"Submit.004.00", b"Update.004.00"), "EBMS:0101"),
    "another software id": (lambda wire: wire.changed(b"0004785936", b"0000123406"), "EBMS:0101"),
    "something in the body": (lambda wire: wire.changed(b"></soap:Body>", b">x</soap:Body>"), "EBMS:0101"),
    "another assertion": (lambda wire: wire.changed(b"aes256-cbc", b"aes128-cbc"), "EBMS:0101"),
    "a weaker signature": (lambda wire: wire.changed(b"rsa-sha256", b"rsa-sha1"), "EBMS:0103"),
    "messaging moved": (moved("Messaging"), "EBMS:0103"),
    "body moved": (moved("Body"), "EBMS:0103"),
    "assertion moved": (moved("EncryptedAssertion"), "EBMS:0103"),
    "certificate moved": (moved("BinarySecurityToken"), "EBMS:0103"),
}


@pytest.mark.parametrize("what", TAMPERED)
async def test_believes_nothing_of_a_message_that_was_changed_on_its_way(
    client: Sbr2Client, tmp_path: Path, what: str
) -> None:
    change, code = TAMPERED[what]
    said = await client.post(change(client.sealed(push(), [GZIPPED])), Door.PUSH)
    assert said.code == code, said.detail
    assert lines(tmp_path) == []


@pytest.mark.parametrize("left_out", [Covered.ASSERTION, Covered.BODY, Covered.ATTACHMENTS, Covered.MESSAGING])
async def test_refuses_a_signature_that_leaves_something_out(client: Sbr2Client, left_out: Covered) -> None:
    covered = tuple(one for one in SecurityLayout().covered if one is not left_out)
    said = await client.post(client.sealed(push(), [GZIPPED], SecurityLayout(covered)), Door.PUSH)
    assert (said.code, left_out.value in said.detail) == ("EBMS:0103", True)


@pytest.mark.parametrize("standing", [Standing.REVOKED, Standing.UNKNOWN, Standing.EXPIRED])
async def test_refuses_who_is_not_in_good_standing(
    client: Sbr2Client, home: Home, credentials: tuple[Credential, ...], standing: Standing
) -> None:
    bad = replace(client, credential=select(credentials, home.credential(standing).id))
    assert (await bad.push(DOCUMENT)).code == "EBMS:0101"


async def test_refuses_a_token_of_another_of_another_door_and_of_yesterday(
    client: Sbr2Client, home: Home, credentials: tuple[Credential, ...]
) -> None:
    another = replace(client, credential=other_credential(home, credentials))
    assert "another certificate" in (await another.push(DOCUMENT)).detail
    for_asic = replace(client, token=token_of(TokenService(home), client.credential, APPLIES_TO))
    assert (await for_asic.push(DOCUMENT)).code == "EBMS:0102"
    late = replace(client, clock=lambda: now() + timedelta(minutes=31))
    said = await late.push(DOCUMENT)
    assert (said.code, "expired" in said.detail) == ("EBMS:0101", True)


async def test_a_message_that_comes_again_is_acknowledged_again_and_not_processed_again(
    client: Sbr2Client, tmp_path: Path
) -> None:
    message = push()
    for _ in range(3):
        wire = client.sealed(message, [GZIPPED])
        said = await client.post(wire, Door.PUSH)
        assert isinstance(said.unit, Receipt)
        assert disagreements(said.unit, message.info.message_id, wire.references) == ()
    (line,) = lines(tmp_path)
    assert (line.seen, line.processed, line.violations) == (3, 1, None)


async def test_of_many_pushes_of_one_document_at_once_one_is_processed(client: Sbr2Client, tmp_path: Path) -> None:
    said = await asyncio.gather(*(client.push(DOCUMENT) for _ in range(20)))
    codes = [one.code for one in said]
    assert sorted(codes, key=str) == ["EBMS:0004"] * 19 + [None]
    assert sum(line.processed for line in lines(tmp_path)) == 1


async def test_a_document_that_was_taken_is_a_duplicate_under_any_other_id_at_either_gateway(
    client: Sbr2Client, tmp_path: Path
) -> None:
    original = push()
    await client.push(DOCUMENT, original)
    for gateway in ("first", "second"):
        said = await client.push(DOCUMENT, gateway=gateway)
        assert (said.code, said.nested) == ("EBMS:0004", ("CMN.ATO.GEN.DuplicateTransmission",))
        assert original.info.message_id in said.detail
    assert sorted(line.processed for line in lines(tmp_path)) == [0, 0, 1]


async def test_a_message_id_stands_for_one_document(client: Sbr2Client, tmp_path: Path) -> None:
    message = push()
    await client.push(DOCUMENT, message)
    assert (await client.push(pay_run("another"), message)).code == "EBMS:0003"
    (line,) = lines(tmp_path)
    assert (line.processed, line.violations) == (1, "the same MessageId came with another document")


async def test_a_pull_gets_nothing_from_elsewhere_or_of_another_sender(
    client: Sbr2Client, home: Home, credentials: tuple[Credential, ...], tmp_path: Path
) -> None:
    message = push()
    await client.push(DOCUMENT, message)
    asked = message.info.message_id
    stranger = other_credential(home, credentials)
    foreign = replace(client, credential=stranger, token=token_of(TokenService(home), stranger))
    for said in (await client.pull(asked, "second"), await foreign.pull(asked), await client.pull(fresh_id())):
        assert (said.code, said.detail) == ("EBMS:0001", "no message with this RefToMessageId was pushed here")
    (line,) = lines(tmp_path)
    assert line.violations == "pushed at the gateway first, pulled at second"
    assert isinstance((await client.pull(asked)).unit, UserMessage)


async def test_there_is_nothing_to_pull_before_the_outcome_is_due(client: Sbr2Client) -> None:
    message = push()
    await client.push(pay_run("slowly", "delayed;seconds=60"), message)
    said = await client.pull(message.info.message_id)
    assert (said.code, said.answer.reply.status) == ("EBMS:0006", 200)
    later = replace(client, clock=lambda: now() + timedelta(seconds=61))
    assert isinstance((await later.pull(message.info.message_id)).unit, UserMessage)


async def test_a_ping_is_acknowledged_and_goes_no_further(client: Sbr2Client, tmp_path: Path) -> None:
    sender = PROFILE.party(PartyKind.ABN, client.credential.abn)
    ping = PROFILE.ping(fresh_id(), "conversation", sender, SOFTWARE, now())
    for door in (Door.SYNC, Door.PUSH):
        assert isinstance((await client.post(client.sealed(ping), door)).unit, Receipt)
    assert (await client.post(client.sealed(ping), Door.PULL)).code == "EBMS:0001"
    assert (await client.post(client.sealed(push(), [GZIPPED]), Door.SYNC)).code == "EBMS:0001"
    assert (await client.post(client.sealed(pull(fresh_id())), Door.PUSH)).code == "EBMS:0001"
    assert lines(tmp_path) == []


@pytest.mark.parametrize(
    ("document", "code", "record"),
    [
        (b"<a/>", "CMN.ATO.GEN.XML03", None),
        (pay_run("cut")[:-20], "CMN.ATO.GEN.XML03", "1.4"),
        (pay_run("foreign").replace(b"ato/payevntemp", b"ato/other"), "CMN.ATO.GEN.XML03", "1.2"),
        (pay_run("count", changes={"Rp/Payroll/InteractionRecordCt": "9"}), "CMN.ATO.PAYEVNT.000191", "1.1"),
        (pay_run("both", changes={"Rp/WithholdingPayerNumberId": "123456782"}), "CMN.ATO.PAYEVNT.000177", "1.1"),
        (pay_run("script", "no-such-thing"), "CMN.ATO.GEN.XML03", "1.1"),
        (pay_run("option", "accept;often=2"), "CMN.ATO.GEN.XML03", "1.1"),
    ],
)
async def test_what_is_wrong_in_a_document_is_told_in_the_response(
    client: Sbr2Client, document: bytes, code: str, record: str | None
) -> None:
    message = push()
    if code == "CMN.ATO.PAYEVNT.000177":
        # Two numbers are of two businesses: only an agent can send that.
        message = by(PROFILE.party(PartyKind.TAN, "25123456"))(message)
    assert (await client.push(document, message)).code is None
    said = await client.pull(message.info.message_id)
    package = read_package(said.answer.reply.content_type, (said.answer.reply.body,))
    (event,) = read_events(b"".join(inflate((package.attachments[0].content,), 10**6)))
    first = event.items[0]
    assert first.code == code
    assert [location.instance for location in first.locations] == ([record] if record else [])


async def test_a_home_from_before_sbr2_gets_its_keys_and_an_old_book_its_page(home: Home, tmp_path: Path) -> None:
    shutil.copytree(home.path, tmp_path / "home")
    shutil.rmtree(tmp_path / "home" / "sbr2")
    again = open_home(tmp_path / "home", datetime.now(UTC))
    assert again.credentials == home.credentials
    assert again.sbr2_agency.certificate == load_pem_x509_certificate(again.sbr2_certificate_file.read_bytes())
    assert open_home(tmp_path / "home", datetime.now(UTC)).sbr2_agency.certificate == again.sbr2_agency.certificate
    sqlite3.connect(tmp_path / "book.sqlite").close()
    assert read_book(tmp_path / "book.sqlite") == []
