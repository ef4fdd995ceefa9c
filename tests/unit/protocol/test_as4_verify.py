"""AS4 messages that must not be believed, and those of other writers that must."""

import base64
import copy
import hashlib
from collections.abc import Callable
from dataclasses import replace

import pytest
import xmlsec
from cryptography.hazmat.primitives import hashes, hmac
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from pipeline.protocol.algorithms import Algorithm
from pipeline.protocol.as4_signature import AGENCY_LAYOUT, SBR2_LAYOUT, Covered, SecurityLayout
from pipeline.protocol.as4_signed_info import SHA1, As4SignatureError
from pipeline.protocol.as4_verify import (
    LEGACY_RESPONSE_POLICY,
    PUSH_POLICY,
    RESPONSE_POLICY,
    SignaturePolicy,
    verify_message,
)
from pipeline.protocol.credential import Digest
from pipeline.protocol.ebms3_reader import read_messaging
from pipeline.protocol.mime import Attachment
from pipeline.protocol.namespaces import Ns
from pipeline.protocol.xml import canonical, parse
from tests.doubles.as4 import CONTENT_ID, Sealed, gzipped, pull, push, sealed, trusting
from tests.doubles.asic import ASSERTION_ID, make_credential
from tests.doubles.synthetic_credentials import raw

Change = Callable[[etree._Element], object]
SIGNED = ("messaging-n1", ASSERTION_ID, "body-n1")
PLACES = (
    *("Envelope", "Header", "Messaging", "UserMessage", "Property", "Security", "EncryptedAssertion"),
    *("BinarySecurityToken", "Signature", "SignedInfo", "KeyInfo", "SecurityTokenReference", "Body"),
)
IDS = ("none", "new", "same")


def by_id(root: etree._Element, value: str) -> etree._Element:
    return next(node for node in root.iter("*") if node.get(Ns.WSU("Id")) == value)


def first(root: etree._Element, local_name: str) -> etree._Element:
    return next(node for node in root.iter("*") if etree.QName(node).localname == local_name)


def changed(change: Change, message: Sealed | None = None) -> Sealed:
    message = message or sealed()
    root = parse(message.envelope.soap)
    change(root)
    return message.with_envelope(etree.tostring(root))


def resigned(change: Change, message: Sealed | None = None) -> Sealed:
    """Changed, and then signed again by the same key: whoever refuses this does not do it for the signature's value."""

    def change_and_sign(root: etree._Element) -> None:
        change(root)
        info, value = first(root, "SignedInfo"), first(root, "SignatureValue")
        signature = make_credential().private_key.sign(canonical(info), Digest.SHA256)
        value.text = base64.b64encode(signature).decode()

    return changed(change_and_sign, message)


def refusal(message: Sealed, policy: SignaturePolicy = PUSH_POLICY) -> str:
    with pytest.raises(As4SignatureError) as caught:
        message.verify(policy)
    return caught.value.code


def test_hands_back_what_was_signed_and_nothing_else() -> None:
    message = sealed()
    verified = message.verify()
    root = parse(message.envelope.soap)
    assert read_messaging(verified.messaging) == (push(),)
    assert verified.messaging == canonical(root[0][0])
    assert verified.assertion == canonical(root[0][1][0])
    assert verified.body == canonical(root[1])
    assert verified.attachments == message.attachments
    assert verified.references == message.envelope.references
    assert verified.certificate == message.credential.certificate


def test_resigning_in_these_tests_is_a_signature_that_holds() -> None:
    assert resigned(lambda _: None).verify().attachments


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        (b"Submit.004.00", b"Update.004.00", "as4.digest"),
        (b"0004785936", b"0004785937", "as4.digest"),
        (b"aes256-cbc", b"aes128-cbc", "as4.digest"),
        (b"></soap:Body>", b"> </soap:Body>", "as4.digest"),
        (b'soap:mustUnderstand="true"><eb:', b'soap:mustUnderstand="false"><eb:', "as4.digest"),
        (b"rsa-sha256", b"rsa-sha512", "as4.algorithm"),
        (b"cid:payload-n1", b"cid:payload-n2", "as4.signature"),
    ],
)
def test_refuses_a_changed_value(old: bytes, new: bytes, code: str) -> None:
    message = sealed()
    assert old in message.envelope.soap
    assert refusal(message.with_envelope(message.envelope.soap.replace(old, new))) == code


