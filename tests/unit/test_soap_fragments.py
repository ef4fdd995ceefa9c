"""Documents that are spliced into an envelope keep their meaning and their digest."""

import pytest
from hypothesis import given, settings
from lxml import etree

from pipeline.protocol.fragments import element, free_suffix, prefix_names, signed_form, spliceable
from pipeline.protocol.namespaces import Ns
from pipeline.protocol.soap import Frame, envelope, request_body
from pipeline.protocol.xml import XmlError, canonical, parse
from tests.doubles.odd_xml import odd_payloads

NAMESPACE = "uri:v1.external.bn.lodge.application.asic.gov.au"


@given(odd_payloads(NAMESPACE))
@settings(max_examples=150, deadline=None)
def test_any_payload_digests_in_the_envelope_as_it_does_alone(document: bytes) -> None:
    payload = spliceable(parse(document))
    frame = Frame.around(payload, NAMESPACE)
    body = request_body(frame, "body-1", "", payload)
    head, tail = envelope(frame, None, body)
    root = parse(head + payload + tail)
    in_context = root.find(Ns.SOAP("Body"))
    assert in_context is not None
    assert canonical(in_context) == body.head + signed_form(payload) + body.tail


@given(odd_payloads(NAMESPACE))
@settings(max_examples=150, deadline=None)
def test_any_payload_keeps_the_meaning_of_every_name_in_it(document: bytes) -> None:
    before = parse(document)
    after = parse(spliceable(before))
    assert canonical(after) == canonical(before)
    for old, new in zip(before.iter("*"), after.iter("*"), strict=True):
        for value in [new.text or "", *map(str, new.attrib.values())]:
            for prefix in {piece.split("/")[-1] for piece in value.split(":")[:-1]}:
                assert old.nsmap.get(prefix) == new.nsmap.get(prefix)


def test_an_ordinary_payload_is_its_own_canonical_form() -> None:
    root = parse(b'<b:a xmlns:b="urn:b"><b:c z="1" a="2"/><!-- gone --></b:a>')
    assert spliceable(root) == canonical(root) == b'<b:a xmlns:b="urn:b"><b:c a="2" z="1"></b:c></b:a>'
    assert signed_form(spliceable(root)) == canonical(root)


def test_a_prefix_that_only_a_value_names_stays_declared() -> None:
    document = b'<a xmlns="urn:a" xmlns:t="urn:t" xmlns:i="urn:i"><b i:type="t:Name"/></a>'
    payload = spliceable(parse(document))
    assert b'xmlns:t="urn:t"' in payload
    assert b"urn:t" not in signed_form(payload)
    assert signed_form(payload) == canonical(parse(document))


def test_a_default_namespace_that_only_a_value_relies_on_stays_declared() -> None:
    document = b'<p:a xmlns="urn:d" xmlns:p="urn:p" xmlns:i="urn:i"><p:b i:type="Name"/></p:a>'
    assert b'xmlns="urn:d"' in spliceable(parse(document))


def test_a_colon_in_a_value_that_names_no_prefix_changes_nothing() -> None:
    document = b'<a xmlns="urn:a" xmlns:unused="urn:u"><b>10:30, https://example.test</b></a>'
    assert spliceable(parse(document)) == canonical(parse(document))


def test_refuses_a_namespace_name_that_implementations_write_differently() -> None:
    with pytest.raises(XmlError, match="ampersand"):
        spliceable(parse(b'<a xmlns="urn:a" xmlns:b="urn:x?a=1&amp;b=2"><b:c/></a>'))


def test_takes_text_that_only_looks_like_an_odd_namespace_name() -> None:
    document = b"""<a xmlns="urn:a"> xmlns:x='1' xmlns="&amp;"</a>"""
    assert spliceable(parse(document)) == canonical(parse(document))


def test_a_colliding_prefix_gives_way_to_the_first_free_number() -> None:
    names = prefix_names("soap", "msg")
    assert free_suffix(names, b'<a xmlns:soapy="x">') == ""
    assert free_suffix(names, b'<a xmlns:soap="x">') == "1"
    assert free_suffix(names, b'<a xmlns:msg="x" xmlns:soap1="y" xmlns:msg3="z">') == "2"


@pytest.mark.parametrize("colons", range(8))
def test_a_declaration_is_found_however_many_colons_follow_it(colons: int) -> None:
    names = prefix_names("soap", "msg")
    rest = ":" * colons
    assert free_suffix(names, f'<a xmlns:msg="x">{rest}</a>'.encode()) == "1"
    assert free_suffix(names, f'<a xmlns:other="x">{rest}</a>'.encode()) == ""
    assert free_suffix(names, f'<a xmlns:soap="x" xmlns:other="y">{rest}</a>'.encode()) == "1"
    assert free_suffix(names, rest.encode()) == ""


def test_fragments_are_written_in_canonical_order_and_escaped() -> None:
    attributes = {"a:z": "\t>", "y": "<", "c": '"'}
    written = element("b:x", "&gt;&#xD;", declared={"b": "urn:b", "a": "urn:a"}, attributes=attributes)
    assert written == '<b:x xmlns:a="urn:a" xmlns:b="urn:b" c="&quot;" y="&lt;" a:z="&#x9;>">&gt;&#xD;</b:x>'
    assert etree.tostring(etree.fromstring(written), method="c14n", exclusive=True).decode() == written
