"""The one place where XML is parsed, put in canonical form and escaped."""

import re
from collections.abc import Sequence

from lxml import etree

from pipeline.protocol.namespaces import Ns

DOCUMENT_LIMIT = 50 * 1024 * 1024
"""Bytes of a message in either direction (WIG 2.2.3)."""
ELEMENT_LIMIT = 2_000_000
ATTRIBUTE_LIMIT = 1_000
"""Attributes on one element; libxml2 itself sets no bound."""
NAMESPACE_LIMIT = 20_000
"""Namespace declarations in one document: looking one up costs in proportion to those in scope."""
_HUGE = 9_000_000
"""From this size on a text node may pass libxml2's own 10 MB bound, which only `huge_tree` lifts."""
_TOLD = 300
"""Characters that are kept of what the library says."""
_IN_QUOTES = re.compile(r"'.*'", re.DOTALL)
_A_NAME = re.compile(r"'[\w.:-]{1,40}'")
_NOT_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
"""What XML 1.0, 2.2 leaves out of Char."""
_PLAIN = re.compile(r"[A-Za-z0-9 ._:/#+=-]*")
"""Nearly every value that is written: nothing in it needs a second look."""
_IN_TEXT = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", "\r": "&#xD;"})
_IN_ATTRIBUTE = str.maketrans({"&": "&amp;", "<": "&lt;", '"': "&quot;", "\t": "&#x9;", "\n": "&#xA;", "\r": "&#xD;"})


class XmlError(ValueError):
    """Input that is not acceptable XML. `code` says which rule it breaks."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


def parse(document: bytes, limit: int = DOCUMENT_LIMIT) -> etree._Element:
    """The root element of `document`: no entities, no DTD, no network, bounded in bytes, depth and width.

    Raises:
        XmlError: `xml.size`, `xml.malformed`, `xml.doctype` or `xml.width`.
    """
    if len(document) > limit:
        raise XmlError("xml.size", f"the document has {len(document)} bytes, more than the {limit} allowed")
    if document.count(b"xmlns") + document.count(b"x\0m\0l\0n\0s") > NAMESPACE_LIMIT:
        raise XmlError("xml.width", f"more than {NAMESPACE_LIMIT} namespace declarations")
    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, load_dtd=False, dtd_validation=False, huge_tree=len(document) > _HUGE
    )
    try:
        root = etree.fromstring(document, parser)
    except (etree.XMLSyntaxError, ValueError) as error:
        raise XmlError("xml.malformed", f"not well formed: {told(error)}") from error
    require_no_errors(parser.error_log)
    docinfo = root.getroottree().docinfo
    if docinfo.internalDTD is not None:
        raise XmlError("xml.doctype", "a document type declaration is not allowed (SOAP 1.2, 5)")
    # Without this many marks in its bytes the document cannot be too wide: most are spared the walk.
    if document.count(b"<") > ELEMENT_LIMIT or document.count(b"=") > ATTRIBUTE_LIMIT:
        _check_width(root)
    return root


def require_no_errors(log: etree._ListErrorLog) -> None:
    """Refuse what libxml2 called an error and lxml lets pass: it looks at the last entry, and libxml2 goes on after an
    undeclared prefix, so that a later warning hides it.

    Raises:
        XmlError: `xml.malformed`.
    """
    for entry in log.filter_from_errors():
        raise XmlError("xml.malformed", f"not well formed: {told(entry.message)}, line {entry.line}")


def told(error: Exception | str) -> str:
    """What libxml2 says, on one line and not too long. It quotes names and values of the document as they came: of
    these only names stay, a value may be anything.
    """
    said = _IN_QUOTES.sub(lambda found: found[0] if _A_NAME.fullmatch(found[0]) else "a value", str(error))
    return " ".join("".join(one if one.isprintable() else " " for one in said[:_TOLD]).split())


def _check_width(root: etree._Element) -> None:
    for count, element in enumerate(root.iter("*")):
        if count > ELEMENT_LIMIT:
            raise XmlError("xml.width", f"more than {ELEMENT_LIMIT} elements")
        if len(element.attrib) > ATTRIBUTE_LIMIT:
            raise XmlError("xml.width", f"more than {ATTRIBUTE_LIMIT} attributes on one element")


def canonical(element: etree._Element, *, exclusive: bool = True, prefixes: Sequence[str] = ()) -> bytes:
    """The element as a document subset in Exclusive XML Canonicalization 1.0 (or inclusive, 1.0), without comments.

    `prefixes` are those of an InclusiveNamespaces PrefixList (Exclusive C14N 1.0, 4).

    Raises:
        XmlError: `xml.canonical`; a failure here must never pass as the digest of nothing.
    """
    try:
        content: bytes = etree.tostring(
            element,
            method="c14n",
            exclusive=exclusive,
            with_comments=False,
            with_tail=False,
            inclusive_ns_prefixes=list(prefixes) or None,
        )
    except (etree.C14NError, ValueError) as error:
        raise XmlError("xml.canonical", f"cannot be put in canonical form: {told(error)}") from error
    if not content:
        raise XmlError("xml.canonical", "the canonical form is empty")
    return content


def escape_text(value: str) -> str:
    """Character data as canonical XML writes it (XML-C14N 1.0, 2.3)."""
    return value if _PLAIN.fullmatch(value) else _refuse_not_xml(value).translate(_IN_TEXT)


def escape_attribute(value: str) -> str:
    """An attribute value, to stand between double quotes, as canonical XML writes it (XML-C14N 1.0, 2.3)."""
    return value if _PLAIN.fullmatch(value) else _refuse_not_xml(value).translate(_IN_ATTRIBUTE)


def text_of(element: etree._Element) -> str:
    """The whole text of an element that must hold text only.

    Raises:
        XmlError: `xml.text` when it holds elements, comments or processing instructions, which would split its text.
    """
    if len(element):
        raise XmlError("xml.text", f"{local_name(element)} must hold text only")
    return (element.text or "").strip()


def local_name(element: etree._Element) -> str:
    """The element's name without its namespace."""
    return etree.QName(element).localname


def ids_of(root: etree._Element) -> dict[str, etree._Element]:
    """Every `wsu:Id`, and `Id`, `ID`, `id` without namespace, with the element that carries it.

    Raises:
        XmlError: `xml.duplicate-id` when two elements, or two spellings on one, share a value (XSW defence).
    """
    found: dict[str, etree._Element] = {}
    for element in root.iter("*"):
        for name in (Ns.WSU("Id"), "Id", "ID", "id"):
            value = element.get(name)
            if value is None:
                continue
            if value in found:
                raise XmlError("xml.duplicate-id", f"the id {value[:80]!r} stands twice")
            found[value] = element
    return found


def _refuse_not_xml(value: str) -> str:
    found = _NOT_XML.search(value)
    if found is not None:
        raise XmlError("xml.character", f"U+{ord(found[0]):04X} cannot be written in XML 1.0")
    return value
