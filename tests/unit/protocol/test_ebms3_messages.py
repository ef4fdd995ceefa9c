"""ebMS 3.0 messages as they are written: canonical from the start, and read back the same."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given, settings
from lxml import etree

from pipeline.protocol.as4_signature import plain_envelope
from pipeline.protocol.ebms3 import (
    Agreement,
    Collaboration,
    Ebms3Error,
    ErrorSignal,
    MessageInfo,
    PartInfo,
    Party,
    Property,
    PullRequest,
    Receipt,
    Unit,
)
from pipeline.protocol.ebms3_messages import messaging
from pipeline.protocol.ebms3_reader import read_envelope, read_messaging
from pipeline.protocol.namespaces import Ns
from pipeline.protocol.xml import XmlError, canonical, parse
from tests.doubles.as4 import MESSAGE_ID, NOW, push
from tests.doubles.ebms3_units import UNITS, XML_TEXT


@settings(deadline=None)
@given(UNITS, XML_TEXT)
def test_any_message_is_its_own_canonical_form_and_is_read_back_the_same(unit: Unit, element_id: str) -> None:
    header, part = messaging(unit, element_id)
    root = parse(header)
    assert canonical(root) == header
    assert (root.get(Ns.WSU("Id")), root.get(Ns.SOAP("mustUnderstand"))) == (part.id, "true")
    assert read_messaging(header) == (unit,)
    assert read_envelope(plain_envelope(unit, element_id)).units == (unit,)


def names(node: etree._Element) -> list[str]:
    return [etree.QName(one).localname for one in node.iter("*")]


def test_elements_stand_in_the_order_of_the_schema() -> None:
    message = replace(
        push(),
        info=MessageInfo(MESSAGE_ID, NOW, "before@example.test"),
        collaboration=Collaboration("urn:s", "a", "c", "urn:t", Agreement("urn:agreement", "urn:t", "pmode-1")),
    )
    header, _ = messaging(message, "m")
    written = names(parse(header))
    assert [name for name in written if name != "Property"] == [
        *("Messaging", "UserMessage", "MessageInfo", "Timestamp", "MessageId", "RefToMessageId"),
        *("PartyInfo", "From", "PartyId", "Role", "To", "PartyId", "Role"),
        *("CollaborationInfo", "AgreementRef", "Service", "Action", "ConversationId"),
        *("MessageProperties", "PayloadInfo", "PartInfo", "PartProperties"),
    ]


def test_a_pull_names_the_message_whose_answer_is_wanted_and_no_partition() -> None:
    header, _ = messaging(PullRequest(MessageInfo("pull@example.test", NOW), MESSAGE_ID), "m")
    assert f"<eb:PullRequest><eb:RefToMessageId>{MESSAGE_ID}</eb:RefToMessageId></eb:PullRequest>".encode() in header
    assert b"mpc" not in header


def test_nothing_that_is_left_out_leaves_an_empty_element() -> None:
    bare = replace(push(), properties=(), parts=())
    written = names(parse(messaging(bare, "m")[0]))
    assert not {"MessageProperties", "PayloadInfo", "AgreementRef", "RefToMessageId"} & set(written)
    assert "NonRepudiationInformation" not in names(parse(messaging(Receipt(bare.info), "m")[0]))


def test_times_are_written_in_utc() -> None:
    sydney = datetime.fromisoformat("2026-11-23T14:30:00+11:00")
    header, _ = messaging(PullRequest(MessageInfo("p@example.test", sydney)), "m")
    assert b"<eb:Timestamp>2026-11-23T03:30:00.000Z</eb:Timestamp>" in header
    assert sydney.utcoffset() == timedelta(hours=11)


def test_a_value_cannot_end_the_element_that_it_stands_in() -> None:
    hostile = '"></eb:Property><eb:Property name="x">&<![CDATA['
    message = replace(push(), properties=(Property(hostile, hostile, hostile),))
    assert read_messaging(messaging(message, hostile)[0]) == (message,)


@pytest.mark.parametrize(
    ("unit", "code"),
    [
        (replace(push(), properties=(Property("a", "1"), Property("a", "2"))), "ebms.property"),
        (replace(push(), parts=(PartInfo("cid:a", (Property("a", "1"), Property("a", "1"))),)), "ebms.property"),
        (replace(push(), sender=Party((), "urn:role")), "ebms.party"),
        (ErrorSignal(MessageInfo("e@example.test", NOW), ()), "ebms.error"),
    ],
)
def test_refuses_to_write_what_no_reader_could_take(unit: Unit, code: str) -> None:
    with pytest.raises(Ebms3Error) as caught:
        messaging(unit, "m")
    assert caught.value.code == code


def test_refuses_a_character_that_xml_does_not_have() -> None:
    with pytest.raises(XmlError, match=r"U\+0000"):
        messaging(replace(push(), properties=(Property("a", "\0"),)), "m")