def test_refuses_a_changed_signature_and_a_changed_digest() -> None:
    def flip(name: str) -> Change:
        def change(root: etree._Element) -> None:
            node = first(root, name)
            octets = bytearray(base64.b64decode(node.text or ""))
            octets[0] ^= 1
            node.text = base64.b64encode(octets).decode()

        return change

    assert refusal(changed(flip("SignatureValue"))) == "as4.signature"
    assert refusal(changed(flip("DigestValue"))) == "as4.signature"
    assert refusal(resigned(flip("DigestValue"))) == "as4.digest"


@pytest.mark.parametrize(
    ("missing", "policy"),
    [
        (Covered.MESSAGING, PUSH_POLICY),
        (Covered.MESSAGING, SignaturePolicy(frozenset())),
        (Covered.ASSERTION, PUSH_POLICY),
        (Covered.BODY, PUSH_POLICY),
        (Covered.BODY, RESPONSE_POLICY),
        (Covered.ATTACHMENTS, PUSH_POLICY),
        (Covered.ATTACHMENTS, RESPONSE_POLICY),
        (Covered.TOKEN, SignaturePolicy(frozenset({Covered.TOKEN}))),
    ],
)
def test_refuses_a_signature_that_leaves_out_what_the_policy_demands(missing: Covered, policy: SignaturePolicy) -> None:
    layout = SecurityLayout(tuple(one for one in SBR2_LAYOUT.covered if one is not missing))
    message = sealed(layout=layout)
    with pytest.raises(As4SignatureError, match=missing.value) as caught:
        message.verify(policy)
    assert caught.value.code == "as4.coverage"


def test_what_no_policy_demands_and_nobody_signed_is_not_handed_back() -> None:
    message = sealed(layout=SecurityLayout((Covered.MESSAGING,)))
    verified = message.verify(SignaturePolicy(frozenset()))
    assert (verified.body, verified.assertion, verified.attachments) == (None, None, ())


@pytest.mark.parametrize("signed_id", SIGNED)
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("new_id", IDS)
def test_refuses_a_forgery_in_the_place_of_an_original_moved_elsewhere(signed_id: str, place: str, new_id: str) -> None:
    root = parse(sealed().envelope.soap)
    original = by_id(root, signed_id)
    forgery = copy.deepcopy(original)
    forge(forgery, new_id)
    target = first(root, place)
    if target is original or original in set(target.iterancestors()):
        target = forgery
    parent = original.getparent()
    assert parent is not None
    parent.replace(original, forgery)
    target.append(original)
    assert refusal(sealed().with_envelope(etree.tostring(root))).startswith("as4.")


@pytest.mark.parametrize("signed_id", SIGNED)
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("new_id", IDS)
@pytest.mark.parametrize("at", [0, 99])
def test_refuses_a_forgery_that_hides_anywhere_beside_the_original(
    signed_id: str, place: str, new_id: str, at: int
) -> None:
    root = parse(sealed().envelope.soap)
    forgery = copy.deepcopy(by_id(root, signed_id))
    forge(forgery, new_id)
    first(root, place).insert(at, forgery)
    assert refusal(sealed().with_envelope(etree.tostring(root))).startswith("as4.")


def forge(node: etree._Element, new_id: str) -> None:
    node.set("forged", "yes")
    if new_id == "none":
        del node.attrib[Ns.WSU("Id")]
    elif new_id == "new":
        node.set(Ns.WSU("Id"), "forged")


