"""A reply that a manifest calls a receipt is not believed to be one: whoever wrote the manifest may have meant harm."""

import pytest

from pipeline.evidence.messages import Proven, UnprovenError, prove_receipt
from tests.doubles import as4, sbr2

SENT = Proven("", message_id=as4.MESSAGE_ID)


@pytest.mark.parametrize(
    "reply",
    [
        sbr2.error("EBMS:0004"),
        b"<e:Envelope xmlns:e='http://www.w3.org/2003/05/soap-envelope'><e:Body><e:Fault/></e:Body></e:Envelope>",
        b"no XML",
    ],
    ids=["error", "fault", "noise"],
)
def test_what_is_no_receipt_proves_nothing(reply: bytes) -> None:
    with pytest.raises(UnprovenError):
        prove_receipt("application/soap+xml", reply, SENT)


def test_a_receipt_without_digests_is_told_as_such() -> None:
    assert "without digests" in prove_receipt("application/soap+xml", sbr2.receipt(as4.MESSAGE_ID), SENT)
