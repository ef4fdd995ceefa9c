"""What SBR2 is sent, taken apart and verified by an AS4 stack that is not ours, and messages of that stack taken here.

Jakarta Mail packs and unpacks, Santuario verifies, WSS4J signs: none of them is in what seals, nor in what reads.
`LODGE_TEST_SEALED_BODIES` says how many generated messages there are.
"""

import base64
import hashlib
import os
import re
from dataclasses import dataclass, replace
from urllib.parse import quote

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import load_pem_x509_certificate
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.protocol.as4_signature import signed_envelope
from pipeline.protocol.credential import RsaKey
from pipeline.protocol.ebms3 import PullRequest, Receipt, UserMessage
from pipeline.protocol.gzip_stream import MEDIA_TYPE
from pipeline.protocol.mime import read_package
from pipeline.protocol.mime_writer import ROOT_CONTENT_TYPE, AttachmentHead, cid_url, multipart_related
from pipeline.protocol.namespaces import Ns
from pipeline.protocol.sbr_ebms3 import Software
from pipeline.protocol.wsse import AssertionReference, AttachedPart, identity_token
from pipeline.protocol.xml import parse
from pipeline.sandbox.home import Home
from pipeline.sandbox.sbr2 import Door
from tests.doubles import as4
from tests.doubles.asic import make_assertion, make_credential
from tests.doubles.other_mshs import push_of_another_style
from tests.doubles.pay_jobs import pay_run
from tests.doubles.sbr2 import make_channel, prepared, sealed, taken
from tests.doubles.sbr2_client import CONTENT_ID, Sbr2Client, fresh_id, gzipped, push
from tests.doubles.stp import pay_event
from tests.oracles.java_verifiers import As4
from tests.oracles.python_verifiers import RSA_SHA256
from tests.oracles.verdict import Verdict

