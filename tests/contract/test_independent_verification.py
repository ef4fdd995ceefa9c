"""What we sign, judged by verifiers that share no code with it: xmlsec, signxml, a plain one, the JDK, WSS4J.

`LODGE_TEST_SEALED_BODIES` says how many generated envelopes and token requests each of them is given.
"""

import os
import re
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from signxml.exceptions import InvalidSignature

from pipeline.protocol.namespaces import Ns
from pipeline.protocol.verify import EnvelopeError, Expectation, verify_envelope
from pipeline.protocol.wsse import AssertionReference
from pipeline.protocol.wstrust import TokenRequest
from pipeline.protocol.wstrust_request import signed_request
from pipeline.protocol.xml import canonical, parse
from tests.doubles.asic import NOW, PAYLOAD, make_channel, make_credential, make_order, make_token, on_the_wire
from tests.doubles.seal_orders import Sealed, nonces, sealed_envelopes, token_requests
from tests.doubles.synthetic_credentials import credential
from tests.oracles.java_verifiers import Jdk, Wss4j
from tests.oracles.python_verifiers import (
    HMAC_SHA256,
    RSA_SHA256,
    DoesNotHoldError,
    by_signxml,
    endorsement_by_signxml,
    plainly,
    signxml_can_write,
)
from tests.oracles.verdict import Signed

STS = "https://sts.invalid/R3.0/S007v1.3/service.svc?a=1&b=ü"
many = settings(
    max_examples=int(os.environ.get("LODGE_TEST_SEALED_BODIES", "40")),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)


def envelope_coverage(sealed: Sealed) -> list[Signed]:
    """The document signature covers Body and token, the envelope's the document signature, Body and assertion."""
    body = (Ns.SOAP("Body"), f"body-{sealed.nonce}")
    token = (Ns.WSSE("BinarySecurityToken"), _id_of(Ns.WSSE("BinarySecurityToken"), sealed.envelope))
    document = (Ns.DS("Signature"), f"signature-{sealed.nonce}")
    assertion = (
        (Ns.SAML2("EncryptedAssertion"), _id_of(Ns.SAML2("EncryptedAssertion"), sealed.envelope))
        if sealed.reference is AssertionReference.WSU_ID
        else (Ns.XENC("EncryptedData"), "ED-1")
    )
    return [Signed(RSA_SHA256, (body, token)), Signed(HMAC_SHA256, (document, body, assertion))]


def _id_of(tag: str, envelope: bytes) -> str:
    (found,) = parse(envelope).iter(tag)
    return found.get(Ns.WSU("Id"), "")


def request_coverage(nonce: str) -> list[Signed]:
    parts = ((Ns.WSU("Timestamp"), f"TS-{nonce}"), (Ns.WSA("To"), f"To-{nonce}"))
    return [Signed(RSA_SHA256, parts)]


def plain_envelope(reference: AssertionReference = AssertionReference.WSU_ID) -> Sealed:
    envelope = on_the_wire(make_channel(reference).seal(make_order()), PAYLOAD)
    return Sealed(envelope, make_credential(), make_token().proof_key, reference, "n1")


def plain_request(nonce: str = "n1") -> bytes:
    return signed_request(
        TokenRequest("https://agency.invalid"), credential(), STS, "urn:uuid:1", datetime.now(UTC), nonce
    )


@given(sealed=sealed_envelopes())
@many
def test_every_envelope_verifies_in_python_over_the_right_parts(sealed: Sealed) -> None:
    expected = Expectation(sealed.credential.certificate_der, sealed.proof_key, sealed.reference)
    body = verify_envelope(sealed.envelope, expected)
    assert plainly(sealed.envelope, sealed.credential.certificate, sealed.proof_key) == envelope_coverage(sealed)
    assume(signxml_can_write(sealed.envelope))
    security = parse(sealed.envelope)[0][0]
    octets = [canonical(part) for part in (body, security[1], security[2], security[0])]
    if sealed.reference is AssertionReference.ENCRYPTED_DATA_ID:
        octets[3] = canonical(security[0][0])
    assert by_signxml(sealed.envelope, sealed.credential.certificate, NOW) == octets[:2]
    assert endorsement_by_signxml(sealed.envelope, sealed.proof_key) == [octets[2], octets[0], octets[3]]


@given(sealed=sealed_envelopes())
@many
def test_every_envelope_verifies_in_the_jdk_over_the_right_parts(jdk: Jdk, sealed: Sealed) -> None:
    verdict = jdk.check(sealed.envelope, sealed.credential.certificate_der, sealed.proof_key)
    assert verdict.signatures == envelope_coverage(sealed)


@given(sealed=sealed_envelopes())
@many
def test_every_envelope_verifies_in_wss4j_under_the_basic_security_profile(wss4j: Wss4j, sealed: Sealed) -> None:
    verdict = wss4j.check(sealed.envelope, sealed.credential.certificate_der, NOW, sealed.proof_key)
    assert verdict.signatures == envelope_coverage(sealed)


@given(request=token_requests(), nonce=nonces)
@many
def test_every_token_request_verifies_in_python_over_timestamp_and_to(request: TokenRequest, nonce: str) -> None:
    message = signed_request(request, credential(), STS, f"urn:uuid:{nonce}", NOW, nonce)
    assert plainly(message, credential().certificate) == request_coverage(nonce)
    header = parse(message)[0]
    assert by_signxml(message, credential().certificate, NOW) == [canonical(header[4][0]), canonical(header[3])]


