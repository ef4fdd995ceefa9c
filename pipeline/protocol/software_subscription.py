"""The software id of an SBR1 message: one more element in wsse:Security, put there after everything is signed.

Cloud software authorisation page, "Passing of the software ID for SBR1": the element is `softwareSubscriptionId` in a
namespace of its own, it stands in the Security header, and it breaks no signature. So bytes are inserted and none is
changed; the one thing that could break a signature, a reference to something around the new element, is refused.

A tree does not tell where in the bytes an element ends, so the tags are read by expat here; no DOCTYPE passes, and so
no entity.
"""

from collections.abc import Mapping
from xml.parsers import expat

from pipeline.protocol.fragments import element
from pipeline.protocol.namespaces import Ns
from pipeline.protocol.xml import XmlError, escape_text

_NAME = "softwareSubscriptionId"
_SEPARATOR = " "
"""Between namespace and local name, as expat joins them; no URI holds a space."""
_ID_NAMES = (f"{Ns.WSU}{_SEPARATOR}Id", "Id", "ID", "id")
_ENVELOPES = {f"{soap}{_SEPARATOR}Envelope": f"{soap}{_SEPARATOR}Header" for soap in (Ns.SOAP, Ns.SOAP11)}
_SECURITY = f"{Ns.WSSE}{_SEPARATOR}Security"
_REFERENCE = f"{Ns.DS}{_SEPARATOR}Reference"
_PRESENT = f"{Ns.SOFTWARE_SUBSCRIPTION}{_SEPARATOR}{_NAME}"


def with_software_id(head: bytes, digits: str) -> bytes:
    """`head` with the software id as the last child of wsse:Security; all other bytes as they were.

    `head` is a sealed SOAP envelope in UTF-8, or any beginning of one that reaches past its Header: the payload behind
    it need not be read.

    Raises:
        XmlError: `subscription.shape` without exactly one Header with exactly one Security that holds something,
            `subscription.present` when the element is there already, `subscription.signed` when a signature covers
            Security, Header or Envelope whole, `subscription.encoding`, `xml.doctype`, `xml.malformed`.
    """
    if b"\0" in head[:4]:
        raise XmlError("subscription.encoding", "the message must be in UTF-8")
    end = _Header(head).end_of_security()
    written = element(f"ssid:{_NAME}", escape_text(digits), declared={"ssid": Ns.SOFTWARE_SUBSCRIPTION})
    return b"".join((head[:end], written.encode(), head[end:]))


class _Header:
    """One pass over the tags of a message."""

    def __init__(self, head: bytes) -> None:
        self._head = head
        self._open: list[str] = []
        self._headers = 0
        self._whole = False
        self._ends: list[int] = []
        self._sealed = False
        self._around: set[str] = set()
        """Ids of the elements that the new one will stand in."""
        self._signed: set[str] = set()
        """What the signatures of the header refer to."""
        self._parser = expat.ParserCreate("UTF-8", _SEPARATOR)
        self._parser.StartDoctypeDeclHandler = _refuse_doctype
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end

    def end_of_security(self) -> int:
        """The offset of Security's end tag."""
        try:
            self._parser.Parse(self._head, False)
        except expat.ExpatError as error:
            raise XmlError("xml.malformed", f"not well formed: {error}") from error
        if self._headers != 1 or not self._whole or len(self._ends) != 1:
            raise XmlError("subscription.shape", "the message must have one soap:Header, whole, with one wsse:Security")
        if not self._sealed:
            raise XmlError("subscription.shape", "wsse:Security is empty: the message must be sealed first")
        if self._signed & {"", *(f"#{name}" for name in self._around)}:
            raise XmlError("subscription.signed", "a signature covers the header whole, which the element would break")
        return self._ends[0]

    def _start(self, name: str, attributes: Mapping[str, str]) -> None:
        self._open.append(name)
        self._sealed = self._sealed or (len(self._open) == 4 and self._open[2] == _SECURITY and self._in_header())
        at_header = len(self._open) == 2 and name == _ENVELOPES.get(self._open[0])
        self._headers += at_header
        if at_header or len(self._open) == 1 or self._is_security():
            self._around.update(attributes[each] for each in _ID_NAMES if each in attributes)
        elif name == _PRESENT and self._in_header():
            raise XmlError(
                "subscription.present", f"the header holds {_NAME} already: a message carries one software id"
            )
        elif name == _REFERENCE and self._in_header():
            self._signed.add(attributes.get("URI", ""))

    def _end(self, _name: str) -> None:
        if self._is_security():
            self._ends.append(self._parser.CurrentByteIndex)
        self._whole = self._whole or (len(self._open) == 2 and self._in_header())
        self._open.pop()

    def _in_header(self) -> bool:
        return len(self._open) > 1 and self._open[1] == _ENVELOPES.get(self._open[0])

    def _is_security(self) -> bool:
        return len(self._open) == 3 and self._open[2] == _SECURITY and self._in_header()


def _refuse_doctype(*_: object) -> None:
    raise XmlError("xml.doctype", "a document type declaration is not allowed (SOAP 1.2, 5)")
