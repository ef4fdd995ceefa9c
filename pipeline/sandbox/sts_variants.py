"""The ways in which a token service may write one and the same response; clients must read all of them."""

from collections.abc import Mapping
from typing import cast

from lxml import etree

from pipeline.protocol.namespaces import Ns
from pipeline.protocol.xml import canonical, local_name
from pipeline.sandbox.soap import node
from pipeline.sandbox.sts_script import Variant

_RECORDED = (
    "TokenType",
    "RequestedSecurityToken",
    "RequestedAttachedReference",
    "RequestedUnattachedReference",
    "AppliesTo",
    "RequestedProofToken",
    "Entropy",
    "KeySize",
    "Lifetime",
)
_SPECIFIED = (
    "RequestedSecurityToken",
    "TokenType",
    "RequestType",
    "AppliesTo",
    "KeyType",
    "KeySize",
    "Lifetime",
    "RequestedAttachedReference",
    "RequestedUnattachedReference",
    "RequestedProofToken",
    "Entropy",
)
_SPARSE = ("Lifetime", "Entropy", "KeySize", "RequestedProofToken", "RequestedSecurityToken")
_NUMBERED = {
    f"ns{number}": namespace.value
    for number, namespace in enumerate(
        (Ns.SOAP, Ns.WSA, Ns.WSSE, Ns.WSU, Ns.WST, Ns.WSP, Ns.WSSE11, Ns.SAML2, Ns.XENC, Ns.DS), start=1
    )
}


def response_of(parts: Mapping[str, etree._Element], variant: Variant) -> etree._Element:
    """The RequestSecurityTokenResponse; of `parts`, by local name, those that the variant has."""
    order = {Variant.SPECIFIED: _SPECIFIED, Variant.SPARSE: _SPARSE}.get(variant, _RECORDED)
    if variant is not Variant.SPECIFIED and "Entropy" not in parts:
        # As recorded, the size of the key is not told, but to whoever has to compute it.
        order = tuple(name for name in order if name != "KeySize")
    children = [parts[name] for name in order if name in parts]
    response = node(Ns.WST("RequestSecurityTokenResponse"))
    if variant is Variant.SPECIFIED:
        children[0].extend(children[1:])
        children = children[:1]
    response.extend(children)
    return response


def rewritten(document: bytes, variant: Variant) -> bytes:
    """The envelope with the variant's prefixes; no value in a response without fault is a QName."""
    root = etree.fromstring(document)
    if variant not in {Variant.NUMBERED, Variant.DEFAULTED}:
        return _with_token_whole(document, root)
    written: bytes = etree.tostring(_renamed(root, variant), encoding="utf-8", xml_declaration=True)
    return written


def _with_token_whole(document: bytes, root: etree._Element) -> bytes:
    """The token with all declarations of its own, as the real service writes it: there are clients that cut it out."""
    token = next(root.iter(Ns.WST("RequestedSecurityToken")))[0]
    name = f"{token.prefix}:{local_name(token)}".encode()
    before, _, rest = document.partition(b"<" + name)
    _, _, after = rest.partition(b"</" + name + b">")
    return before + canonical(token) + after


def _renamed(source: etree._Element, variant: Variant, parent: etree._Element | None = None) -> etree._Element:
    own = cast("Mapping[str, str]", {None: etree.QName(source).namespace})
    attributes = {str(name): str(value) for name, value in source.attrib.items()}
    if parent is None:
        prefixes = _NUMBERED if variant is Variant.NUMBERED else own
        made = etree.Element(source.tag, attributes, nsmap=prefixes)
    else:
        made = etree.SubElement(parent, source.tag, attributes, nsmap=None if variant is Variant.NUMBERED else own)
    made.text = source.text
    for child in source.iterchildren("*"):
        _renamed(child, variant, made)
    return made
