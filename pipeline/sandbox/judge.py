"""What the services believe of a signature: exactly the parts they asked for, by exactly the algorithms they asked for.

A signature library only says that some octets were signed. Which node they belong to is settled here, before it is
asked: ids are resolved by this module, and a Reference counts only when it leads to the very node that will be read.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import cast

import xmlsec
from lxml import etree

from pipeline.protocol.algorithms import Algorithm
from pipeline.protocol.namespaces import Ns
from pipeline.protocol.xml import XmlError, text_of

ENVELOPED = "http://www.w3.org/2000/09/xmldsig#enveloped-signature"
_XML_ID = "{http://www.w3.org/XML/1998/namespace}id"
_WITH_ID = etree.XPath("//*[@*[translate(local-name(), 'ID', 'id') = 'id']]")
_PREFIX_LIST = f"{{{Algorithm.EXCLUSIVE_C14N}}}InclusiveNamespaces"
_ID_NAMES = (Ns.WSU("Id"), "Id", "ID")


class Rule(StrEnum):
    """Which kind of rule a message breaks."""

    STRUCTURE = "structure"
    ALGORITHM = "algorithm"
    COVERAGE = "coverage"
    VALUE = "value"
    CERTIFICATE = "certificate"


class ForgedError(Exception):
    """A message whose security header cannot be believed."""

    def __init__(self, rule: Rule, text: str) -> None:
        super().__init__(text)
        self.rule = rule


@dataclass(frozen=True, slots=True)
class Identified:
    """An element and the attribute that names it."""

    element: etree._Element
    attribute: str


def identified(root: etree._Element) -> dict[str, Identified]:
    """Every element with an id, by its id, whatever the attribute's namespace or spelling.

    Raises:
        ForgedError: an id stands twice, or an `xml:id`, which libxml2 would resolve on its own.
    """
    found: dict[str, Identified] = {}
    for element in _with_id(root):
        for name, value in cast("list[tuple[str, str]]", element.items()):
            if etree.QName(name).localname.lower() != "id":
                continue
            if name == _XML_ID:
                raise ForgedError(Rule.STRUCTURE, "xml:id is not used in these messages")
            if value in found:
                raise ForgedError(Rule.STRUCTURE, "an id stands twice in the message")
            found[value] = Identified(element, name)
    return found


def _with_id(root: etree._Element) -> list[etree._Element]:
    return _WITH_ID(root)  # type: ignore[return-value]  # this expression selects elements


def only(parent: etree._Element, tag: str) -> etree._Element:
    """The one child `tag` of `parent`, which must also be the only `tag` in the document.

    Raises:
        ForgedError: there is none, there are more, or another hides elsewhere.
    """
    everywhere = list(parent.getroottree().getroot().iter(tag))
    if len(everywhere) != 1 or everywhere[0].getparent() is not parent:
        raise ForgedError(Rule.STRUCTURE, f"exactly one {etree.QName(tag).localname} is expected, in its own place")
    return everywhere[0]


def check_envelope(root: etree._Element) -> None:
    """A SOAP 1.2 Envelope holds one Header, then one Body, and nothing beside them (part 1, 5.1).

    Raises:
        ForgedError: it holds something else.
    """
    if [child.tag for child in root] != [Ns.SOAP("Header"), Ns.SOAP("Body")]:
        raise ForgedError(Rule.STRUCTURE, "an Envelope holds one Header, then one Body, and nothing else")


@dataclass(frozen=True, slots=True)
class Method:
    """By which algorithms a signature must be made. With `prefix_lists` exclusive canonicalization may take its
    InclusiveNamespaces, as Java stacks write it (Exclusive C14N 1.0, 4): more is signed then, never less.
    """

    signature: str
    digest: str = Algorithm.SHA256
    prefix_lists: bool = False


HMAC_SHA256 = Method(Algorithm.HMAC_SHA256)
RSA_SHA256 = Method(Algorithm.RSA_SHA256)


def check_signature(
    signature: etree._Element,
    ids: Mapping[str, Identified],
    covered: Collection[etree._Element],
    method: Method,
    key: xmlsec.Key,
    also: Collection[etree._Element] = (),
) -> None:
    """Believe `signature` only if `key` made it by `method` over all the nodes `covered`, and else only over `also`.

    Raises:
        ForgedError: with the rule that it breaks.
    """
    references = _references(signature, method)
    targets = [_target(reference, ids, method) for reference in references]
    signed = {id(one.element) for one in targets}
    needed = {id(node) for node in covered}
    if len(signed) != len(targets) or not needed <= signed or not signed <= needed | {id(node) for node in also}:
        raise ForgedError(Rule.COVERAGE, "the signature does not cover exactly the parts that it must")
    _verify(signature, targets, key)


def check_enveloped_signature(root: etree._Element, key: xmlsec.Key) -> None:
    """Believe `root`, a SAML assertion, only if its one signature is by `key` over the whole of it (SAML core, 5.4).

    Raises:
        ForgedError: with the rule that it breaks.
    """
    signature = only(root, Ns.DS("Signature"))
    ids = identified(root)
    references = _references(signature, RSA_SHA256)
    transforms = (ENVELOPED, Algorithm.EXCLUSIVE_C14N)
    targets = [_target(reference, ids, RSA_SHA256, transforms) for reference in references]
    if [target.element for target in targets] != [root]:
        raise ForgedError(Rule.COVERAGE, "the assertion's signature does not cover the assertion")
    _verify(signature, targets, key)


def text(element: etree._Element | None, name: str) -> str:
    """The whole text of an element.

    Raises:
        ForgedError: it is missing, or something splits its text.
    """
    if element is None:
        raise ForgedError(Rule.STRUCTURE, f"{name} is missing")
    try:
        return text_of(element)
    except XmlError as error:
        raise ForgedError(Rule.STRUCTURE, f"{name} must hold text only") from error


def _references(signature: etree._Element, method: Method) -> list[etree._Element]:
    names = [child.tag for child in signature]
    if names[:2] != [Ns.DS("SignedInfo"), Ns.DS("SignatureValue")] or names[2:] not in ([], [Ns.DS("KeyInfo")]):
        raise ForgedError(Rule.STRUCTURE, "a signature holds SignedInfo, SignatureValue and perhaps KeyInfo, once each")
    text(signature[1], "SignatureValue")
    parts = list(signature[0])
    if len(parts) < 3:
        raise ForgedError(Rule.STRUCTURE, "SignedInfo holds two methods and the References")
    _check_algorithm(parts[0], "CanonicalizationMethod", Algorithm.EXCLUSIVE_C14N, prefixes=method.prefix_lists)
    _check_algorithm(parts[1], "SignatureMethod", method.signature)
    return parts[2:]


def _check_algorithm(element: etree._Element, name: str, wanted: str, *, prefixes: bool = False) -> None:
    parameters = [child for child in element if not (prefixes and _is_prefix_list(child))]
    if element.tag != Ns.DS(name) or parameters or len(element) > 1 or str(element.xpath("string()")).strip():
        # A child would be InclusiveNamespaces or, worse, HMACOutputLength (XML-Signature 4.4.2; CVE-2009-0217).
        raise ForgedError(Rule.STRUCTURE, f"{name} is misplaced or has parameters")
    if element.get("Algorithm") != wanted:
        raise ForgedError(Rule.ALGORITHM, f"{name} must be {wanted}")


def _is_prefix_list(element: etree._Element) -> bool:
    return element.tag == _PREFIX_LIST and element.keys() == ["PrefixList"] and not len(element) and not element.text


def _target(
    reference: etree._Element,
    ids: Mapping[str, Identified],
    method: Method,
    transforms: tuple[str, ...] = (Algorithm.EXCLUSIVE_C14N,),
) -> Identified:
    if [child.tag for child in reference] != [Ns.DS("Transforms"), Ns.DS("DigestMethod"), Ns.DS("DigestValue")]:
        raise ForgedError(Rule.STRUCTURE, "a Reference holds Transforms, DigestMethod and DigestValue, once each")
    used = list(reference[0])
    if len(used) != len(transforms):
        raise ForgedError(Rule.ALGORITHM, "a Reference has other transforms than the profile's")
    for transform, wanted in zip(used, transforms, strict=True):
        prefixes = method.prefix_lists and wanted == Algorithm.EXCLUSIVE_C14N
        _check_algorithm(transform, "Transform", wanted, prefixes=prefixes)
    _check_algorithm(reference[1], "DigestMethod", method.digest)
    text(reference[2], "DigestValue")
    uri = reference.get("URI", "")
    target = ids.get(uri.removeprefix("#")) if uri.startswith("#") else None
    if target is None or target.attribute not in _ID_NAMES:
        raise ForgedError(Rule.COVERAGE, "a Reference leads to no element of this message")
    return target


def _verify(signature: etree._Element, targets: Collection[Identified], key: xmlsec.Key) -> None:
    context = xmlsec.SignatureContext()
    context.key = key
    try:
        for target in targets:
            attribute = etree.QName(target.attribute)
            context.register_id(target.element, attribute.localname, attribute.namespace)
        context.verify(signature)
    except xmlsec.Error as error:
        raise ForgedError(Rule.VALUE, "the signature's value does not hold") from error
