"""Assertions made ready, tokens and signatures as fragments that are their own canonical form."""

import base64
import hashlib
import hmac

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from lxml import etree

from pipeline.protocol.namespaces import Ns
from pipeline.protocol.wsse import (
    AssertionReference,
    Part,
    binary_security_token,
    certificate_signature,
    endorsing_signature,
    identity_token,
)
from pipeline.protocol.xml import XmlError, canonical, parse
from tests.doubles.asic import make_assertion, make_credential

SAML = "urn:oasis:names:tc:SAML:2.0:assertion"
STYLES = [
    make_assertion(),
    make_assertion(default_namespace=True),
    f'<EncryptedAssertion\n\txmlns = "{SAML}"><a xmlns="urn:a">\r\n</a></EncryptedAssertion>'.encode(),
    f'  <x:EncryptedAssertion xmlns:x="{SAML}"/>'.encode(),
    f'<x:EncryptedAssertion xmlns:x="{SAML}"\n xmlns:wsu="urn:other"><wsu:a/></x:EncryptedAssertion>'.encode(),
    f'<x:EncryptedAssertion xmlns:x="{SAML}"><a xmlns:wsu="{Ns.WSU}" wsu:Id="ä"/></x:EncryptedAssertion>'.encode(),
    f"<EncryptedAssertion xmlns='{SAML}' note='a > b'><!-- kept on the wire --></EncryptedAssertion>".encode(),
]


@pytest.mark.parametrize("assertion", STYLES)
def test_an_id_is_put_on_an_assertion_of_any_style(assertion: bytes) -> None:
    token = identity_token(assertion, AssertionReference.WSU_ID)
    root = parse(token.wire)
    assert root.get(Ns.WSU("Id")) == token.part.id
    assert token.part.digest == hashlib.sha256(canonical(root)).digest()
    del root.attrib[Ns.WSU("Id")]
    assert canonical(root) == canonical(parse(assertion))


def test_an_assertion_that_has_an_id_keeps_every_byte() -> None:
    assertion = f'<a xmlns="{SAML}" xmlns:u="{Ns.WSU}" u:Id="theirs"/>'.encode()
    token = identity_token(assertion, AssertionReference.WSU_ID)
    assert (token.wire, token.part.id) == (assertion, "theirs")
    assert token.part.digest == hashlib.sha256(canonical(parse(assertion))).digest()


def test_ids_that_are_put_on_assertions_differ_as_the_assertions_do() -> None:
    ids = {identity_token(assertion, AssertionReference.WSU_ID).part.id for assertion in STYLES}
    assert len(ids) == len(STYLES)


def test_the_encrypted_data_is_referred_to_by_its_own_id() -> None:
    token = identity_token(make_assertion(), AssertionReference.ENCRYPTED_DATA_ID)
    data = parse(token.wire).find(Ns.XENC("EncryptedData"))
    assert data is not None
    assert (token.wire, token.part) == (make_assertion(), Part.of("ED-1", canonical(data)))


@pytest.mark.parametrize("assertion", [b"", b"text", b'<?xml version="1.0"?><a/>', b"<!-- x --><a/>"])
def test_refuses_an_assertion_that_does_not_begin_with_its_element(assertion: bytes) -> None:
    with pytest.raises(XmlError) as caught:
        identity_token(assertion, AssertionReference.WSU_ID)
    assert caught.value.code == "token.assertion"


def test_refuses_to_refer_to_encrypted_data_without_an_id() -> None:
    assertion = make_assertion().replace(b' Id="ED-1"', b"")
    with pytest.raises(XmlError, match="EncryptedData with an Id"):
        identity_token(assertion, AssertionReference.ENCRYPTED_DATA_ID)


def test_the_token_and_both_signatures_are_their_own_canonical_form() -> None:
    credential = make_credential()
    token_bytes, token = binary_security_token(credential.certificate_der)
    signature, part = certificate_signature(credential.private_key, "s", token, (token,))
    endorsement = endorsing_signature(b"k" * 64, (part,))
    for fragment in (token_bytes, signature, endorsement):
        assert canonical(parse(fragment)) == fragment
    assert (token.digest, part.digest) == (hashlib.sha256(token_bytes).digest(), hashlib.sha256(signature).digest())


def test_signature_values_are_over_the_canonical_signed_info() -> None:
    credential = make_credential()
    _, token = binary_security_token(credential.certificate_der)
    signature, part = certificate_signature(credential.private_key, "s", token, (token,))
    info, value = signed_info(signature)
    credential.private_key.public_key().verify(value, info, PKCS1v15(), hashes.SHA256())
    info, value = signed_info(endorsing_signature(b"k" * 64, (part,)))
    assert hmac.compare_digest(value, hmac.digest(b"k" * 64, info, "sha256"))


def signed_info(signature: bytes) -> tuple[bytes, bytes]:
    root = parse(signature)
    info, value = root.find(Ns.DS("SignedInfo")), root.findtext(Ns.DS("SignatureValue"))
    assert info is not None
    return canonical(info), base64.b64decode(value or "")


def test_the_key_is_named_by_reference_to_the_token() -> None:
    credential = make_credential()
    _, token = binary_security_token(credential.certificate_der)
    signature, _ = certificate_signature(credential.private_key, "s", token, (token,))
    reference = parse(signature).find(f"{Ns.DS('KeyInfo')}/{Ns.WSSE('SecurityTokenReference')}/{Ns.WSSE('Reference')}")
    assert isinstance(reference, etree._Element)
    assert reference.get("URI") == f"#{token.id}"
    assert (reference.get("ValueType") or "").endswith("#X509v3")
