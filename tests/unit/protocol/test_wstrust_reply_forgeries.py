"""A response of the token service with a forged element put into it: refused, or read as if it were not there.

The service signs nothing, so TLS says who speaks; but no reader may be led to a second secret, assertion or lifetime.
"""

import copy
import itertools
from collections.abc import Callable

import pytest
from lxml import etree

from pipeline.protocol.namespaces import Ns
from pipeline.protocol.soap import read_envelope
from pipeline.protocol.wstrust import SecurityToken, TokenRequest, WsTrustError
from pipeline.protocol.wstrust_reply import Expected, read_token
from pipeline.protocol.xml import XmlError
from tests.doubles.sandbox_messages import at, element
from tests.doubles.sts_replies import APPLIES_TO, MESSAGE_ID, NOW, token_reply

WRAPPER = "{urn:synthetic}wrapper"
ELEMENTS = (
    Ns.SOAP("Body"),
    Ns.WST("RequestSecurityTokenResponseCollection"),
    Ns.WST("RequestSecurityTokenResponse"),
    Ns.WST("RequestedSecurityToken"),
    Ns.SAML2("EncryptedAssertion"),
    Ns.XENC("EncryptedData"),
    Ns.WST("RequestedProofToken"),
    Ns.WST("BinarySecret"),
    Ns.WST("Lifetime"),
    Ns.WSU("Expires"),
    Ns.WST("TokenType"),
    Ns.WSP("AppliesTo"),
    Ns.WSA("RelatesTo"),
)
FORGED: dict[str, str] = {
    Ns.WST("BinarySecret"): "Rk9SR0VERk9SR0VERk9SR0VERk9SR0VE",
    Ns.XENC("CipherValue"): "Rk9SR0VE",
    Ns.WSU("Expires"): "2026-11-23T11:00:00.000Z",
    Ns.WST("TokenType"): "urn:forged",
    Ns.WSA("Address"): "https://forged.invalid",
    Ns.WSA("RelatesTo"): "urn:uuid:forged",
}
Place = Callable[[etree._Element, etree._Element], None]


def _into(name: str, index: int | None = None, *, wrapped: bool = False) -> Place:
    def place(root: etree._Element, forged: etree._Element) -> None:
        holder = at(root, name)
        one = element(WRAPPER, forged) if wrapped else forged
        holder.insert(len(holder) if index is None else index, one)

    return place


PLACES: dict[str, Place] = {
    "first in the envelope": _into(Ns.SOAP("Envelope"), 0),
    "last in the envelope": _into(Ns.SOAP("Envelope")),
    "under the first header": _into(Ns.SOAP("Header"), 0, wrapped=True),
    "under the last header": _into(Ns.SOAP("Header"), wrapped=True),
    "as a header": _into(Ns.SOAP("Header")),
    "first in the body": _into(Ns.SOAP("Body"), 0),
    "last in the body": _into(Ns.SOAP("Body")),
    "first in the response": _into(Ns.WST("RequestSecurityTokenResponse"), 0),
    "last in the response": _into(Ns.WST("RequestSecurityTokenResponse")),
    "under a wrapper in the response": _into(Ns.WST("RequestSecurityTokenResponse"), 0, wrapped=True),
    "in the requested token": _into(Ns.WST("RequestedSecurityToken"), 0),
    "in the proof token": _into(Ns.WST("RequestedProofToken"), 0),
}


def read(document: bytes) -> SecurityToken | None:
    """The token, or None where the response is refused."""
    try:
        content = read_envelope(document)
        assert isinstance(content, etree._Element)
        return read_token(content, document, Expected(TokenRequest(APPLIES_TO), MESSAGE_ID, NOW))
    except (WsTrustError, XmlError):
        return None


def forged_copy(root: etree._Element, name: str) -> etree._Element:
    forged = copy.deepcopy(at(root, name))
    for one in forged.iter("*"):
        if one.tag in FORGED:
            one.text = FORGED[str(one.tag)]
        one.attrib.pop("Id", "")
    return forged


@pytest.mark.parametrize("name", ELEMENTS)
def test_a_second_element_anywhere_never_changes_what_is_read(name: str) -> None:
    genuine = read(token_reply())
    assert genuine is not None
    believed: list[str] = []
    for place, put in PLACES.items():
        root = etree.fromstring(token_reply())
        put(root, forged_copy(root, name))
        found = read(etree.tostring(root))
        if found is not None and (found.proof_key, found.expires_at) != (genuine.proof_key, genuine.expires_at):
            believed.append(place)
        if found is not None and b"Rk9SR0VE" in found.assertion:
            believed.append(place)
    assert not believed


@pytest.mark.parametrize("name", [*ELEMENTS[:10], Ns.WSA("RelatesTo")])
def test_an_element_that_was_moved_away_is_not_found_elsewhere(name: str) -> None:
    """Of what a token needs: moved to each place outside its own, with nothing put where it was."""
    for place, put in itertools.islice(PLACES.items(), 4):
        root = etree.fromstring(token_reply())
        original = at(root, name)
        parent = original.getparent()
        assert parent is not None
        parent.remove(original)
        put(root, original)
        restored = name == Ns.SOAP("Body") and place.endswith("in the envelope")
        assert (read(etree.tostring(root)) is not None) is restored, place


@pytest.mark.parametrize("split", [etree.Comment("x"), etree.ProcessingInstruction("x", "y"), element("x")])
@pytest.mark.parametrize(
    "name", [*sorted(FORGED.keys() - {Ns.XENC("CipherValue")}), Ns.WSU("Created"), Ns.WSSE("KeyIdentifier")]
)
def test_a_value_that_something_splits_is_refused_and_never_read_in_part(name: str, split: etree._Element) -> None:
    root = etree.fromstring(token_reply())
    value = at(root, name)
    text = value.text or ""
    value.text, rest = text[:4], copy.deepcopy(split)
    rest.tail = text[4:]
    value.append(rest)
    assert read(etree.tostring(root)) is None
