"""Points in time as WS-Security and WS-Trust write them: xs:dateTime in UTC, at most three fraction digits."""

import re
from datetime import UTC, datetime, timedelta

from lxml import etree

from pipeline.protocol.fragments import element
from pipeline.protocol.namespaces import Ns
from pipeline.protocol.wsse import Part
from pipeline.protocol.xml import XmlError, local_name, text_of

_DATE_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,12}))?(Z|[+-]\d\d:\d\d)?", re.ASCII)


def utc_text(moment: datetime) -> str:
    """`moment`, which must be aware, as `2026-11-23T04:05:06.789Z` (WS-I BSP 1.1, R3217, R3220, R3229)."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def security_timestamp(created: datetime, time_to_live: timedelta, element_id: str) -> tuple[bytes, Part]:
    """A `wsu:Timestamp` in canonical form (WS-Security 1.1, 10), and what a signature covers of it."""
    content = element("wsu:Created", utc_text(created)) + element("wsu:Expires", utc_text(created + time_to_live))
    timestamp = element("wsu:Timestamp", content, declared={"wsu": Ns.WSU}, attributes={"wsu:Id": element_id}).encode()
    return timestamp, Part.of(element_id, timestamp)


def instant_of(element: etree._Element, *, bare_is_utc: bool = False) -> datetime:
    """The point in time that `element` holds, in UTC. Any offset is read, and any number of fraction digits.

    `bare_is_utc` is for standards that have UTC without its Z.

    Raises:
        XmlError: `xml.date-time` when it is no xs:dateTime, or has no offset and so could mean any of 26 hours.
    """
    found = _DATE_TIME.fullmatch(text_of(element))
    if found is None or (found[3] is None and not bare_is_utc):
        raise XmlError("xml.date-time", f"{local_name(element)} must hold a date and time with an offset")
    seconds, fraction, offset = found.groups()
    try:
        whole = datetime.fromisoformat(seconds + (offset or "Z").replace("Z", "+00:00"))
        return whole.astimezone(UTC) + timedelta(microseconds=int((fraction or "0").ljust(6, "0")[:6]))
    except (ValueError, OverflowError) as error:
        raise XmlError("xml.date-time", f"{local_name(element)} holds no date of the calendar") from error
