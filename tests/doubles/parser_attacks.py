"""Documents made to hurt a parser: each turns a genuine document into an attack of the same shape."""

import gzip
from collections.abc import Callable

Attack = Callable[[bytes], bytes]
TELLTALE = "SYNTHETIC-SECRET"
"""What the file holds that an external entity points to."""


def with_doctype(internal: str, content: str = "") -> Attack:
    """A document type declaration in front of the root, and content at its end that may use it."""

    def attack(document: bytes) -> bytes:
        return f"<!DOCTYPE x{internal}>".encode() + inside(content)(document)

    return attack


def inside(content: str | bytes) -> Attack:
    """Content at the end of the root element."""
    written = content if isinstance(content, bytes) else content.encode()

    def attack(document: bytes) -> bytes:
        end = document.rindex(b"</")
        return document[:end] + written + document[end:]

    return attack


def on_the_root(attributes: str) -> Attack:
    """More on the root's start tag."""

    def attack(document: bytes) -> bytes:
        start = document.index(b"<")
        end = min(document.index(mark, start) for mark in (b" ", b">", b"/") if document.find(mark, start) > 0)
        return document[:end] + b" " + attributes.encode() + document[end:]

    return attack


def _laughs() -> str:
    entities = "".join(f'<!ENTITY l{number} "' + f"&l{number - 1};" * 10 + '">' for number in range(1, 10))
    return f' [<!ENTITY l0 "ha">{entities}]'


def _one_long_entity() -> str:
    return ' [<!ENTITY e "' + "x" * 60_000 + '">]'


def declared(secret_file: str, address: str) -> dict[str, Attack]:
    """Everything that needs a document type declaration; `address` is one that nobody may be seen to call."""
    return {
        "a bare declaration": with_doctype(""),
        "an internal entity": with_doctype(' [<!ENTITY e "x">]', "&e;"),
        "an external entity from a file": with_doctype(f' [<!ENTITY e SYSTEM "file://{secret_file}">]', "&e;"),
        "an external entity from the network": with_doctype(f' [<!ENTITY e SYSTEM "{address}">]', "&e;"),
        "a parameter entity from the network": with_doctype(f' [<!ENTITY % e SYSTEM "{address}"> %e;]'),
        "a parameter entity from a file": with_doctype(f' [<!ENTITY % e SYSTEM "file://{secret_file}"> %e;]'),
        "an external subset": with_doctype(f' SYSTEM "{address}"'),
        "a public external subset": with_doctype(f' PUBLIC "-//SYNTHETIC//" "{address}"'),
        "billion laughs": with_doctype(_laughs(), "&l9;"),
        "billion laughs in an attribute": with_doctype(_laughs(), '<a b="&l9;"/>'),
        "quadratic blow-up": with_doctype(_one_long_entity(), "&e;" * 60_000),
        "quadratic blow-up in an attribute": with_doctype(_one_long_entity(), '<a b="' + "&e;" * 60_000 + '"/>'),
        "an entity that holds itself": with_doctype(' [<!ENTITY e "&f;"><!ENTITY f "&e;">]', "&e;"),
        "attribute defaults": with_doctype(' [<!ATTLIST x Id CDATA "forged">]'),
    }


OVERSIZED: dict[str, Attack] = {
    "100,000 levels": inside("<a>" * 100_000 + "</a>" * 100_000),
    "300 levels": inside("<a>" * 300 + "</a>" * 300),
    "100,000 attributes": inside("<a " + " ".join(f"a{n}='1'" for n in range(100_000)) + "/>"),
    "50,000 namespaces": inside("<a " + " ".join(f"xmlns:n{n}='urn:n{n}'" for n in range(50_000)) + "/>"),
}
"""Well formed, and more than any message needs."""
BROKEN: dict[str, Attack] = {
    "nothing": lambda _: b"",
    "cut short": lambda document: document[: len(document) * 2 // 3],
    "compressed": gzip.compress,
    "two roots": lambda document: document + document,
    "a NUL": inside("\0"),
    "a control character": inside("&#1;"),
    "no such entity": inside("&nbsp;"),
    "not UTF-8": inside(b"\xff\xfe\xfd"),
    "an undeclared prefix": inside("<nobody:a/>"),
    "an attribute twice": inside('<a b="" b=""/>'),
    "crossed tags": inside("<a><b></a></b>"),
}
"""Not well formed: `recover` would make something of them."""
