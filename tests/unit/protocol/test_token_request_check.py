"""Our own check of a token request: what does not hold, or leaves a part out, never leaves."""

import copy
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import NoReturn

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from lxml import etree

from pipeline.channels import mas_st
from pipeline.gateway.exchange import Request
from pipeline.lodgment.failures import Failure, FailureClass, Party
from pipeline.lodgment.references import Ids, TokenKey
from pipeline.protocol.credential import Credential, Digest, SigningKey
from pipeline.protocol.namespaces import Ns
from pipeline.protocol.suites import V1_2_LEGACY, V1_3, Suite
from pipeline.protocol.verify import EnvelopeError, verify_token_request
from pipeline.protocol.wstrust import Claim, TokenRequest
from pipeline.protocol.wstrust_request import signed_request
from pipeline.stages.contract import Context, Timing
from pipeline.stages.token_service import TokenService
from pipeline.telemetry import Metrics
from tests.doubles.synthetic_credentials import credential, user_credential

NOW = datetime(2026, 11, 23, 4, 5, 6, tzinfo=UTC)
STS = "https://sts.invalid/service.svc"
WANTED = TokenRequest("https://agency.invalid", (Claim("urn:claim:abn"),))


def good(suite: Suite = V1_3) -> bytes:
    return signed_request(WANTED, credential(), STS, "urn:uuid:1", NOW, "n1", suite=suite)


def refusal(message: bytes, suite: Suite = V1_3) -> str:
    with pytest.raises(EnvelopeError) as caught:
        verify_token_request(message, credential().certificate_der, suite)
    return caught.value.code


def only(root: etree._Element, name: str) -> etree._Element:
    (found,) = root.iter(name)
    return found


def left_out(number: int) -> Callable[[etree._Element], None]:
    def change(root: etree._Element) -> None:
        info = only(root, Ns.DS("SignedInfo"))
        info.remove(info.findall(Ns.DS("Reference"))[number])

    return change


def doubled(name: str) -> Callable[[etree._Element], None]:
    def change(root: etree._Element) -> None:
        one = only(root, name)
        one.addnext(copy.deepcopy(one))

    return change


def removed(name: str) -> Callable[[etree._Element], None]:
    def change(root: etree._Element) -> None:
        one = only(root, name)
        parent = one.getparent()
        assert parent is not None
        parent.remove(one)

    return change


def reworded(name: str) -> Callable[[etree._Element], None]:
    def change(root: etree._Element) -> None:
        next(root.iter(name)).text = "https://other.invalid/"

    return change


def another_element_behind_the_id(root: etree._Element) -> None:
    to = only(root, Ns.WSA("To"))
    reply = only(root, Ns.WSA("ReplyTo"))
    reply.set(Ns.WSU("Id"), str(to.attrib.pop(Ns.WSU("Id"))))


@pytest.mark.parametrize("suite", [V1_3, V1_2_LEGACY])
def test_takes_what_working_clients_send_under_either_contract(suite: Suite) -> None:
    verify_token_request(good(suite), credential().certificate_der, suite)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (left_out(0), "envelope.reference"),
        (left_out(1), "envelope.reference"),
        (removed(Ns.WSU("Timestamp")), "envelope.shape"),
        (removed(Ns.WSA("To")), "envelope.shape"),
        (removed(Ns.DS("Signature")), "envelope.shape"),
        (removed(Ns.SOAP("Body")), "envelope.shape"),
        (doubled(Ns.WSU("Timestamp")), "envelope.shape"),
        (doubled(Ns.WSA("To")), "envelope.shape"),
        (doubled(Ns.WSSE("Security")), "envelope.shape"),
        (doubled(Ns.DS("Signature")), "envelope.shape"),
        (reworded(Ns.WSA("To")), "envelope.signature"),
        (reworded(Ns.WSU("Expires")), "envelope.signature"),
        (reworded(Ns.WSSE("BinarySecurityToken")), "envelope.token"),
        (another_element_behind_the_id, "envelope.reference"),
    ],
)
def test_refuses_a_token_request_that_leaves_a_part_out_or_was_changed(
    change: Callable[[etree._Element], None], code: str
) -> None:
    root = etree.fromstring(good())
    change(root)
    assert refusal(etree.tostring(root)) == code


def test_refuses_what_is_no_xml() -> None:
    assert refusal(b"<Envelope") == "envelope.xml"


def test_refuses_sha_1_where_the_profile_does_not_name_it() -> None:
    assert refusal(good(V1_2_LEGACY), V1_3) == "envelope.algorithm"
    assert refusal(good(V1_3), V1_2_LEGACY) == "envelope.algorithm"


@dataclass(frozen=True)
class FlippingKey:
    """A token whose signatures have one bit wrong."""

    real: SigningKey = field(default_factory=lambda: credential().private_key)

    @property
    def kept_in(self) -> str:
        return "PKCS#11 token 'broken'"

    def public_key(self) -> RSAPublicKey:
        return self.real.public_key()

    def sign(self, data: bytes, digest: Digest) -> bytes:
        signature = self.real.sign(data, digest)
        return signature[:-1] + bytes([signature[-1] ^ 1])


class Vault:
    """One credential, whoever asks."""

    def __init__(self, held: Credential) -> None:
        self._held = held

    def get(self, credential_id: str) -> Credential | Failure:
        assert credential_id
        return self._held


class Wire:
    """Nothing may come here."""

    async def exchange(self, request: Request) -> NoReturn:
        pytest.fail(f"a request left for {request.url}")


@pytest.mark.parametrize(
    "broken",
    [
        replace(credential(), private_key=FlippingKey()),
        replace(credential(), private_key=user_credential().private_key),
    ],
    ids=["a-bit-wrong", "another-key"],
)
async def test_a_signature_that_does_not_hold_never_leaves_and_says_who_must_act(broken: Credential) -> None:
    key = TokenKey("test", STS, "https://agency.invalid", broken.id, None, None, mas_st.CLAIMS, 512)
    context = Context(
        ledger=None,  # type: ignore[arg-type]  # the conversation has no business with it
        channels={},
        environment="test",
        clock=lambda: NOW,
        timing=Timing(),
        worker="one",
        ids=Ids(),
        metrics=Metrics(),
    )
    answer = await TokenService(context, mas_st.StsProfile(), Vault(broken), Wire()).ask(key)
    assert isinstance(answer, Failure)
    assert (answer.code, answer.kind, answer.who) == ("sts.self-check", FailureClass.OUR_DOCUMENT, Party.OPERATOR)
    assert "envelope.signature" in answer.detail
    assert "was not sent" in answer.advice
