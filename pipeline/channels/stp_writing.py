"""Pay events written from values by column: a PAYEVNT, then a PAYEVNTEMP for each payee, with their delimiters.

The same values give the same bytes. Values are as `Column.read` returned them; nothing is checked again here.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache

from pipeline.channels.payee_columns import TOTALS, payee_columns, payer_columns
from pipeline.channels.payee_forms import Form
from pipeline.channels.stp_fields import CHILD, NAMESPACES, PARENT, PAY_EVENT, PAYEE
from pipeline.protocol.xml import escape_text

_STEP = re.compile(r"(?P<name>\w+)(?:\[(?:(?P<child>\w+)=(?P<code>\w+)|[0-9]+)\])?")
_COUNT = "Rp/Payroll/InteractionRecordCt"
_WRITTEN_AT = "Rp/Payroll/MessageTimestampGenerationDt"
_BY_PAYER, _BY_AGENT = "Rp/Declaration/", "Int/Declaration/"

_Fields = Iterable[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Event:
    """One payer's event, but for its payees."""

    values: Mapping[str, str]
    """By the names of `payer_columns`."""
    payees: int
    totals: Mapping[str, int] | None
    """Cents by the names of `TOTALS`, each the sum over the payees; None in an update event, which pays nothing."""
    written_at: datetime


def cents(amount: str) -> int:
    """An amount as `Column.read` returned it, in cents."""
    return int(amount.replace(".", ""))


def documents(event: Event, payees: Iterable[Mapping[str, str]], number: int = 1) -> Iterator[bytes]:
    """The event's documents, each behind its delimiter; `number` is the payer's within its file. Payees are asked for
    one by one: values by the names of `payee_columns`.
    """
    parent = f"{number}.1"
    yield _document(parent, PARENT, "", _parent(event))
    for place, values in enumerate(payees, start=2):
        yield _document(f"{number}.{place}", CHILD, parent, _child(values))


def _parent(event: Event) -> Iterator[tuple[str, str]]:
    by_agent = []
    for column in payer_columns().values():
        value = event.values.get(column.name)
        if value and column.place.startswith(_BY_PAYER) and event.values.get("agent_abn"):
            by_agent.append((column.place.replace(_BY_PAYER, _BY_AGENT), value))
        elif value:
            yield column.place, value
        if column.name == "pay_date":
            yield _COUNT, str(event.payees)
            yield _WRITTEN_AT, f"{event.written_at:%Y-%m-%dT%H:%M:%SZ}"
        elif column.name == "replaces_file":
            if not value:
                yield column.place, "false"
            for name, amount in (event.totals or {}).items():
                yield TOTALS[name], _dollars(amount)
    yield from by_agent


def _child(values: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for column in payee_columns().values():
        value = values.get(column.name)
        if not value and column.name == "final":
            value = "false"
        if not value:
            continue
        if column.form is Form.BIRTH:
            year, month, day = value.split("-")
            for element, part in (("Dm", day), ("M", month), ("Y", year)):
                yield f"{column.place}/{element}", part.lstrip("0")
        else:
            yield column.place, value


def _dollars(amount: int) -> str:
    return f"{'-' if amount < 0 else ''}{abs(amount) // 100}.{abs(amount) % 100:02d}"


def _document(document_id: str, document_type: str, related: str, fields: _Fields) -> bytes:
    name = PAY_EVENT if document_type == PARENT else PAYEE
    delimiter = (
        f'<Record_Delimiter DocumentID="{document_id}" DocumentType="{document_type}" DocumentName="{name}"'
        f' RelatedDocumentID="{related}"/>'
    )
    content = "".join(_tree(fields))
    return f'{delimiter}\n<tns:{name} xmlns:tns="{NAMESPACES[name]}">{content}</tns:{name}>\n'.encode()


def _tree(fields: _Fields) -> Iterator[str]:
    """Elements by path; neighbours that share the beginning of their paths share elements."""
    opened: tuple[str, ...] = ()
    for path, value in fields:
        groups, last = _steps(path)
        if groups != opened:
            same = 0
            while same < min(len(opened), len(groups)) and opened[same] == groups[same]:
                same += 1
            yield from (_closing(step) for step in reversed(opened[same:]))
            yield from (_opening(step) for step in groups[same:])
            opened = groups
        yield f"<tns:{last}>{escape_text(value)}</tns:{last}>"
    yield from (_closing(step) for step in reversed(opened))


@cache
def _steps(path: str) -> tuple[tuple[str, ...], str]:
    """The elements on the way, and the one that holds the value."""
    *groups, last = path.split("/")
    return tuple(groups), last


@cache
def _opening(step: str) -> str:
    found = _STEP.fullmatch(step)
    assert found is not None  # noqa: S101  - places are constants of `payee_columns`
    start = f"<tns:{found['name']}>"
    if found["child"] is None:
        return start
    return f"{start}<tns:{found['child']}>{found['code']}</tns:{found['child']}>"


@cache
def _closing(step: str) -> str:
    return f"</tns:{step.partition('[')[0]}>"
