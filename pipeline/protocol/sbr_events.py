"""SBR message events (`event.02.data`): what an agency found in a document, item by item.

Several Event documents may share one attachment, one after the other, each with or without an XML declaration, and with
the delimiters of record-delimited documents between them. Such an attachment is not well-formed XML as it stands.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from lxml import etree

from pipeline.lodgment.outcome import Severity
from pipeline.protocol.namespaces import Ns
from pipeline.protocol.xml import XmlError, require_no_errors, told

ITEM_LIMIT = 500_000
_EVENT, _ITEM = Ns.SBR_EVENT("Event"), Ns.SBR_EVENT("EventItem")
_PIECE = 64 * 1024
_DECLARATION = re.compile(rb"\xef\xbb\xbf|<\?xml\s[^<>]*\?>")
"""It ends before the next markup begins: looked for further, many that never end would take for ever."""
_ENCODING = re.compile(rb"""encoding\s*=\s*["']\s*(?!utf-8|us-ascii)""", re.IGNORECASE)
_PLACEHOLDER = re.compile(r"\{([^{}]{1,200})\}")


@dataclass(frozen=True, slots=True)
class EventLocation:
    instance: str | None
    """The DocumentID of the record that the item is about (`Location.Instance.Identifier`)."""
    path: str | None


@dataclass(frozen=True, slots=True)
class EventItem:
    """One finding. Texts are the agency's, placeholders and all; `short_text` and `detailed_text` have them filled."""

    code: str
    severity: Severity
    short_description: str
    detailed_description: str
    parameters: tuple[tuple[str, str], ...] = ()
    locations: tuple[EventLocation, ...] = ()

    @property
    def short_text(self) -> str:
        return _filled(self.short_description, self.parameters)

    @property
    def detailed_text(self) -> str:
        return _filled(self.detailed_description, self.parameters)


@dataclass(frozen=True, slots=True)
class SbrEvent:
    maximum_severity: Severity
    items: tuple[EventItem, ...]


def read_events(document: bytes) -> Iterator[SbrEvent]:
    """Each Event in an attachment. An Event is good only when all have come: what follows may be malformed.

    Raises:
        XmlError: `xml.malformed` also for a document type declaration; `events.encoding` other than UTF-8;
            `events.severity`; `events.code`; `events.too-many`; `events.none`.
    """
    for declaration in _DECLARATION.findall(document):
        if _ENCODING.search(declaration):
            raise XmlError("events.encoding", "the events must be in UTF-8")
    # Inside an element a DOCTYPE is a syntax error, and so is an end tag that would close the wrapper.
    parser = etree.XMLPullParser(events=("end",), tag=(_EVENT, _ITEM), resolve_entities=False, no_network=True)
    items: list[EventItem] = []
    total, found = 0, False
    for node in _ended(parser, document):
        if node.tag == _ITEM:
            items.append(_item(node))
            total += 1
            if total > ITEM_LIMIT:
                raise XmlError("events.too-many", f"more than {ITEM_LIMIT} event items")
            node.clear()
        else:
            found = True
            yield SbrEvent(_severity(_Children(node).text("MaximumSeverity.Code")), tuple(items))
            items = []
            node.clear()
    if not found:
        raise XmlError("events.none", "there is no Event in the attachment")


def _ended(parser: etree.XMLPullParser, document: bytes) -> Iterator[etree._Element]:
    try:
        parser.feed(b"<events>")
        last = 0
        for declaration in (*_DECLARATION.finditer(document), None):
            end = len(document) if declaration is None else declaration.start()
            for start in range(last, end, _PIECE):
                parser.feed(document[start : min(start + _PIECE, end)])
                for _, node in parser.read_events():
                    yield node  # type: ignore[misc]  # "end" events, the only ones asked for, carry elements
            last = end if declaration is None else declaration.end()
        parser.feed(b"</events>")
        parser.close()
        require_no_errors(parser.feed_error_log)
    except etree.XMLSyntaxError as error:
        raise XmlError("xml.malformed", f"the events are not well formed: {told(error)}") from error


class _Children:
    """The children of an element by name. SBR names grow to the left: `Error.Code` may be `Message.Error.Code`."""

    def __init__(self, node: etree._Element) -> None:
        self._nodes = {one.tag.rpartition("}")[2]: one for one in node.iterchildren("*")}

    def text(self, name: str) -> str:
        found = self._find(name)
        if found is None:
            return ""
        return ("".join(map(str, found.itertext("*"))) if len(found) else found.text or "").strip()

    def each(self, name: str) -> Iterator["_Children"]:
        """The elements in the list `name`."""
        found = self._find(name)
        return iter(()) if found is None else (_Children(one) for one in found.iterchildren("*"))

    def _find(self, name: str) -> etree._Element | None:
        if name in self._nodes:
            return self._nodes[name]
        return next((node for longer, node in self._nodes.items() if longer.endswith(f".{name}")), None)


def _item(node: etree._Element) -> EventItem:
    said = _Children(node)
    code = said.text("Error.Code")
    if not code:
        raise XmlError("events.code", "an event item has no error code")
    return EventItem(
        code=code,
        severity=_severity(said.text("Severity.Code")),
        short_description=said.text("Short.Description"),
        detailed_description=said.text("Detailed.Description"),
        parameters=tuple(
            (one.text("Parameter.Identifier"), one.text("Parameter.Text")) for one in said.each("Parameters")
        ),
        locations=tuple(
            EventLocation(one.text("Location.Instance.Identifier") or None, one.text("Location.Path.Text") or None)
            for one in said.each("Locations")
        ),
    )


def _severity(text: str) -> Severity:
    try:
        return Severity(text.capitalize())
    except ValueError as error:
        raise XmlError("events.severity", "a severity must be Error, Warning or Information") from error


def _filled(text: str, parameters: tuple[tuple[str, str], ...]) -> str:
    """Placeholders without a parameter stay, and what a parameter says is not read for placeholders again."""
    values = dict(parameters)
    return _PLACEHOLDER.sub(lambda found: values.get(found[1].strip(), found[0]), text)
