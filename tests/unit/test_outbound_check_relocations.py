"""The outbound self-check against the whole corpus of signature wrapping: refused for the place, not for a digest."""

import pytest
from lxml import etree

from pipeline.protocol.namespaces import Ns
from pipeline.protocol.verify import EnvelopeError, Expectation, verify_envelope
from pipeline.protocol.wsse import AssertionReference
from tests.doubles.asic import PAYLOAD, make_channel, make_credential, make_order, make_token, on_the_wire
from tests.doubles.relocations import Target, relocations
from tests.doubles.sandbox_messages import at


def _marked(copied: etree._Element) -> None:
    copied.set("forged", "true")


def _target(tag: str, *, in_security: bool = True) -> Target:
    return Target(etree.QName(tag).localname, lambda root: at(root, tag), _marked, in_security)


BY_WSU_ID = (
    _target(Ns.SOAP("Body"), in_security=False),
    _target(Ns.WSSE("BinarySecurityToken")),
    _target(Ns.SAML2("EncryptedAssertion")),
    _target(Ns.DS("Signature")),
)
BY_ENCRYPTED_DATA = (_target(Ns.XENC("EncryptedData"), in_security=False),)


@pytest.mark.parametrize(
    ("reference", "targets", "number"),
    [(AssertionReference.WSU_ID, BY_WSU_ID, 189), (AssertionReference.ENCRYPTED_DATA_ID, BY_ENCRYPTED_DATA, 48)],
)
def test_refuses_every_relocation_of_a_signed_element(
    reference: AssertionReference, targets: tuple[Target, ...], number: int
) -> None:
    good = on_the_wire(make_channel(reference).seal(make_order()), PAYLOAD)
    expected = Expectation(make_credential().certificate_der, make_token().proof_key, reference)
    verify_envelope(good, expected)
    corpus = list(relocations(targets))
    assert len(corpus) == number
    for relocation in corpus:
        root = etree.fromstring(good)
        relocation.apply(root)
        with pytest.raises(EnvelopeError) as refused:
            verify_envelope(etree.tostring(root), expected)
        assert refused.value.code != "envelope.signature" or relocation.alters_what_is_signed, str(relocation)
