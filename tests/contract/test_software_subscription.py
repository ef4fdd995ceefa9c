"""The software id in a sealed SBR1 header: both signatures hold before and after, for two implementations."""

from dataclasses import replace

import pytest
import xmlsec
from cryptography.hazmat.primitives import serialization
from hypothesis import assume, given, settings
from lxml import etree
from signxml.algorithms import DigestAlgorithm, SignatureMethod
from signxml.verifier import SignatureConfiguration, XMLVerifier

from pipeline.channels.asic_profile import SERVICE
from pipeline.protocol.namespaces import Ns
from pipeline.protocol.software_subscription import with_software_id
from pipeline.protocol.verify import Expectation, verify_envelope
from pipeline.protocol.wsse import AssertionReference
from pipeline.protocol.xml import XmlError, canonical, parse
from tests.doubles.asic import (
    NAMESPACE,
    PAYLOAD,
    make_assertion,
    make_channel,
    make_credential,
    make_order,
    make_token,
    on_the_wire,
)
from tests.doubles.documents import prepared_by
from tests.doubles.odd_xml import odd_payloads

DIGITS = "0004785936"
SECURITY = f"{Ns.SOAP('Header')}/{Ns.WSSE('Security')}"
WRITTEN = (
    b'<ssid:softwareSubscriptionId xmlns:ssid="http://sbr.gov.au/identifier/softwareSubscriptionId">'
    b"0004785936</ssid:softwareSubscriptionId>"
)


def sealed(payload: bytes = PAYLOAD) -> bytes:
    prepared = prepared_by(make_channel(), SERVICE, "bnLodgeApplication", payload).content
    return on_the_wire(make_channel().seal(make_order(prepared)), prepared)


def signatures_of(root: etree._Element) -> list[etree._Element]:
    return root.findall(f"{SECURITY}/{Ns.DS('Signature')}")


def xmlsec_verifies(envelope: bytes) -> None:
    """Both signatures, each with the key that we know; raises where one does not hold."""
    root = parse(envelope)
    certificate = make_credential().certificate_der
    keys = (
        xmlsec.Key.from_memory(certificate, xmlsec.constants.KeyDataFormatCertDer),
        xmlsec.Key.from_binary_data(xmlsec.constants.KeyDataHmac, make_token().proof_key),
    )
    found = signatures_of(root)
    assert len(found) == 2
    for signature, key in zip(found, keys, strict=True):
        context = xmlsec.SignatureContext()
        context.key = key
        # The payload may repeat ids of its own, which no signature refers to.
        for node in (*root.iterfind(f"{SECURITY}/*"), root.find(Ns.SOAP("Body"))):
            if node is not None and node.get(Ns.WSU("Id")) is not None:
                context.register_id(node, "Id", Ns.WSU)
        context.register_id(found[0], "Id")
        context.verify(signature)


def signxml_covers(envelope: bytes) -> list[bytes]:
    """The octets that signxml digested for both signatures, part by part; raises where a signature does not hold."""
    covered: list[bytes] = []
    pem = make_credential().certificate.public_bytes(serialization.Encoding.PEM).decode()
    both = (
        (0, SignatureMethod.RSA_SHA256, 2, {"x509_cert": pem}),
        (1, SignatureMethod.HMAC_SHA256, 3, {"hmac_key": make_token().proof_key}),
    )
    for number, method, parts, key in both:
        wanted = SignatureConfiguration(
            require_x509="x509_cert" in key,
            expect_references=parts,
            signature_methods=frozenset({method}),
            digest_algorithms=frozenset({DigestAlgorithm.SHA256}),
        )
        root = parse(envelope)
        signatures = signatures_of(root)
        # signxml judges the first that it meets; no signature covers the order in which they stand.
        signatures[0].addprevious(signatures[number])
        found = XMLVerifier().verify(root, expect_config=wanted, **key)
        assert isinstance(found, list)
        assert len(found) == parts
        covered += [one.signed_data for one in found]
    return covered


def refusal(head: bytes) -> str:
    with pytest.raises(XmlError) as refused:
        with_software_id(head, DIGITS)
    return refused.value.code


def test_both_signatures_hold_before_and_after_for_xmlsec_and_for_signxml() -> None:
    before = sealed()
    after = with_software_id(before, DIGITS)
    verify_envelope(before, Expectation(make_credential().certificate_der, make_token().proof_key))
    for envelope in (before, after):
        xmlsec_verifies(envelope)
    assert signxml_covers(before) == signxml_covers(after)


def test_the_verifiers_of_this_test_do_refuse_a_changed_body() -> None:
    broken = with_software_id(sealed(), DIGITS).replace(b"Sons", b"Song")
    with pytest.raises(xmlsec.Error):
        xmlsec_verifies(broken)
    with pytest.raises(Exception, match=r"[Dd]igest"):
        signxml_covers(broken)


def test_the_element_is_the_last_in_security_and_no_other_byte_is_changed() -> None:
    before = sealed()
    after = with_software_id(before, DIGITS)
    assert after.count(WRITTEN) == 1
    assert after.replace(WRITTEN, b"") == before
    security = parse(after).find(SECURITY)
    assert security is not None
    assert security[-1].tag == "{http://sbr.gov.au/identifier/softwareSubscriptionId}softwareSubscriptionId"
    assert security[-1].text == DIGITS