@pytest.mark.parametrize("name", ["Id", "ID", "id"])
def test_refuses_a_second_spelling_of_a_signed_id(name: str) -> None:
    def claim(root: etree._Element) -> None:
        first(root, "Envelope").set(name, "messaging-n1")

    assert refusal(changed(claim)) == "as4.id"


@pytest.mark.parametrize("name", ["Messaging", "Security", "Signature", "BinarySecurityToken", "EncryptedAssertion"])
def test_refuses_a_second_part_of_the_header(name: str) -> None:
    def double(root: etree._Element) -> None:
        node = first(root, name)
        twin = copy.deepcopy(node)
        for below in twin.iter("*"):
            for spelling in {Ns.WSU("Id"), "Id"} & set(below.attrib):
                del below.attrib[spelling]
        node.addnext(twin)

    assert refusal(changed(double)) == "as4.shape"


@pytest.mark.parametrize("name", ["Messaging", "Security", "Signature", "Body", "Header", "SignedInfo", "KeyInfo"])
def test_refuses_a_message_without_one_of_its_parts(name: str) -> None:
    def remove(root: etree._Element) -> None:
        node = first(root, name)
        parent = node.getparent()
        assert parent is not None
        parent.remove(node)

    assert refusal(changed(remove)) == "as4.shape"


def part(content: bytes, content_id: str | None = CONTENT_ID) -> Attachment:
    return Attachment(content_id, "application/gzip", content)


@pytest.mark.parametrize(
    ("attachments", "code"),
    [
        ((), "as4.attachment"),
        ((part(gzipped(b"another document")),), "as4.digest"),
        ((part(gzipped() + b"\0"),), "as4.digest"),
        ((part(gzipped(), "other"),), "as4.attachment"),
        ((part(gzipped(), None),), "as4.attachment"),
        ((part(gzipped()), part(b"more", "more")), "as4.coverage"),
        ((part(gzipped()), part(b"more")), "as4.attachment"),
        ((part(b"more"), part(gzipped())), "as4.attachment"),
        ((part(gzipped()), part(b"more", None)), "as4.attachment"),
    ],
)
def test_refuses_attachments_that_are_not_those_that_were_signed(
    attachments: tuple[Attachment, ...], code: str
) -> None:
    assert refusal(replace(sealed(), attachments=attachments)) == code


def reference_of(root: etree._Element, uri: str) -> etree._Element:
    return next(node for node in root.iter(Ns.DS("Reference")) if node.get("URI") == uri)


def set_transform(uri: str, *algorithms: str) -> Change:
    def change(root: etree._Element) -> None:
        transforms = reference_of(root, uri)[0]
        for node in list(transforms):
            transforms.remove(node)
        for algorithm in algorithms:
            etree.SubElement(transforms, Ns.DS("Transform")).set("Algorithm", algorithm)

    return change


CID = f"cid:{CONTENT_ID}"
INCLUSIVE = "http://www.w3.org/TR/2001/REC-xml-c14n-20010315"
XSLT = "http://www.w3.org/TR/1999/REC-xslt-19991116"
ENVELOPED = "http://www.w3.org/2000/09/xmldsig#enveloped-signature"
COMPLETE = Algorithm.ATTACHMENT_CONTENT.replace("Content-Signature", "Complete-Signature")


@pytest.mark.parametrize(
    ("uri", "algorithms"),
    [
        ("#messaging-n1", ()),
        ("#messaging-n1", (INCLUSIVE,)),
        ("#messaging-n1", (XSLT,)),
        ("#messaging-n1", (ENVELOPED, Algorithm.EXCLUSIVE_C14N)),
        ("#messaging-n1", (Algorithm.EXCLUSIVE_C14N + "WithComments",)),
        ("#messaging-n1", (Algorithm.ATTACHMENT_CONTENT,)),
        (CID, ()),
        (CID, (Algorithm.EXCLUSIVE_C14N,)),
        (CID, (COMPLETE,)),
        (CID, (Algorithm.ATTACHMENT_CONTENT, Algorithm.ATTACHMENT_CONTENT)),
    ],
)
def test_refuses_any_other_transform(uri: str, algorithms: tuple[str, ...]) -> None:
    assert refusal(resigned(set_transform(uri, *algorithms))) == "as4.algorithm"


