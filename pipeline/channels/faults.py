"""What a fault of an agency means for the lodgment: one row of a channel's table."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo

from lxml import etree

from pipeline.channels.foreign_text import plain
from pipeline.lodgment.failures import Blast, Failure, FailureClass, Party
from pipeline.protocol.soap import descendant


@dataclass(frozen=True, slots=True)
class FaultRule:
    """One row: the class, who must act, what else fails with it, and what to do."""

    kind: FailureClass
    who: Party
    blast: Blast
    advice: str
    """What it means, in one sentence; then what to do."""
    known: bool = True
    """False for the rows that stand in for codes which no table has."""
    place: str = ""
    """Where in what was sent the cause is, where that is not plain from the class."""

    @property
    def meaning(self) -> str:
        return f"{self.advice.partition('. ')[0].rstrip('.')}."

    @property
    def action(self) -> str:
        return self.advice.partition(". ")[2]

    def failure(self, code: str, detail: str, available_after: datetime | None = None) -> Failure:
        """The failure of one lodgment; `detail` is the other side's text as it came."""
        return Failure(
            self.kind, code, plain(detail), self.advice, self.who, self.blast, available_after, known=self.known
        )


_NOT_LET_IN = (
    "Something before the agency did not let the request in: nothing was processed. It is sent again by itself. If only"
    " a few meet this, ask the agency for the firewall's rule; if all do, check address, proxy and allow-list."
)
_NOBODY_THERE = (
    "Nothing takes messages at this address now: nothing was processed. It is sent again by itself. If it lasts, check"
    " the agency's address in the settings, and the path of this action."
)
TURNED_AWAY: Mapping[int, str] = {401: _NOT_LET_IN, 403: _NOT_LET_IN, 404: _NOBODY_THERE, 405: _NOBODY_THERE}
"""HTTP statuses of whatever stands before an agency, where nothing that can be read comes with them: what to do."""


def turned_away(status: int) -> Failure:
    """One of `TURNED_AWAY`: the agency was not reached.

    A firewall's rule may have met this document or this employer alone, and an address may be wrong for one action; an
    allow-list, or a page in a gateway's place, meets everybody. One answer does not say which. So it waits and is tried
    again by itself, and only many employers' answers close the door.
    """
    advice = TURNED_AWAY[status]
    return Failure(FailureClass.UNAVAILABLE, f"http.{status}", "", advice, Party.OPERATOR, Blast.EMPLOYER)


def available_after(detail: etree._Element | None, local: tzinfo) -> datetime | None:
    """When the service is back, in UTC, from a fault's detail; `local` is meant by a time without an offset.

    Its namespace differs between services and ASIC's is not public, so any is taken. Whether the time is believed
    is for the retry policy.
    """
    node = None if detail is None else descendant(detail, "AvailableAfter")
    if node is None:
        return None
    try:
        moment = datetime.fromisoformat(str(node.xpath("string()")).strip())
        return (moment if moment.tzinfo else moment.replace(tzinfo=local)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
