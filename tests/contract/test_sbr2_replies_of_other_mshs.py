"""Receipts and errors as other AS4 implementations write them: read for what they say, and no more."""

from collections.abc import Sequence

import pytest
from lxml import etree

from pipeline.channels.contract import Envelope, Reply, Sent
from pipeline.lodgment.failures import Failure
from pipeline.lodgment.lodgment import Lodgment
from pipeline.lodgment.outcome import Outcome, Result
from pipeline.protocol.mime import read_package
from pipeline.protocol.namespaces import Ns
from tests.doubles.other_mshs import errors, receipts
from tests.doubles.sbr2 import DOMAIN, make_channel, prepared, sealed, taken
from tests.doubles.stp import pay_event

NOT_AUTHORISED = "SBR.GEN.AUTH.006: the provider is not nominated"
each_receipt = pytest.mark.parametrize("kind", receipts("x", ()))
each_error = pytest.mark.parametrize("kind", errors("x", "y", "z"))


def pushed() -> tuple[Lodgment, Envelope, list[tuple[str, str]]]:
    """A lodgment, what was posted for it, and the URI and digest of each of its references."""
    document = prepared(pay_event(payees=3))
    lodgment = taken(document)
    envelope = sealed(lodgment, document.content)
    ((_, content_type),) = make_channel().headers(lodgment)
    root = etree.fromstring(read_package(content_type, (envelope.head + document.content + envelope.tail,)).root)
    references = [(one.get("URI", ""), one.findtext(Ns.DS("DigestValue"), "")) for one in root.iter(Ns.DS("Reference"))]
    return lodgment, envelope, references


def read(lodgment: Lodgment, envelope: Envelope, answer: tuple[str, bytes], status: int = 200) -> Outcome | Failure:
    return make_channel().read_reply(Reply(status, *answer), Sent(lodgment, envelope.head))


def message_id(lodgment: Lodgment) -> str:
    return f"{lodgment.reference}@{DOMAIN}"


@each_receipt
def test_a_receipt_in_any_style_acknowledges_the_push(kind: str) -> None:
    lodgment, envelope, references = pushed()
    outcome = read(lodgment, envelope, receipts(message_id(lodgment), references)[kind])
    assert isinstance(outcome, Outcome), outcome
    assert (outcome.result, outcome.agency_reference) == (Result.DELAYED, message_id(lodgment))


def _other_digest(references: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    (uri, digest), *rest = references
    return [(uri, "A" * 42 + digest[42:]), *rest]


@each_receipt
def test_a_receipt_in_any_style_for_something_else_does_not(kind: str) -> None:
    lodgment, envelope, references = pushed()
    assert isinstance(read(lodgment, envelope, receipts("other@pipeline.example.test", references)[kind]), Failure)
    if "no digests" not in kind:
        altered = receipts(message_id(lodgment), _other_digest(references))[kind]
        assert isinstance(read(lodgment, envelope, altered), Failure)


@each_error
@pytest.mark.parametrize("status", [200, 400, 500])
def test_an_error_in_any_style_is_known_by_the_code_of_the_agency(kind: str, status: int) -> None:
    lodgment, envelope, _ = pushed()
    answer = errors(message_id(lodgment), "EBMS:0004", NOT_AUTHORISED)[kind]
    failure = read(lodgment, envelope, answer, status)
    assert isinstance(failure, Failure)
    assert failure.code == "SBR.GEN.AUTH.006"