@pytest.mark.parametrize(
    ("name", "algorithm"),
    [
        ("SignatureMethod", "http://www.w3.org/2000/09/xmldsig#rsa-sha1"),
        ("SignatureMethod", Algorithm.HMAC_SHA256),
        ("SignatureMethod", ""),
        ("CanonicalizationMethod", INCLUSIVE),
        ("DigestMethod", SHA1),
        ("DigestMethod", "http://www.w3.org/2001/04/xmldsig-more#md5"),
    ],
)
def test_refuses_any_other_algorithm(name: str, algorithm: str) -> None:
    assert refusal(resigned(lambda root: first(root, name).set("Algorithm", algorithm))) == "as4.algorithm"


@pytest.mark.parametrize("name", ["SignatureMethod", "DigestMethod", "Transform", "CanonicalizationMethod"])
def test_refuses_a_parameter_of_an_algorithm(name: str) -> None:
    def add(root: etree._Element) -> None:
        etree.SubElement(first(root, name), Ns.DS("HMACOutputLength")).text = "8"

    assert refusal(resigned(add)) == "as4.algorithm"


def test_refuses_an_hmac_made_with_the_public_key_that_everybody_has() -> None:
    def sign(root: etree._Element) -> None:
        first(root, "SignatureMethod").set("Algorithm", Algorithm.HMAC_SHA256)
        public = make_credential().certificate.public_key()
        maker = hmac.HMAC(public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo), hashes.SHA256())
        maker.update(canonical(first(root, "SignedInfo")))
        first(root, "SignatureValue").text = base64.b64encode(maker.finalize()).decode()

    assert refusal(changed(sign)) == "as4.algorithm"


@pytest.mark.parametrize(
    "uri",
    ["", "#", "cid:", "#xpointer(/)", "#xpointer(id('body-n1'))", "#nobody", "https://example.test/", "file:///x"],
)
def test_refuses_a_reference_that_leads_to_nothing_it_may_lead_to(uri: str) -> None:
    code = refusal(resigned(lambda root: reference_of(root, "#body-n1").set("URI", uri)))
    assert code in {"as4.reference", "as4.attachment", "as4.algorithm"}


@pytest.mark.parametrize("name", ["Envelope", "Header", "Security", "UserMessage", "Signature", "EncryptedData"])
def test_refuses_a_reference_to_an_element_that_is_not_read(name: str) -> None:
    def lead_astray(root: etree._Element) -> None:
        node = first(root, name)
        node.set("Id", "astray")
        reference = reference_of(root, "#body-n1")
        reference.set("URI", "#astray")
        others = [(reference_of(root, f"#{value}"), by_id(root, value)) for value in SIGNED[:2]]
        for one, target in ((reference, node), *others):
            one[2].text = base64.b64encode(hashlib.sha256(canonical(target)).digest()).decode()

    assert refusal(resigned(lead_astray)) == "as4.reference"


def test_refuses_two_references_to_one_place_and_too_many() -> None:
    def repeat(times: int) -> Change:
        def change(root: etree._Element) -> None:
            reference = reference_of(root, "#body-n1")
            for _ in range(times):
                reference.addnext(copy.deepcopy(reference))

        return change

    assert refusal(resigned(repeat(1))) == "as4.reference"
    assert refusal(resigned(repeat(30))) == "as4.reference"


@pytest.mark.parametrize("name", ["DigestValue", "SignatureValue", "BinarySecurityToken", "SignatureMethod"])
def test_refuses_a_comment_that_splits_a_value(name: str) -> None:
    def split(root: etree._Element) -> None:
        node = first(root, name)
        node.append(etree.Comment("x"))

    assert refusal(resigned(split)) in {"as4.xml", "as4.algorithm"}


