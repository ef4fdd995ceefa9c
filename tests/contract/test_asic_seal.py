"""Sealed envelopes, judged by other implementations: xmlsec for both signatures, signxml for the document signature."""

import base64
import hashlib
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import pytest
from hypothesis import assume, given, settings
from lxml import etree

from pipeline.channels.asic_bn import AsicBusinessNames
from pipeline.channels.asic_profile import SERVICE, Software
from pipeline.lodgment.errors import RefusedError
from pipeline.protocol.gzip_stream import Measure
from pipeline.protocol.namespaces import Ns
from pipeline.protocol.verify import Expectation, verify_envelope
from pipeline.protocol.wsse import AssertionReference
from pipeline.protocol.xml import canonical, parse
from tests.doubles.asic import (
    NAMESPACE,
    NOW,
    PAYLOAD,
    make_assertion,
    make_basic_channel,
    make_channel,
    make_credential,
    make_lodgment,
    make_order,
    make_profile,
    make_token,
    on_the_wire,
)
from tests.doubles.documents import prepared_by
from tests.doubles.odd_xml import odd_payloads
from tests.oracles.python_verifiers import by_signxml

HEADER = f"{Ns.SOAP('Body')}/{{{NAMESPACE}}}request/{Ns.ASIC_HEADER('businessDocumentHeader')}"


def expectation(reference: AssertionReference = AssertionReference.WSU_ID) -> Expectation:
    return Expectation(make_credential().certificate_der, make_token().proof_key, reference)


def sealed(channel: AsicBusinessNames, payload: bytes = PAYLOAD, nonce: str = "n1") -> bytes:
    prepared = prepared_by(channel, SERVICE, "bnLodgeApplication", payload).content
    return on_the_wire(channel.seal(make_order(prepared, nonce)), prepared)


def signxml_accepts(envelope: bytes) -> list[bytes]:
    """What the document signature covers, as signxml returns it: the octets that it digested."""
    return by_signxml(envelope, make_credential().certificate, NOW)


def test_both_signatures_of_an_envelope_verify() -> None:
    envelope = sealed(make_channel())
    body = verify_envelope(envelope, expectation())
    assert signxml_accepts(envelope)[0] == canonical(body)


@pytest.mark.parametrize("reference", list(AssertionReference))
@pytest.mark.parametrize("default_namespace", [False, True])
def test_verifies_for_every_style_of_assertion_and_reference(
    reference: AssertionReference, default_namespace: bool
) -> None:
    token = make_token(make_assertion(default_namespace=default_namespace))
    envelope = on_the_wire(make_channel(reference).seal(make_order(token=token)), PAYLOAD)
    verify_envelope(envelope, expectation(reference))
    assert signxml_accepts(envelope)


@given(odd_payloads(NAMESPACE))
@settings(max_examples=150, deadline=None)
def test_verifies_for_every_payload_that_is_taken(document: bytes) -> None:
    envelope = sealed(make_channel(), document)
    body = verify_envelope(envelope, expectation())
    payload = body[0][1]
    assert canonical(payload) == canonical(parse(document))


@given(odd_payloads(NAMESPACE))
@settings(max_examples=50, deadline=None)
def test_signxml_digests_the_octets_that_were_digested_here(document: bytes) -> None:
    # signxml writes the message anew in ASCII, which cannot hold such names
    assume(all(f"{node.nsmap}{node.tag}".isascii() for node in parse(document).iter("*")))
    envelope = sealed(make_channel(), document)
    body = parse(envelope).find(Ns.SOAP("Body"))
    assert body is not None
    assert signxml_accepts(envelope)[0] == canonical(body)


def test_the_envelope_is_described_to_the_byte() -> None:
    envelope = make_channel().seal(make_order())
    wire = on_the_wire(envelope, PAYLOAD)
    assert envelope.measure(PAYLOAD) == Measure(len(wire), hashlib.sha256(wire).digest())


def test_the_security_header_holds_the_four_parts_of_the_guide() -> None:
    security = parse(sealed(make_channel())).find(f"{Ns.SOAP('Header')}/{Ns.WSSE('Security')}")
    assert security is not None
    assert security.get(Ns.SOAP("mustUnderstand")) == "true"
    assert [child.tag for child in security] == [
        Ns.SAML2("EncryptedAssertion"),
        Ns.WSSE("BinarySecurityToken"),
        Ns.DS("Signature"),
        Ns.DS("Signature"),
    ]
    covered = [[one.get("URI") for one in child.iter(Ns.DS("Reference"))] for child in list(security)[2:]]
    assertion_id, certificate_id = (security[place].get(Ns.WSU("Id")) for place in (0, 1))
    assert covered == [["#body-n1", f"#{certificate_id}"], ["#signature-n1", "#body-n1", f"#{assertion_id}"]]
    assert security[1].text == base64.b64encode(make_credential().certificate_der).decode()
    assert security[3].find(Ns.DS("KeyInfo")) is None


@pytest.mark.parametrize("default_namespace", [False, True])
def test_the_assertion_is_copied_with_only_an_id_added(default_namespace: bool) -> None:
    given_assertion = make_assertion(default_namespace=default_namespace)
    envelope = on_the_wire(make_channel().seal(make_order(token=make_token(given_assertion))), PAYLOAD)
    copied = parse(envelope).find(f".//{Ns.SAML2('EncryptedAssertion')}")
    assert copied is not None
    del copied.attrib[Ns.WSU("Id")]
    assert canonical(copied) == canonical(parse(given_assertion))


