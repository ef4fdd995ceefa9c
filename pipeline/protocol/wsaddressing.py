"""WS-Addressing 1.0: the message's properties in the SOAP header, each written in its exclusive canonical form."""

from pipeline.protocol.fragments import element
from pipeline.protocol.namespaces import Ns
from pipeline.protocol.xml import escape_attribute, escape_text

ANONYMOUS = f"{Ns.WSA}/anonymous"
"""Reply on the same connection (WS-Addressing 1.0 Core, 2.1)."""


def action(uri: str) -> bytes:
    """The `wsa:Action` header."""
    return element(
        "wsa:Action",
        escape_text(uri),
        declared={"soap": Ns.SOAP, "wsa": Ns.WSA},
        attributes={"soap:mustUnderstand": "1"},
    ).encode()


def message_id(uri: str) -> bytes:
    """The `wsa:MessageID` header; a reply repeats `uri` in `wsa:RelatesTo`."""
    return element("wsa:MessageID", escape_text(uri), declared={"wsa": Ns.WSA}).encode()


def reply_to_anonymous() -> bytes:
    """The `wsa:ReplyTo` header of a synchronous exchange."""
    return element("wsa:ReplyTo", element("wsa:Address", ANONYMOUS), declared={"wsa": Ns.WSA}).encode()


def to(url: str, element_id: str) -> bytes:
    """The `wsa:To` header, with an id by which it can be signed; attributes sort by namespace, WSU before SOAP."""
    return (
        f'<wsa:To xmlns:soap="{Ns.SOAP}" xmlns:wsa="{Ns.WSA}" xmlns:wsu="{Ns.WSU}"'
        f' wsu:Id="{escape_attribute(element_id)}" soap:mustUnderstand="1">{escape_text(url)}</wsa:To>'
    ).encode()
