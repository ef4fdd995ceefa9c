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
from pipeline.protocol.xml import XmlError, local_name

ITEM_LIMIT = 500_000
_PIECE = 64 * 1024
_DECLARATION = re.compile(rb"\xef\xbb\xbf|<\?xml\s[^>]*\?>")
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
    parser = etree.XMLPullParser(events=("end",), resolve_entities=False, no_network=True)
    items: list[EventItem] = []
    total, found = 0, False
    for node in _ended(parser, document):
        if node.tag == Ns.SBR_EVENT("EventItem"):
            items.append(_item(node))
            total += 1
            if total > ITEM_LIMIT:
                raise XmlError("events.too-many", f"more than {ITEM_LIMIT} event items")
            node.clear()
        elif node.tag == Ns.SBR_EVENT("Event"):
            found = True
            yield SbrEvent(_severity(_child_text(node, "MaximumSeverity.Code")), tuple(items))
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
    except etree.XMLSyntaxError as error:
        raise XmlError("xml.malformed", f"the events are not well formed: {error}") from error


def _item(node: etree._Element) -> EventItem:
    code = _child_text(node, "Error.Code")
    if not code:
        raise XmlError("events.code", "an event item has no error code")
    parameters, locations = _children(node, "Parameters"), _children(node, "Locations")
    return EventItem(
        code=code,
        severity=_severity(_child_text(node, "Severity.Code")),
        short_description=_child_text(node, "Short.Description"),
        detailed_description=_child_text(node, "Detailed.Description"),
        parameters=tuple(
            (_child_text(one, "Parameter.Identifier"), _child_text(one, "Parameter.Text")) for one in parameters
        ),
        locations=tuple(
            EventLocation(
                _child_text(one, "Location.Instance.Identifier") or None,
                _child_text(one, "Location.Path.Text") or None,
            )
            for one in locations
        ),
    )


def _children(node: etree._Element, name: str) -> list[etree._Element]:
    return [below for one in node.iterchildren("*") if _is(one, name) for below in one.iterchildren("*")]


def _child_text(node: etree._Element, name: str) -> str:
    found = next((one for one in node.iterchildren("*") if _is(one, name)), None)
    return "" if found is None else "".join(map(str, found.itertext("*", with_tail=True))).strip()


def _is(node: etree._Element, name: str) -> bool:
    """SBR names grow to the left: `Error.Code` is `Message.Event.Item.Error.Code` in older schemas."""
    return f".{local_name(node)}".endswith(f".{name}")


def _severity(text: str) -> Severity:
    try:
        return Severity(text.capitalize())
    except ValueError as error:
        raise XmlError("events.severity", "a severity must be Error, Warning or Information") from error


def _filled(text: str, parameters: tuple[tuple[str, str], ...]) -> str:
    """Placeholders without a parameter stay, and what a parameter says is not read for placeholders again."""
    values = dict(parameters)
    return _PLACEHOLDER.sub(lambda found: values.get(found[1].strip(), found[0]), text)
