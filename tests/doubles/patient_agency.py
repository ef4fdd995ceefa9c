"""An SBR2 agency at the end of a transport worker: receipts at once, outcomes later, none during its closedown."""

import re
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from pipeline.gateway.exchange import Exchange, Request
from pipeline.lodgment.decisions import Closedown
from tests.doubles.request_heads import head_of
from tests.doubles.sbr2 import DOMAIN, GATES, error, events, receipt, response

SOAP = "application/soap+xml; charset=UTF-8"
_REFERENCE = re.compile(rb"([0-9a-f]{8}-[0-9a-f-]{27})@" + re.escape(DOMAIN.encode()))
_PULLS = frozenset(gate.pull_url for gate in GATES.values())


@dataclass
class PatientAgency:
    """`outcome_after` is how long after the push its outcome is there, by reference."""

    closedown: Closedown
    clock: list[datetime]
    """One element: now."""
    outcome_after: dict[str, timedelta] = field(default_factory=dict)
    pushed: dict[str, datetime] = field(default_factory=dict)
    pushes: Counter[str] = field(default_factory=Counter)
    pulls: dict[str, list[datetime]] = field(default_factory=dict)

    async def exchange(self, request: Request) -> Exchange:
        now = self.clock[0]
        found = _REFERENCE.search(head_of(request))
        assert found is not None
        reference = found[1].decode()
        content_type, body = self._answer(reference, request.url, now)
        return Exchange(now, now, now, 200, content_type, body)

    def _answer(self, reference: str, url: str, now: datetime) -> tuple[str, bytes]:
        message_id = f"{reference}@{DOMAIN}"
        if url not in _PULLS:
            self.pushes[reference] += 1
            self.pushed.setdefault(reference, now)
            return SOAP, receipt(message_id)
        self.pulls.setdefault(reference, []).append(now)
        closed = self.closedown.start <= now < self.closedown.end
        if closed or now < self.pushed[reference] + self.outcome_after[reference]:
            return SOAP, error("EBMS:0006")
        return response(message_id, events(("CMN.ATO.GEN.OK", "Information", None)))