many = settings(
    max_examples=int(os.environ.get("LODGE_TEST_SEALED_BODIES", "40")),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
COVERED = [Ns.EBMS3("Messaging"), Ns.SAML2("EncryptedAssertion"), Ns.SOAP("Body")]
_NOT_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
texts = (
    st.text(st.characters(codec="utf-8"), min_size=1, max_size=40)
    .map(lambda text: _NOT_XML.sub("-", text))
    .filter(str.strip)
)
attached = st.binary(max_size=3_000) | st.builds(
    # Edges are where a package is cut wrongly; what is between only has to be long.
    lambda head, size, tail: head + bytes(range(256)) * size + tail,
    st.sampled_from((b"", b"\n", b"\r", b"\r\n", b"\r\n\r\n", b"--", b"\r\n--", b"--=_n", b"\x1f\x8b")),
    st.integers(0, 12_000),
    st.sampled_from((b"", b"\n", b"\r", b"\r\n", b"\n\r", b"\r\n--", b"\r\n--=_other--\r\n", b"\x00", b"\x1a")),
)


@dataclass(frozen=True, slots=True)
class Posted:
    """A message as it goes over the wire."""

    content_type: str
    body: bytes
    certificate: bytes

    def judged(self, stack: As4) -> Verdict:
        return stack.take_apart(self.content_type, self.body, self.certificate)


def posted(unit: UserMessage | PullRequest, *contents: bytes, boundary: str = "=_n1") -> Posted:
    """`contents` are attachments as they are, gzip or not."""
    credential = make_credential()
    heads = [AttachmentHead(as4.CONTENT_ID, MEDIA_TYPE, len(content)) for content in contents]
    parts = [AttachedPart(cid_url(as4.CONTENT_ID), hashlib.sha256(content).digest()) for content in contents]
    identity = identity_token(make_assertion(), AssertionReference.WSU_ID)
    soap = signed_envelope(unit, credential, identity, parts, "n1").soap
    if not contents:
        return Posted(ROOT_CONTENT_TYPE, soap, credential.certificate_der)
    package = multipart_related(soap, "root@pipeline.example.test", heads, boundary)
    body = b"".join(package.stream(*((content,) for content in contents)))
    return Posted(package.content_type, body, credential.certificate_der)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def covered(verdict: Verdict) -> list[str]:
    (signature,) = verdict.signatures
    assert signature.method == RSA_SHA256
    return [name for name, _ in signature.covers]


@given(names=st.tuples(texts, texts, texts, texts), content=attached)
@many
def test_a_push_of_anything_is_verified_attachment_and_all(
    as4_stack: As4, names: tuple[str, str, str, str], content: bytes
) -> None:
    software = Software(*names)
    order = replace(as4.push_order(), software=software)
    verdict = posted(as4.PROFILE.push(order, as4.NOW), content).judged(as4_stack)
    assert covered(verdict) == COVERED
    assert verdict.facts("attached") == {as4.CONTENT_ID: sha256(content)}
    said = [line.rpartition(" ")[2] for line in verdict.lines if line.startswith("MessageProperties ")]
    assert [bytes.fromhex(value).decode() for value in said] == [*names, order.software_id]


@given(document=attached)
@many
def test_a_document_comes_out_as_it_went_in(as4_stack: As4, document: bytes) -> None:
    verdict = posted(as4.push(), gzipped(document)).judged(as4_stack)
    assert verdict.facts("document") == {as4.CONTENT_ID: sha256(document)}


@pytest.mark.parametrize("mebibytes", [1, 8])
def test_a_large_attachment_is_verified(as4_stack: As4, mebibytes: int) -> None:
    content = b"".join(hashlib.sha256(bytes([n % 256, n // 256])).digest() for n in range(32_768)) * mebibytes
    assert posted(as4.push(), content).judged(as4_stack).facts("attached") == {as4.CONTENT_ID: sha256(content)}


def test_a_pull_is_verified(as4_stack: As4) -> None:
    assert covered(posted(as4.pull()).judged(as4_stack)) == COVERED


@pytest.mark.parametrize(
    ("part", "other", "broken"),
    [
        (b"CONTENT", b"CONTENt", "cid:payload-n1@pipeline.example.test false"),
        (b"Submit.004.00", b"Submit.004.01", "#messaging-n1 false"),
        (b"conversation-n1", b"conversation-n2", "#messaging-n1 false"),
        (b"<xenc:CipherValue>", b"<xenc:CipherValue>A", "#assertion-"),
    ],
)
def test_the_stack_refuses_what_was_altered(as4_stack: As4, part: bytes, other: bytes, broken: str) -> None:
    message = posted(as4.push(), b"CONTENT")
    assert part in message.body
    verdict = replace(message, body=message.body.replace(part, other)).judged(as4_stack)
    assert broken in verdict.reason


def test_the_stack_refuses_another_signer(as4_stack: As4) -> None:
    other = make_credential("Other").certificate_der
    assert "another certificate" in replace(posted(as4.push(), b"-"), certificate=other).judged(as4_stack).reason


def test_what_the_channel_puts_on_the_wire_is_verified(as4_stack: As4) -> None:
    document = pay_event(payees=3)
    stored = prepared(document)
    lodgment = taken(stored)
    envelope = sealed(lodgment, stored.content)
    ((_, content_type),) = make_channel().headers(lodgment)
    body = envelope.head + stored.content + envelope.tail
    token = next(parse(read_package(content_type, (body,)).root).iter(Ns.WSSE("BinarySecurityToken")))
    verdict = as4_stack.take_apart(content_type, body, base64.b64decode(token.text or ""))
    assert covered(verdict) == COVERED
    assert list(verdict.facts("document").values()) == [sha256(document)]


async def test_a_receipt_repeats_the_digests_that_the_stack_computes(as4_stack: As4, client: Sbr2Client) -> None:
    wire = client.sealed(push(), [(CONTENT_ID, gzipped(pay_run("receipt")))])
    said = await client.post(wire, Door.PUSH)
    receipt, (content_type, body) = said.answer.reply.body, wire.packed()
    certificate = client.credential.certificate_der
    verdict = as4_stack.acknowledged(receipt, content_type, body, certificate)
    assert len(verdict.facts("acknowledged")) == len(wire.references)
    altered = receipt.replace(b"<ds:DigestValue>", b"<ds:DigestValue>AAAA", 1)
    assert altered != receipt
    assert not as4_stack.acknowledged(altered, content_type, body, certificate).valid


async def test_a_pulled_response_is_verified(as4_stack: As4, client: Sbr2Client, home: Home) -> None:
    message = push()
    await client.push(pay_run("response"), message)
    reply = (await client.pull(message.info.message_id)).answer.reply
    agency = load_pem_x509_certificate(home.sbr2_certificate_file.read_bytes())
    verdict = as4_stack.take_apart(reply.content_type, reply.body, agency.public_bytes(Encoding.DER))
    assert covered(verdict) == [Ns.EBMS3("Messaging"), Ns.SOAP("Body")]
    assert len(verdict.facts("attached")) == len(verdict.facts("document")) == 1


@pytest.mark.parametrize("encoding", ["binary", "base64"])
@pytest.mark.parametrize("content_id", ["payload@java", "a+b=c%20d@java"])
async def test_a_push_of_the_other_stack_is_taken_and_its_receipt_satisfies_that_stack(
    as4_stack: As4, client: Sbr2Client, encoding: str, content_id: str
) -> None:
    message_id, document = fresh_id(), pay_run(f"foreign-{encoding}-{len(content_id)}")
    key = client.credential.private_key
    assert isinstance(key, RsaKey)
    envelope = push_of_another_style(message_id, client.token.assertion, quote(content_id))
    certificate, attachment = client.credential.certificate_der, (content_id, gzipped(document))
    message = as4_stack.compose(envelope, key.private, certificate, attachment, encoding)
    assert "PrefixList" in message.body.decode("latin-1") or encoding == "base64"

    said = await client.post_bytes(message.content_type, message.body, Door.PUSH)
    assert isinstance(said.unit, Receipt), said
    verdict = as4_stack.acknowledged(said.answer.reply.body, message.content_type, message.body, certificate)
    assert len(verdict.facts("acknowledged")) == 4
    assert isinstance((await client.pull(message_id)).unit, UserMessage)