@given(odd_payloads(NAMESPACE))
@settings(max_examples=60, deadline=None)
def test_signatures_hold_around_every_payload_that_is_taken(document: bytes) -> None:
    before = sealed(document)
    after = with_software_id(before, DIGITS)
    xmlsec_verifies(after)
    # signxml writes the message anew in ASCII, which cannot hold such names
    assume(all(f"{node.nsmap}{node.tag}".isascii() for node in parse(document).iter("*")))
    assert signxml_covers(after) == signxml_covers(before)


@pytest.mark.parametrize("default_namespace", [False, True])
def test_the_style_of_the_assertion_does_not_matter(default_namespace: bool) -> None:
    token = make_token(make_assertion(default_namespace=default_namespace))
    xmlsec_verifies(with_software_id(on_the_wire(make_channel().seal(make_order(token=token)), PAYLOAD), DIGITS))


def test_a_referred_encrypted_data_stays_as_it_is() -> None:
    channel = make_channel(AssertionReference.ENCRYPTED_DATA_ID)
    before = on_the_wire(channel.seal(make_order()), PAYLOAD)
    assert with_software_id(before, DIGITS).replace(WRITTEN, b"") == before


def test_the_head_of_a_stored_envelope_is_enough() -> None:
    envelope = make_channel().seal(make_order())
    head = with_software_id(envelope.head, DIGITS)
    assert on_the_wire(replace(envelope, head=head), PAYLOAD) == with_software_id(sealed(), DIGITS)


def test_a_payload_that_looks_like_a_security_header_is_left_alone() -> None:
    inner = (
        f'<w:Security xmlns:w="{Ns.WSSE}"><s:softwareSubscriptionId xmlns:s="{Ns.SOFTWARE_SUBSCRIPTION}"/></w:Security>'
    )
    payload = f'<businessDocumentBody xmlns="{NAMESPACE}">{inner}</businessDocumentBody>'.encode()
    after = with_software_id(sealed(payload), DIGITS)
    xmlsec_verifies(after)
    assert after.index(WRITTEN) < after.index(b"Body")


def test_a_second_id_is_refused() -> None:
    assert refusal(with_software_id(sealed(), DIGITS)) == "subscription.present"


def message(header: str, body: str = "<b/>") -> bytes:
    return (
        f'<s:Envelope xmlns:s="{Ns.SOAP}" xmlns:w="{Ns.WSSE}" xmlns:ds="{Ns.DS}" xmlns:u="{Ns.WSU}">'
        f"{header}<s:Body>{body}</s:Body></s:Envelope>"
    ).encode()


SEALED = "<s:Header><w:Security><a/></w:Security></s:Header>"
SIGNED = '<ds:Signature><ds:SignedInfo><ds:Reference URI="{}"/></ds:SignedInfo></ds:Signature>'


@pytest.mark.parametrize(
    ("head", "code"),
    [
        (message(""), "subscription.shape"),
        (message("<s:Header/>"), "subscription.shape"),
        (message("<s:Header><w:Security/></s:Header>"), "subscription.shape"),
        (
            message("<s:Header><w:Security><a/></w:Security><w:Security><a/></w:Security></s:Header>"),
            "subscription.shape",
        ),
        (message("<s:Header><w:Security><a/></w:Security></s:Header><s:Header/>"), "subscription.shape"),
        (message("<s:Header><a><w:Security><a/></w:Security></a></s:Header>"), "subscription.shape"),
        (message("<Header><w:Security><a/></w:Security></Header>"), "subscription.shape"),
        (message("<s:Header><w:Security><a/></w:Security></s:Header>").split(b"</s:Header>")[0], "subscription.shape"),
        (message("", "<w:Security><a/></w:Security>"), "subscription.shape"),
        (
            message(f"<s:Header><w:Security u:Id='a'>{SIGNED.format('#a')}</w:Security></s:Header>"),
            "subscription.signed",
        ),
        (message(f"<s:Header Id='a'><w:Security>{SIGNED.format('#a')}</w:Security></s:Header>"), "subscription.signed"),
        (message(f"<s:Header><w:Security>{SIGNED.format('')}</w:Security></s:Header>"), "subscription.signed"),
        (b"<!DOCTYPE a><a/>", "xml.doctype"),
        (b"<a><b></a>", "xml.malformed"),
        (b"\xffx", "xml.malformed"),
        *((message(SEALED).decode().encode(each), "subscription.encoding") for each in ("utf-16", "utf-16-be")),
    ],
)
def test_messages_in_which_there_is_not_one_place_for_it_are_refused(head: bytes, code: str) -> None:
    assert refusal(head) == code


def test_canonical_parts_are_the_same_octets_before_and_after() -> None:
    before, after = parse(sealed()), parse(with_software_id(sealed(), DIGITS))
    for path in (Ns.SOAP("Body"), f"{SECURITY}/{Ns.WSSE('BinarySecurityToken')}"):
        one, other = before.find(path), after.find(path)
        assert one is not None
        assert other is not None
        assert canonical(one) == canonical(other)