def test_the_assertion_is_copied_to_the_byte_when_the_encrypted_data_is_referred_to() -> None:
    envelope = sealed(make_channel(AssertionReference.ENCRYPTED_DATA_ID))
    assert make_assertion() in envelope
    assert b'URI="#ED-1"' in envelope


def test_the_business_header_follows_the_schema() -> None:
    header = parse(sealed(make_channel())).find(HEADER)
    assert header is not None
    written = [(etree.QName(node).localname, node.text) for node in header.iter() if not len(node)]
    assert written == [
        ("messageType", "bnLodgeApplication"),
        ("messageReferenceNumber", make_lodgment().reference),
        ("messageVersion", "1"),
        ("senderId", "900001"),
        ("senderType", "REGA"),
        ("organisationalName", "Synthetic Payroll Pty Ltd"),
        ("productName", 'Pay & "Go" <fast>'),
        ("productVersion", "1.0"),
        ("timestamp", "2026-11-23T13:30:00"),
        ("source", "sender"),
    ]


def test_leaves_out_software_information_that_is_not_set() -> None:
    channel = AsicBusinessNames(replace(make_profile(), software=None))
    assert b"softwareInformation" not in sealed(channel)


def test_sealing_again_says_the_same_with_new_ids_and_a_new_token() -> None:
    channel = make_channel()
    first = make_order(nonce="a")
    second = replace(first, nonce="b", now=first.now + timedelta(hours=5), token=make_token(proof_key=b"k" * 64))
    bodies = [parse(on_the_wire(channel.seal(order), PAYLOAD)).find(Ns.SOAP("Body")) for order in (first, second)]
    requests = [canonical(body[0]) for body in bodies if body is not None]
    assert len(requests) == 2
    assert requests[0] == requests[1]


def test_ids_are_unique_in_a_message_and_across_messages() -> None:
    channel = make_channel()
    seen: set[str | None] = set()
    for number in range(200):
        root = parse(sealed(channel, nonce=f"{number:032x}"))
        ids = [node.get("Id", node.get(Ns.WSU("Id"))) for node in root.iter("*")]
        with_one = [value for value in ids if value is not None]
        assert len(with_one) == len(set(with_one))
        fresh = [value for value in with_one if not value.startswith(("ED-", "assertion-", "X509-"))]
        assert len(fresh) == 2
        assert not seen & set(fresh)
        seen |= set(fresh)


def test_ids_of_the_payload_may_repeat_without_harm() -> None:
    payload = f'<businessDocumentBody xmlns="{NAMESPACE}"><a id="1"/><b id="1"/></businessDocumentBody>'.encode()
    verify_envelope(sealed(make_channel(), payload), expectation())


def test_http_basic_sends_the_same_body_without_a_security_header() -> None:
    root = parse(sealed(make_basic_channel()))
    assert root.find(Ns.SOAP("Header")) is None
    signed = parse(sealed(make_channel())).find(Ns.SOAP("Body"))
    plain = root.find(Ns.SOAP("Body"))
    assert signed is not None
    assert plain is not None
    assert canonical(plain) == canonical(signed)


def test_a_payload_of_49_megabytes_is_sealed_without_copying_it() -> None:
    text = "x" * 49_000_000
    payload = f'<businessDocumentBody xmlns="{NAMESPACE}"><a>{text}</a></businessDocumentBody>'.encode()
    prepared = prepared_by(make_channel(), SERVICE, "bnLodgeApplication", payload).content
    envelope = make_channel().seal(make_order(prepared))
    assert len(envelope.head) + len(envelope.tail) < 20_000
    verify_envelope(on_the_wire(envelope, prepared), expectation())


def test_refuses_to_seal_without_a_token() -> None:
    with pytest.raises(RefusedError, match="needs a credential and a security token") as caught:
        make_channel().seal(replace(make_order(), token=None))
    assert caught.value.code == "seal.incomplete"


def test_refuses_an_assertion_that_cannot_be_placed() -> None:
    with pytest.raises(RefusedError) as caught:
        make_channel().seal(make_order(token=make_token(b'<?xml version="1.0"?><a/>')))
    assert caught.value.code == "seal.token.assertion"


def test_refuses_header_values_that_xml_cannot_hold() -> None:
    order = make_order()
    bad = replace(order, lodgment=replace(order.lodgment, sender_id="9\x01"))
    with pytest.raises(RefusedError) as caught:
        make_channel().seal(bad)
    assert caught.value.code == "seal.xml.character"


def test_refuses_an_envelope_larger_than_the_limit() -> None:
    channel = AsicBusinessNames(replace(make_profile(), request_limit=1000))
    with pytest.raises(RefusedError) as caught:
        channel.seal(make_order())
    assert caught.value.code == "seal.size"


def test_markup_in_header_values_stays_text() -> None:
    software = Software("</hdr:organisationalName><x>", "&amp;", "\r\n")
    channel = AsicBusinessNames(replace(make_profile(), software=software))
    envelope = on_the_wire(channel.seal(make_order()), PAYLOAD)
    body = verify_envelope(envelope, expectation())
    assert body.findtext(f".//{Ns.ASIC_HEADER('organisationalName')}") == software.organisation
    assert body.findtext(f".//{Ns.ASIC_HEADER('productVersion')}") == "\r\n"


def test_lodgments_of_different_ids_carry_different_references() -> None:
    order = make_order()
    other = replace(order, lodgment=make_lodgment(id_=UUID(int=7)))
    texts = [
        parse(on_the_wire(make_channel().seal(one), PAYLOAD)).findtext(f".//{Ns.ASIC_HEADER('messageReferenceNumber')}")
        for one in (order, other)
    ]
    assert texts == [order.lodgment.reference, other.lodgment.reference]