@given(request=token_requests(), nonce=nonces)
@many
def test_every_token_request_verifies_in_the_jdk_and_in_wss4j_over_timestamp_and_to(
    jdk: Jdk, wss4j: Wss4j, request: TokenRequest, nonce: str
) -> None:
    now = datetime.now(UTC)
    message = signed_request(request, credential(), STS, f"urn:uuid:{nonce}", now, nonce)
    assert jdk.check(message, credential().certificate_der).signatures == request_coverage(nonce)
    verdict = wss4j.check(message, credential().certificate_der, NOW)
    assert verdict.signatures == request_coverage(nonce)
    assert "timestamp" in verdict.lines


def _other_letter(envelope: bytes, at: int) -> bytes:
    return envelope[:at] + (b"B" if envelope[at : at + 1] != b"B" else b"C") + envelope[at + 1 :]


def _both_by_signxml(envelope: bytes, sealed: Sealed) -> None:
    by_signxml(envelope, sealed.credential.certificate, NOW)
    endorsement_by_signxml(envelope, sealed.proof_key)


SIGNED_TEXT = re.compile(
    rb"<hdr:senderId>(.)|<b:name>(.)|<(?:\w+:)?CipherValue>(.)|<ds:DigestValue>(.)|<ds:SignatureValue>(.)|Binary\">(.)"
)


@given(data=st.data(), reference=st.sampled_from(AssertionReference))
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_verifier_says_yes_to_a_letter_that_was_changed(
    data: st.DataObject, jdk: Jdk, wss4j: Wss4j, reference: AssertionReference
) -> None:
    sealed = plain_envelope(reference)
    places = [match.start(match.lastindex or 0) for match in SIGNED_TEXT.finditer(sealed.envelope)]
    assert len(places) == 2 + 1 + 5 + 2
    tampered = _other_letter(sealed.envelope, data.draw(st.sampled_from(places)))
    certificate = sealed.credential.certificate
    assert not jdk.check(tampered, sealed.credential.certificate_der, sealed.proof_key).valid
    assert not wss4j.check(tampered, sealed.credential.certificate_der, NOW, sealed.proof_key).valid
    with pytest.raises(DoesNotHoldError):
        plainly(tampered, certificate, sealed.proof_key)
    with pytest.raises(EnvelopeError):
        verify_envelope(tampered, Expectation(sealed.credential.certificate_der, sealed.proof_key, reference))
    with pytest.raises(InvalidSignature):
        _both_by_signxml(tampered, sealed)


def test_no_verifier_says_yes_with_another_key(jdk: Jdk, wss4j: Wss4j) -> None:
    sealed = plain_envelope()
    other = make_credential("Other")
    for certificate, session_key in ((other, sealed.proof_key), (sealed.credential, sealed.proof_key[:-1])):
        der = certificate.certificate_der
        assert not jdk.check(sealed.envelope, der, session_key).valid
        assert not wss4j.check(sealed.envelope, der, NOW, session_key).valid
        with pytest.raises(DoesNotHoldError):
            plainly(sealed.envelope, certificate.certificate, session_key)


def _rewrite(pattern: bytes, into: bytes) -> Callable[[bytes], bytes]:
    return lambda message: re.sub(pattern, into, message, count=1)


X509V3 = rb' ValueType="[^"]*#X509v3"'
CREATED, EXPIRES = rb"(<wsu:Created>.*?</wsu:Created>)", rb"(<wsu:Expires>.*?</wsu:Expires>)"
TWICE = rb"\g<0>\g<0>"


@pytest.mark.parametrize(
    ("bend", "reason"),
    [
        pytest.param(_rewrite(rb" EncodingType=\S*#Base64Binary\"", b""), "A bad EncodingType", id="R3029"),
        pytest.param(_rewrite(b"#Base64Binary", b"#HexBinary"), "A bad EncodingType", id="R3030"),
        pytest.param(_rewrite(X509V3, b""), "Bad ValueType", id="R3031"),
        pytest.param(_rewrite(rb"(wsse:Reference URI=\"[^\"]*\")" + X509V3, rb"\1"), "Bad ValueType", id="R3059"),
        pytest.param(
            _rewrite(rb"<wsse:Reference[^>]*></wsse:Reference>", TWICE), "multiple data references", id="R3061"
        ),
        pytest.param(_rewrite(CREATED + EXPIRES, rb"\2\1"), "Invalid timestamp", id="R3221"),
        pytest.param(_rewrite(CREATED, TWICE), "Invalid timestamp", id="R3203"),
        pytest.param(_rewrite(EXPIRES, TWICE), "Invalid timestamp", id="R3224"),
        pytest.param(_rewrite(b"</wsu:Timestamp>", b"<x/></wsu:Timestamp>"), "Invalid timestamp", id="R3222"),
        pytest.param(_rewrite(rb"<wsu:Timestamp.*</wsu:Timestamp>", TWICE), "Invalid timestamp", id="R3227"),
        pytest.param(
            _rewrite(rb"<wsse:SecurityTokenReference.*</wsse:SecurityTokenReference>", TWICE),
            "bad SecurityTokenReference",
            id="R5402, R5417",
        ),
        pytest.param(_rewrite(b"xml-exc-c14n#", b"xml-exc-c14n#WithComments"), "bad canonicalization", id="R5404"),
    ],
)
def test_wss4j_would_name_the_rule_of_the_profile_that_a_token_request_breaks(
    wss4j: Wss4j, bend: Callable[[bytes], bytes], reason: str
) -> None:
    good = plain_request()
    assert wss4j.check(good, credential().certificate_der, NOW).valid
    bent = bend(good)
    assert bent != good
    verdict = wss4j.check(bent, credential().certificate_der, NOW)
    assert re.search(reason, verdict.reason), verdict.reason
