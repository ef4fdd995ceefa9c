"""Fragments of XML written directly in exclusive canonical form, and documents that are spliced between them unchanged.

A fragment that declares exactly the namespaces which it visibly uses, in the order of XML-C14N 1.0, 2.3, is its own
canonical form wherever it stands: the bytes that are digested are the bytes that are sent, and nothing is parsed twice.
"""

import itertools
import re
from collections.abc import Iterator, Mapping

from lxml import etree

from pipeline.protocol.xml import XmlError, canonical, escape_attribute, parse

_NOTHING: Mapping[str, str] = {}
_UNLIKE_CANONICAL = b" >"
"""How a spliced document ends that is not its own canonical form: there is never a space there (XML-C14N 1.0, 2.3)."""
_DECLARATION_START = b" xmlns:"
_TO_COLON = len(_DECLARATION_START) - 1
_FEW_COLONS = 4
_DECLARED = re.compile(rb' xmlns:([^\s="]+)=')
_AMPERSAND = re.compile(rb' xmlns(?::[^\s="]+)?="[^"]*&')
"""A sign of a namespace name that libxml2 leaves unescaped, against XML-C14N 1.0, 2.3; it may be mere text."""
_MANY_DECLARATIONS = 500
"""Above this the question whether one of them is lost costs more than the general path does."""


def start_tag(tag: str, declared: Mapping[str, str] = _NOTHING, attributes: Mapping[str, str] = _NOTHING) -> str:
    """A start tag as canonical XML writes it; prefixed `attributes` must share one namespace, they sort last."""
    namespaces = "".join(f' xmlns:{prefix}="{escape_attribute(declared[prefix])}"' for prefix in sorted(declared))
    names = sorted(attributes, key=lambda name: (":" in name, name))
    values = "".join(f' {name}="{escape_attribute(attributes[name])}"' for name in names)
    return f"<{tag}{namespaces}{values}>"


def element(
    name: str, content: str = "", *, declared: Mapping[str, str] = _NOTHING, attributes: Mapping[str, str] = _NOTHING
) -> str:
    """An element around `content`, which is a fragment already or text from `escape_text`."""
    return f"{start_tag(name, declared, attributes)}{content}</{name}>"


def spliceable(root: etree._Element) -> bytes:
    """The bytes of `root`, without comments, for use inside another document under prefixes with a `free_suffix`.

    They are its exclusive canonical form wherever that form keeps the meaning of every value. It drops declarations
    that no element or attribute name uses, so `xsi:type="t:Name"` can lose its `t` (Exclusive C14N 1.0, 1.3): such a
    document keeps them all, and `signed_form` gives what is digested.

    Raises:
        XmlError: `xml.canonical`, also for a namespace name that implementations write differently.
    """
    exclusive = canonical(root)
    inclusive = canonical(root, exclusive=False)
    if _AMPERSAND.search(inclusive) and any("&" in uri for _, (_, uri) in _declarations(root)):
        raise XmlError("xml.canonical", "a namespace name holds an ampersand, which libxml2 does not escape")
    if exclusive == inclusive or not _loses_a_name(root, exclusive, inclusive):
        return exclusive
    return inclusive.removesuffix(b">") + _UNLIKE_CANONICAL


def signed_form(document: bytes) -> bytes:
    """The exclusive canonical form of bytes from `spliceable`: almost always those bytes themselves."""
    return canonical(parse(document)) if document.endswith(_UNLIKE_CANONICAL) else document


def free_suffix(names: re.Pattern[bytes], document: bytes) -> str:
    """Nothing, or else the first number with which `document` declares no prefix of `names` (from `prefix_names`).

    Under an ancestor with such a prefix no declaration in the document is superfluous, so its canonical form inside the
    envelope is its canonical form alone.
    """
    if not _declares(names, document):
        return ""
    taken = set(names.findall(document))
    return next(suffix for number in itertools.count(1) if (suffix := str(number)).encode() not in taken)


def _declares(names: re.Pattern[bytes], document: bytes) -> bool:
    """Whether one of `names` is found, from the end, which takes half the time of searching for the pattern.

    A document with few colons is through in a tenth of that: a single byte is found faster than any word.
    """
    end = len(document)
    for _ in range(_FEW_COLONS):
        end = document.rfind(b":", 0, end)
        if end < 0:
            return False
        if names.match(document, max(0, end - _TO_COLON)) is not None:
            return True
    at = document.rfind(_DECLARATION_START, 0, end)
    while at >= 0:
        if names.match(document, at) is not None:
            return True
        at = document.rfind(_DECLARATION_START, 0, at)
    return False


def prefix_names(*names: str) -> re.Pattern[bytes]:
    """Finds declarations of these prefixes, and of those that differ by a number at the end, in canonical XML."""
    return re.compile(rf" xmlns:(?:{'|'.join(names)})([0-9]*)=".encode())


def _declarations(root: etree._Element) -> Iterator[tuple[str, tuple[str, str]]]:
    return iter(etree.iterwalk(root, events=("start-ns",)))


def _loses_a_name(root: etree._Element, exclusive: bytes, inclusive: bytes) -> bool:
    """Whether a value may name a prefix, or rely on a default namespace, whose declaration `exclusive` leaves out."""
    declared = set(_DECLARED.findall(inclusive))
    if len(declared) > _MANY_DECLARATIONS:
        return True
    prefixes = tuple(prefix.decode() for prefix in declared)
    has_default = b' xmlns="' in inclusive
    for before, after in zip(root.iter("*"), parse(exclusive).iter("*"), strict=True):
        named: set[str | None] = {prefix for value in _values(after) for prefix in _named(value, prefixes)}
        if has_default:
            named.add(None)
        # `xmlns=""` says what saying nothing says.
        if any((before.nsmap.get(prefix) or None) != (after.nsmap.get(prefix) or None) for prefix in named):
            return True
    return False


def _values(node: etree._Element) -> list[str]:
    texts = [node.text, *(child.tail for child in node), *map(str, node.attrib.values())]
    return [text for text in texts if text and ":" in text]


def _named(value: str, prefixes: tuple[str, ...]) -> set[str]:
    """The prefixes before colons in `value`, in a QName or in an XPath: perhaps one too many, never one too few."""
    ends = value.split(":")[:-1]
    return {prefix for end in ends if end.endswith(prefixes) for prefix in prefixes if end.endswith(prefix)}
