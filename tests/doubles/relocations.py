"""Signature wrapping as a corpus: every signed element, moved to every place, with every kind of id in its old one.

The places are those of the attacks on SAML (XSW 1 to 8) and of the four contexts of SOAP (simple ancestry, optional
element, sibling value, sibling order).
"""

import copy
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from lxml import etree

from tests.doubles.sandbox_messages import DS, SOAP, WSSE, WSU_ID, at, element

Find = Callable[[etree._Element], etree._Element]
Bend = Callable[[etree._Element], None]
_WRAPPER = "{urn:synthetic}wrapper"


class Substitute(StrEnum):
    """What stands where the original stood."""

    NOTHING = "nothing, or a foreign element where one is needed"
    WITHOUT_ID = "a forgery without id"
    NEW_ID = "a forgery with a new id"
    SAME_ID = "a forgery with the same id"


@dataclass(frozen=True, slots=True)
class Target:
    """A signed element: how it is found, and what a forger would change in a copy of it."""

    name: str
    find: Find
    forge: Bend
    in_security: bool = True


@dataclass(frozen=True, slots=True)
class Relocation:
    """One message of the corpus; `apply` bends a well-signed one into it."""

    target: Target
    place: str
    substitute: Substitute

    def __str__(self) -> str:
        return f"{self.target.name} moved {self.place}, in its place {self.substitute}"

    def apply(self, root: etree._Element) -> None:
        original = self.target.find(root)
        forged = copy.deepcopy(original)
        forged.tail = None
        self.target.forge(forged)
        name = WSU_ID if original.get(WSU_ID) is not None else "Id"
        if self.substitute is Substitute.WITHOUT_ID:
            del forged.attrib[name]
        elif self.substitute is Substitute.NEW_ID:
            forged.set(name, "forged")
        parent = original.getparent()
        assert parent is not None
        if self.substitute is Substitute.NOTHING:
            forged = element("{urn:synthetic}placeholder")
        parent.replace(original, forged)
        PLACES[self.place](root, original, forged)
        if self.substitute is Substitute.NOTHING and self.place not in _BOUND_TO_SUBSTITUTE:
            parent.remove(forged)

    @property
    def alters_what_is_signed(self) -> bool:
        """The original stays where it was with something foreign in it: here the digest may be what does not hold."""
        return PLACES[self.place] is _around_forged


def relocations(targets: Sequence[Target]) -> Iterator[Relocation]:
    """All but the mere change of order within Security, which WS-Security leaves free (5)."""
    for target, place, substitute in itertools.product(targets, PLACES, Substitute):
        reordered = target.in_security and substitute is Substitute.NOTHING and PLACES[place] is _end_of_security
        if not reordered:
            yield Relocation(target, place, substitute)


Place = Callable[[etree._Element, etree._Element, etree._Element], None]


def _first_header(root: etree._Element, original: etree._Element, _: etree._Element) -> None:
    root.find(f"{{{SOAP}}}Header").insert(0, element(_WRAPPER, original))  # type: ignore[union-attr]  # every message has one


def _last_header(root: etree._Element, original: etree._Element, _: etree._Element) -> None:
    root.find(f"{{{SOAP}}}Header").append(element(_WRAPPER, original))  # type: ignore[union-attr]  # every message has one


def _wrapper_in_security(root: etree._Element, original: etree._Element, _: etree._Element) -> None:
    at(root, f"{{{WSSE}}}Security").append(element(_WRAPPER, original))


def _end_of_security(root: etree._Element, original: etree._Element, _: etree._Element) -> None:
    at(root, f"{{{WSSE}}}Security").append(original)


def _second_security(root: etree._Element, original: etree._Element, _: etree._Element) -> None:
    at(root, f"{{{WSSE}}}Security").addnext(element(f"{{{WSSE}}}Security", original))


def _signature_object(root: etree._Element, original: etree._Element, _: etree._Element) -> None:
    _a_signature(root).append(element(f"{{{DS}}}Object", original))


def _in_signature(root: etree._Element, original: etree._Element, _: etree._Element) -> None:
    _a_signature(root).insert(0, original)


def _a_signature(root: etree._Element) -> etree._Element:
    """The last, or an empty one when the only one was moved."""
    signatures = list(root.iter(f"{{{DS}}}Signature"))
    return signatures[-1] if signatures else etree.SubElement(at(root, f"{{{WSSE}}}Security"), f"{{{DS}}}Signature")


def _in_forged(_: etree._Element, original: etree._Element, forged: etree._Element) -> None:
    forged.append(original)


def _around_forged(_: etree._Element, original: etree._Element, forged: etree._Element) -> None:
    parent = forged.getparent()
    assert parent is not None
    parent.replace(forged, original)
    original.append(forged)


def _in_business_body(root: etree._Element, original: etree._Element, _: etree._Element) -> None:
    bodies = list(root.iter(f"{{{SOAP}}}Body")) or [root]
    bodies[0][0].append(element(_WRAPPER, original))


def _before_header(root: etree._Element, original: etree._Element, _: etree._Element) -> None:
    root.insert(0, original)


def _end_of_envelope(root: etree._Element, original: etree._Element, _: etree._Element) -> None:
    root.append(element(_WRAPPER, original))


PLACES: dict[str, Place] = {
    "under a wrapper as the first header": _first_header,
    "under a wrapper as the last header": _last_header,
    "under a wrapper in Security": _wrapper_in_security,
    "to the end of Security": _end_of_security,
    "into a second Security": _second_security,
    "into an Object of a signature": _signature_object,
    "into a signature": _in_signature,
    "into what replaces it": _in_forged,
    "around what replaces it": _around_forged,
    "into the business document": _in_business_body,
    "before the header": _before_header,
    "to the end of the envelope": _end_of_envelope,
}
_BOUND_TO_SUBSTITUTE = {name for name, place in PLACES.items() if place in {_in_forged, _around_forged}}
