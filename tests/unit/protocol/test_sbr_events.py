"""Message events as agencies write them: several in one attachment, in every style."""

import pytest

from pipeline.lodgment.outcome import Severity
from pipeline.protocol.sbr_events import EventItem, EventLocation, SbrEvent, read_events
from pipeline.protocol.xml import XmlError

NS = "http://sbr.gov.au/comn/event.02.data"
ITEM = EventItem(
    "CMN.ATO.PAYEVNTEMP.000180",
    Severity.ERROR,
    "Payment date {date} is not in {year}",
    "Correct it",
    (("date", "{year}"), ("year", "2026")),
    (EventLocation("1.2", "/p:PAYEVNTEMP/p:Payee"), EventLocation(None, "/x")),
)


def event(prefix: str = "tns:", severity: str = "Error", code: str = ITEM.code, indent: str = "") -> str:
    declared = f'xmlns:{prefix[:-1]}="{NS}"' if prefix else f'xmlns="{NS}"'

    def one(name: str, content: str) -> str:
        return f"{indent}<{prefix}{name}>{content}{indent}</{prefix}{name}>"

    def text(name: str, content: str) -> str:
        return f"{indent}<{prefix}{name}>{content}</{prefix}{name}>"

    parameters = "".join(
        one("Parameter", text("Parameter.Identifier", name) + text("Parameter.Text", value))
        for name, value in ITEM.parameters
    )
    locations = one(
        "Location", text("Location.Instance.Identifier", "1.2") + text("Location.Path.Text", "/p:PAYEVNTEMP/p:Payee")
    ) + one("Location", text("Location.Path.Text", "/x"))
    item = one(
        "EventItem",
        text("Error.Code", code)
        + text("Severity.Code", severity)
        + text("Short.Description", ITEM.short_description)
        + text("Detailed.Description", ITEM.detailed_description)
        + one("Parameters", parameters)
        + one("Locations", locations),
    )
    content = text("MaximumSeverity.Code", severity) + one("EventItems", item)
    return f"<{prefix}Event {declared}>{content}{indent}</{prefix}Event>"


EXPECTED = SbrEvent(Severity.ERROR, (ITEM,))


@pytest.mark.parametrize("prefix", ["tns:", "ev:", ""])
@pytest.mark.parametrize("indent", ["", "\n  "])
@pytest.mark.parametrize("start", ["", '<?xml version="1.0" encoding="UTF-8"?>\n', "\ufeff<?xml version='1.0'?>"])
def test_reads_one_event_and_several_in_one_attachment(prefix: str, indent: str, start: str) -> None:
    document = (start + event(prefix, indent=indent)).encode()
    assert list(read_events(document)) == [EXPECTED]
    assert list(read_events(document * 3)) == [EXPECTED] * 3


def test_reads_events_between_record_delimiters() -> None:
    delimiter = '<Record_Delimiter DocumentID="1.1" DocumentType="PARENT" DocumentName="PAYEVNT" RelatedDocumentID=""/>'
    assert list(read_events(f"{delimiter}{event()}\n{delimiter}{event()}".encode())) == [EXPECTED] * 2


def test_reads_names_that_grow_to_the_left() -> None:
    long = event().replace("tns:Error.Code", "tns:Message.Event.Item.Error.Code")
    assert list(read_events(long.encode())) == [EXPECTED]


def test_fills_the_parameters_into_the_texts_once() -> None:
    (read,) = read_events(event().encode())
    assert read.items[0].short_text == "Payment date {year} is not in 2026"
    unknown = EventItem("C", Severity.ERROR, "{a} {b} {", "{b}", (("b", "x"),))
    assert (unknown.short_text, unknown.detailed_text) == ("{a} x {", "x")


def test_an_event_may_have_no_item() -> None:
    bare = f'<Event xmlns="{NS}"><MaximumSeverity.Code>Information</MaximumSeverity.Code></Event>'
    assert list(read_events(bare.encode())) == [SbrEvent(Severity.INFORMATION, ())]


def test_twenty_thousand_items_are_read_in_order() -> None:
    item = event().partition("<tns:EventItems>")[2].partition("</tns:EventItems>")[0]
    many = "".join(item.replace(">1.2<", f">1.{number}<") for number in range(20_000))
    (read,) = read_events(event().replace(item, many).encode())
    assert [one.locations[0].instance for one in read.items] == [f"1.{number}" for number in range(20_000)]


WHOLE = event().encode()


@pytest.mark.parametrize(
    ("document", "code"),
    [
        (b"", "events.none"),
        (b"<Event/>", "events.none"),
        (event(severity="Fatal").encode(), "events.severity"),
        (event(code="").encode(), "events.code"),
        (WHOLE + b"</events><events>", "xml.malformed"),
        (WHOLE + b"</events><!--", "xml.malformed"),
        (WHOLE + b"text & more", "xml.malformed"),
        (b"<!DOCTYPE a []>" + WHOLE, "xml.malformed"),
        (b'<!DOCTYPE a [<!ENTITY x "y">]>' + WHOLE.replace(b"Correct", b"&x;"), "xml.malformed"),
        (WHOLE.replace(b"Correct", b"&x;"), "xml.malformed"),
        (b'<?xml version="1.0" encoding="UTF-16"?>' + WHOLE, "events.encoding"),
        (event().encode("utf-16"), "xml.malformed"),
        (WHOLE + b"\xff", "xml.malformed"),
    ],
)
def test_refuses_what_is_no_list_of_events(document: bytes, code: str) -> None:
    with pytest.raises(XmlError) as caught:
        list(read_events(document))
    assert caught.value.code == code


def test_every_truncation_is_refused() -> None:
    for end in range(len(WHOLE)):
        with pytest.raises(XmlError):
            list(read_events(WHOLE[:end]))