@pytest.mark.parametrize("name", ["SignedInfo", "SignatureValue", "KeyInfo", "Object"])
def test_refuses_more_in_a_signature_than_it_needs(name: str) -> None:
    def add(root: etree._Element) -> None:
        signature = first(root, "Signature")
        found = signature.find(Ns.DS(name))
        signature.append(etree.Element(Ns.DS(name)) if found is None else copy.deepcopy(found))

    assert refusal(resigned(add)) == "as4.shape"


def test_refuses_a_namespace_that_has_no_canonical_form() -> None:
    """The digest of nothing must not be taken for the digest of the message."""
    message = sealed()
    soap = message.envelope.soap.replace(b"<eb:UserMessage>", b'<eb:UserMessage xmlns:r="relative" r:a="b">')
    nothing = base64.b64encode(hashlib.sha256(b"").digest()).decode()

    def claim(root: etree._Element) -> None:
        reference_of(root, "#messaging-n1")[2].text = nothing

    assert refusal(resigned(claim, message.with_envelope(soap))) == "as4.xml"


@pytest.mark.parametrize("document", [b"", b"<a/>", b"<!DOCTYPE a><a/>", b"\xff\xfe"])
def test_refuses_what_is_no_envelope(document: bytes) -> None:
    assert refusal(sealed().with_envelope(document)) in {"as4.xml", "as4.shape"}


def test_asks_who_is_trusted_and_takes_no_key_from_the_message() -> None:
    message = sealed()
    other = make_credential("Another")
    with pytest.raises(As4SignatureError) as caught:
        verify_message(message.envelope.soap, message.attachments, PUSH_POLICY, trusting(other))
    assert caught.value.code == "as4.certificate"
    # Whatever the message names, it is the trusted certificate that must have signed it.
    with pytest.raises(As4SignatureError) as caught:
        verify_message(message.envelope.soap, message.attachments, PUSH_POLICY, lambda _: other.certificate)
    assert caught.value.code == "as4.signature"


def test_a_key_value_names_nobody() -> None:
    def replace_key_info(root: etree._Element) -> None:
        key_info = first(root, "KeyInfo")
        key_info.remove(key_info[0])
        etree.SubElement(etree.SubElement(key_info, Ns.DS("KeyValue")), Ns.DS("RSAKeyValue"))

    message = changed(replace_key_info)
    assert refusal(message) == "as4.certificate"
    # A certificate agreed upon beforehand needs no name in the message.
    known = message.credential.certificate
    named: list[object] = []

    def pinned(certificate: object) -> object:
        named.append(certificate)
        return known

    assert verify_message(message.envelope.soap, message.attachments, PUSH_POLICY, pinned)  # type: ignore[arg-type]  # a looser signature than asked for
    assert named == [None]


@pytest.mark.parametrize("uri", ["#messaging-n1", "#nobody", "certificate"])
def test_refuses_a_key_reference_that_does_not_lead_to_the_certificate(uri: str) -> None:
    def lead_astray(root: etree._Element) -> None:
        first(root, "SecurityTokenReference")[0].set("URI", uri)

    assert refusal(changed(lead_astray)) == "as4.certificate"


@pytest.mark.parametrize(("text", "code"), [("", "as4.certificate"), ("AAAA", "as4.certificate"), ("!", "as4.shape")])
def test_refuses_a_token_that_holds_no_certificate(text: str, code: str) -> None:
    def empty(root: etree._Element) -> None:
        first(root, "BinarySecurityToken").text = text

    assert refusal(changed(empty)) == code


