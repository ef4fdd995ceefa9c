"""Message events as an agency writes them (`event.02.data`); every text in them is synthetic."""

from collections.abc import Sequence
from dataclasses import dataclass

from lxml import etree

from pipeline.protocol.namespaces import Ns
from pipeline.sandbox.soap import node

_GRAVITY = ("Information", "Warning", "Error")


@dataclass(frozen=True, slots=True)
class Item:
    """One finding. `record` is the DocumentID that it is about; placeholders in `text` are filled from `parameters`."""

    code: str
    text: str
    severity: str = "Error"
    parameters: tuple[tuple[str, str], ...] = ()
    record: str | None = None
    path: str | None = None


def write_events(items: Sequence[Item]) -> bytes:
    """One Event document."""
    gravest = max((item.severity for item in items), key=_GRAVITY.index)
    event = node(
        Ns.SBR_EVENT("Event"),
        node(Ns.SBR_EVENT("MaximumSeverity.Code"), gravest),
        node(Ns.SBR_EVENT("EventItems"), *map(_item, items)),
        prefixes={"tns": Ns.SBR_EVENT.value},
    )
    document: bytes = etree.tostring(event, encoding="utf-8", xml_declaration=True)
    return document


def _item(item: Item) -> etree._Element:
    parts = [
        node(Ns.SBR_EVENT("Error.Code"), item.code),
        node(Ns.SBR_EVENT("Severity.Code"), item.severity),
        node(Ns.SBR_EVENT("Short.Description"), "SYNTHETIC"),
        node(Ns.SBR_EVENT("Detailed.Description"), item.text),
    ]
    if item.parameters:
        parts.append(
            node(
                Ns.SBR_EVENT("Parameters"),
                *(
                    node(
                        Ns.SBR_EVENT("Parameter"),
                        node(Ns.SBR_EVENT("Parameter.Identifier"), name),
                        node(Ns.SBR_EVENT("Parameter.Text"), value),
                    )
                    for name, value in item.parameters
                ),
            )
        )
    if item.record is not None:
        location = node(
            Ns.SBR_EVENT("Location"),
            node(Ns.SBR_EVENT("Location.Instance.Identifier"), item.record),
            node(Ns.SBR_EVENT("Location.Path.Text"), item.path or "/"),
        )
        parts.append(node(Ns.SBR_EVENT("Locations"), location))
    return node(Ns.SBR_EVENT("EventItem"), *parts)
