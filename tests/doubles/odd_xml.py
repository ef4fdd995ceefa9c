"""Payloads nobody should send and somebody will: a Hypothesis strategy for every trick that well-formed XML allows."""

from xml.sax.saxutils import escape, quoteattr

from hypothesis import strategies as st

SOAP = "http://www.w3.org/2003/05/soap-envelope"
WSU = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-utility-1.0.xsd"
DS = "http://www.w3.org/2000/09/xmldsig#"
XSI = "http://www.w3.org/2001/XMLSchema-instance"
HEADER = "uri:business.document.header.types.asic.gov.au"

_PREFIXES = ("", "soap", "soap1", "wsu", "msg", "hdr", "ds", "b", "ü")
_NAMES = st.sampled_from(("name", "Body", "request", "größe", "Signature", "businessDocumentHeader"))
_TEXT = st.one_of(
    st.text(st.characters(blacklist_categories=("Cs", "Cc"), blacklist_characters="\ufffe\uffff"), max_size=12),
    st.sampled_from(
        (' xmlns:soap="x"', "]]>", "\t\n", "soap:Body", "b:one/b:two", "&amp;", "a > b", "ключ", "\U0001d518", "\u2028")
    ),
)
_RAW = st.sampled_from(
    ("&#13;", "&#13;&#10;", "<![CDATA[<&]]>", "<![CDATA[]]>", "<!-- soap:x -->", "&quot;&apos;", "\r\n", "")
)
_ATTRIBUTES = ("xml:lang", "xml:space", "xml:base", "id", "Id", "zeta", "wsu:Id", "b:attr", "soap:attr", "xsi:type")


@st.composite
def odd_payloads(draw: st.DrawFn, namespace: str) -> bytes:
    """A `businessDocumentBody` in `namespace`, UTF-8 or UTF-16, its prefixes chosen to collide with the envelope's."""
    uris = (namespace, SOAP, WSU, DS, HEADER, "urn:x", "urn:y")
    prefix = draw(st.sampled_from(_PREFIXES))
    document = _element(draw, "businessDocumentBody", prefix, {}, uris, depth=0, bound_to=namespace)
    encoding = draw(st.sampled_from(("UTF-8", "UTF-16", "")))
    declaration = f'<?xml version="1.0" encoding="{encoding}"?>\n' if encoding else ""
    return (declaration + document).encode(encoding or "UTF-8")


def _element(
    draw: st.DrawFn,
    name: str,
    prefix: str,
    scope: dict[str, str],
    uris: tuple[str, ...],
    *,
    depth: int,
    bound_to: str | None = None,
) -> str:
    declared = draw(st.dictionaries(st.sampled_from(_PREFIXES), st.sampled_from(uris), max_size=3))
    if bound_to is not None:
        declared[prefix] = bound_to
    elif not prefix and draw(st.booleans()):
        declared[""] = ""
    scope = {**scope, **declared}
    if prefix and prefix not in scope:
        declared[prefix] = scope[prefix] = draw(st.sampled_from(uris))
    attributes = _attributes(draw, declared, scope)
    tag = f"{prefix}:{name}" if prefix else name
    namespaces = "".join(f" xmlns{':' if one else ''}{one}={quoteattr(uri)}" for one, uri in declared.items())
    content = ""
    for _ in range(draw(st.integers(0, 3 if depth < 3 else 0))):
        child = draw(st.sampled_from((*(one for one in scope if one), "")))
        content += draw(_RAW) + _element(draw, draw(_NAMES), child, scope, uris, depth=depth + 1)
    content += escape(draw(_TEXT)) + draw(_RAW)
    return f"<{tag}{namespaces}{attributes}>{content}</{tag}>" if content else f"<{tag}{namespaces}{attributes} />"


def _attributes(draw: st.DrawFn, declared: dict[str, str], scope: dict[str, str]) -> str:
    """Attributes, no two of which have one expanded name; a prefix that they need is declared."""
    written: dict[tuple[str, str], str] = {}
    for name in draw(st.lists(st.sampled_from(_ATTRIBUTES), max_size=4, unique=True)):
        prefix, _, local = name.rpartition(":")
        if prefix and prefix != "xml" and prefix not in scope:
            declared[prefix] = scope[prefix] = XSI if prefix == "xsi" else WSU
        value = (
            draw(st.sampled_from(tuple(f"{one}:T" for one in scope if one) or ("T",)))
            if local == "type"
            else draw(_TEXT)
        )
        if name == "xml:space":
            value = "preserve"
        written[scope.get(prefix, prefix), local] = f" {name}={quoteattr(value)}"
    return "".join(written.values())