def signed_by_xmlsec(prefixes: str | None = None, *, sha1: bool = False) -> Sealed:
    """An answer laid out as another stack writes it: other prefixes, line breaks, and PrefixLists if asked for."""
    message = sealed(pull(), b"", layout=AGENCY_LAYOUT)
    root = parse(message.envelope.soap.replace(b"eb:", b"ns7:").replace(b":eb=", b":ns7="))
    etree.indent(root)
    security, old = first(root, "Security"), first(root, "Signature")
    security.remove(old)
    template = xmlsec.template.create(
        root, xmlsec.constants.TransformExclC14N, xmlsec.constants.TransformRsaSha256, ns="dsig"
    )
    context = xmlsec.SignatureContext()
    digest = xmlsec.constants.TransformSha1 if sha1 else xmlsec.constants.TransformSha256
    for one in message.envelope.references:
        reference = xmlsec.template.add_reference(template, digest, uri=one.uri)
        transform = xmlsec.template.add_transform(reference, xmlsec.constants.TransformExclC14N)
        if prefixes is not None:
            xmlsec.template.transform_add_c14n_inclusive_namespaces(transform, prefixes.split())
        context.register_id(by_id(root, one.uri[1:]), "Id", Ns.WSU)
    if prefixes is not None:
        info = first(template, "CanonicalizationMethod")
        xmlsec.template.transform_add_c14n_inclusive_namespaces(info, prefixes.split())
    template.append(copy.deepcopy(first(old, "KeyInfo")))
    security.append(template)
    pem = raw(message.credential.private_key).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    context.key = xmlsec.Key.from_memory(pem, xmlsec.constants.KeyDataFormatPem)
    context.sign(template)
    return message.with_envelope(etree.tostring(root))


@pytest.mark.parametrize("prefixes", [None, "soap", "soap wsu ns7 wsse", "#default soap", "unknown"])
def test_believes_what_xmlsec_signed_in_another_style(prefixes: str | None) -> None:
    verified = signed_by_xmlsec(prefixes=prefixes).verify(RESPONSE_POLICY)
    assert read_messaging(verified.messaging) == (pull(),)
    assert [one.uri for one in verified.references] == ["#messaging-n1", "#body-n1"]


def test_refuses_a_prefix_list_without_end() -> None:
    many = " ".join(f"p{number}" for number in range(51))
    assert refusal(signed_by_xmlsec(prefixes=many), RESPONSE_POLICY) == "as4.algorithm"


def test_sha_1_digests_are_read_only_under_the_policy_that_names_them() -> None:
    message = signed_by_xmlsec(sha1=True)
    assert b"xmldsig#sha1" in message.envelope.soap
    assert refusal(message, RESPONSE_POLICY) == "as4.algorithm"
    assert message.verify(LEGACY_RESPONSE_POLICY).references[0].digest_method == SHA1
    tampered = message.with_envelope(message.envelope.soap.replace(b"pull-n1", b"pull-n2"))
    assert refusal(tampered, LEGACY_RESPONSE_POLICY) == "as4.digest"


def test_every_truncation_of_an_envelope_is_refused() -> None:
    message = sealed()
    for end in range(0, len(message.envelope.soap), 13):
        assert refusal(message.with_envelope(message.envelope.soap[:end])) == "as4.xml"


@settings(deadline=None)
@given(
    st.integers(0, 20_000),
    st.integers(0, 40),
    st.one_of(st.binary(min_size=1, max_size=6), st.sampled_from((b"<!-- -->", b"<?x?>", b' Id="body-n1"', b"<a/>"))),
)
def test_a_damaged_message_is_refused_or_says_what_the_whole_one_said(start: int, removed: int, put_in: bytes) -> None:
    message = sealed()
    soap, whole = message.envelope.soap, message.verify()
    start %= len(soap)
    damaged = message.with_envelope(soap[:start] + put_in + soap[start + removed :])
    try:
        verified = damaged.verify()
    except As4SignatureError:
        return
    assert (verified.messaging, verified.assertion, verified.body, verified.attachments) == (
        whole.messaging,
        whole.assertion,
        whole.body,
        whole.attachments,
    )
