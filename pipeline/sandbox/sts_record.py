"""The token service's own word about whom it was asked for: the judge of whether clients ask once and one at a time."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime

from lxml import etree

from pipeline.protocol.namespaces import Ns
from pipeline.protocol.xml import XmlError, parse

_LIMIT = 100 * 1024


@dataclass(slots=True)
class Asked:
    """How often a token for one party was asked for, and how many such requests were under way at the same time.

    `soonest_again` is the shortest time in seconds from a token that was issued to the next request, None without one.
    """

    applies_to: str
    first_party: str
    second_party: str
    software_id: str
    requests: int = 0
    issued: int = 0
    under_way: int = 0
    most_at_once: int = 0
    issued_at: float | None = None
    soonest_again: float | None = None

    def issue(self, now: datetime) -> None:
        self.issued += 1
        self.issued_at = now.timestamp()

    def again(self, now: datetime) -> None:
        """A request has come, and ends the time for which the latest token was good enough."""
        if self.issued_at is not None:
            since = now.timestamp() - self.issued_at
            self.soonest_again = since if self.soonest_again is None else min(since, self.soonest_again)


class Record:
    """Every request by what it asks for, as written in it: believed or not, it was sent."""

    def __init__(self) -> None:
        self._asked: dict[tuple[str, ...], Asked] = {}
        self._seconds: Counter[int] = Counter()
        self._under_way = 0
        self._most_at_once = 0

    @contextmanager
    def asking(self, body: bytes, now: datetime) -> Iterator[Asked]:
        """Around the whole time in which a request is unanswered."""
        terms = _terms(body)
        asked = self._asked.setdefault(terms, Asked(*terms))
        asked.requests += 1
        asked.again(now)
        asked.under_way += 1
        asked.most_at_once = max(asked.most_at_once, asked.under_way)
        self._under_way += 1
        self._most_at_once = max(self._most_at_once, self._under_way)
        self._seconds[int(now.timestamp())] += 1
        try:
            yield asked
        finally:
            asked.under_way -= 1
            self._under_way -= 1

    def lines(self) -> Iterator[dict[str, object]]:
        """One line for all, then one for each party."""
        yield {
            "requests": self._seconds.total(),
            "most_at_once": self._most_at_once,
            "most_in_a_second": max(self._seconds.values(), default=0),
            "parties": len(self._asked),
        }
        for asked in self._asked.values():
            yield asdict(asked)


def _terms(body: bytes) -> tuple[str, str, str, str]:
    """What is asked for; empty where it is not said."""
    try:
        root = parse(body, _LIMIT)
    except XmlError:
        return ("", "", "", "")
    v13 = Ns.VANGUARD_RELATIONSHIP
    address = root.find(f".//{Ns.WSP('AppliesTo')}//{Ns.WSA('Address')}")
    parties = [root.find(f".//{v13('RelationshipToken')}/{v13(name)}") for name in ("FirstParty", "SecondParty")]
    software = root.find(f".//{v13('RelationshipToken')}/{v13('Relationship')}/{v13('Attribute')}")
    first, second, ssid = (_value(node) for node in (*parties, software))
    return ("" if address is None else (address.text or "").strip(), first, second, ssid)


def _value(node: etree._Element | None) -> str:
    return "" if node is None else node.get(Ns.VANGUARD_RELATIONSHIP("Value"), "")
