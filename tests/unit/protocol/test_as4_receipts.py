"""What a receipt says of a message, held against what was sent."""

from dataclasses import replace

import pytest

from pipeline.protocol.as4_receipts import Disagreement, ReceiptFault, disagreements
from pipeline.protocol.as4_signature import plain_envelope
from pipeline.protocol.ebms3 import MessageInfo, Receipt, SignedReference
from pipeline.protocol.ebms3_reader import read_envelope
from tests.doubles.as4 import CONTENT_ID, MESSAGE_ID, NOW, sealed

INFO = MessageInfo("receipt-1@agency.example.test", NOW, MESSAGE_ID)


def receipt(*references: SignedReference, info: MessageInfo = INFO) -> Receipt:
    """As it arrives: written by the agency, read by us."""
    (read,) = read_envelope(plain_envelope(Receipt(info, references), "m")).units
    assert isinstance(read, Receipt)
    return read


SENT = sealed().envelope.references


def test_a_receipt_made_from_what_was_verified_agrees() -> None:
    verified = sealed().verify()
    assert disagreements(receipt(*verified.references), MESSAGE_ID, SENT) == ()


def test_order_and_the_spelling_of_a_cid_do_not_matter() -> None:
    *others, attached = SENT
    spelled = replace(attached, uri=f"CID:{CONTENT_ID.replace('@', '%40')}")
    assert disagreements(receipt(spelled, *reversed(others)), MESSAGE_ID, SENT) == ()


@pytest.mark.parametrize("place", range(len(SENT)))
def test_one_bit_in_one_digest_is_told(place: int) -> None:
    references = list(SENT)
    digest = bytes([references[place].digest[0] ^ 1]) + references[place].digest[1:]
    references[place] = replace(references[place], digest=digest)
    expected = (Disagreement(ReceiptFault.DIGEST, SENT[place].uri),)
    assert disagreements(receipt(*references), MESSAGE_ID, SENT) == expected


@pytest.mark.parametrize("place", range(len(SENT)))
def test_a_reference_that_is_missing_shortened_unknown_or_there_twice_is_told(place: int) -> None:
    one, rest = SENT[place], (*SENT[:place], *SENT[place + 1 :])
    strange = replace(one, uri="#other")
    method = replace(one, digest_method="http://www.w3.org/2000/09/xmldsig#sha1")
    assert disagreements(receipt(*rest), MESSAGE_ID, SENT) == (Disagreement(ReceiptFault.MISSING, one.uri),)
    assert disagreements(receipt(*rest, replace(one, digest=one.digest[:31])), MESSAGE_ID, SENT) == (
        Disagreement(ReceiptFault.DIGEST, one.uri),
    )
    assert disagreements(receipt(*SENT, strange), MESSAGE_ID, SENT) == (Disagreement(ReceiptFault.UNKNOWN, "#other"),)
    assert disagreements(receipt(*SENT, one), MESSAGE_ID, SENT) == (Disagreement(ReceiptFault.TWICE, one.uri),)
    assert disagreements(receipt(*rest, method), MESSAGE_ID, SENT) == (
        Disagreement(ReceiptFault.DIGEST_METHOD, one.uri),
    )


@pytest.mark.parametrize("other", [None, "another@example.test", MESSAGE_ID.upper()])
def test_a_receipt_for_another_message_is_told_though_every_digest_fits(other: str | None) -> None:
    info = replace(INFO, ref_to_message_id=other)
    expected = (Disagreement(ReceiptFault.OTHER_MESSAGE, other),)
    assert disagreements(receipt(*SENT, info=info), MESSAGE_ID, SENT) == expected


def test_a_receipt_without_digests_does_not_pass_for_one_that_agrees() -> None:
    assert disagreements(receipt(), MESSAGE_ID, SENT) == (Disagreement(ReceiptFault.NO_DIGESTS),)
    assert disagreements(receipt(), MESSAGE_ID, ()) == (Disagreement(ReceiptFault.NO_DIGESTS),)
