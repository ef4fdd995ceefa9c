"""An ASIC gateway at the end of a transport worker, up or down as a test says, with a book of what it saw."""

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from pipeline.gateway.exchange import Exchange, Request
from pipeline.lodgment.failures import Blast, Failure, FailureClass, Party
from tests.doubles.asic import NAMESPACE
from tests.doubles.request_heads import head_of

SOAP = "application/soap+xml; charset=UTF-8"
REFUSED = Failure(FailureClass.NOT_SENT, "transport.connect", "", "Nobody is there.", Party.AGENCY, Blast.CHANNEL)
SILENT = Failure(FailureClass.UNKNOWN, "transport.read-timeout", "", "It fell silent.", Party.NOBODY)
_REFERENCE = re.compile(rb"messageReferenceNumber>([^<]+)<")


@dataclass
class MoodyAgency:
    """`mood` None: every document is accepted. An HTTP status, a failure of the wire, or a time at which it says that
    it is back: nothing is.
    """

    clock: Callable[[], datetime]
    mood: int | Failure | datetime | None = None
    seen: Counter[str] = field(default_factory=Counter)
    processed: Counter[str] = field(default_factory=Counter)
    asked_at: list[datetime] = field(default_factory=list)

    async def exchange(self, request: Request) -> Exchange:
        now = self.clock()
        self.asked_at.append(now)
        found = _REFERENCE.search(head_of(request))
        assert found is not None
        reference = found[1].decode()
        self.seen[reference] += 1
        match self.mood:
            case Failure():
                return Exchange(now, now, failure=self.mood)
            case int():
                return Exchange(now, now, now, self.mood, "text/html", b"away")
            case datetime():
                return Exchange(now, now, now, 500, SOAP, unavailable(self.mood))
        self.processed[reference] += 1
        return Exchange(now, now, now, 200, SOAP, accepted(reference))


def accepted(reference: str) -> bytes:
    header = "uri:business.document.header.types.asic.gov.au"
    return (
        f'<e:Envelope xmlns:e="http://www.w3.org/2003/05/soap-envelope"><e:Body><n:reply xmlns:n="{NAMESPACE}"'
        f' xmlns:h="{header}"><h:businessDocumentHeader><h:messageReferenceNumber>{reference}'
        "</h:messageReferenceNumber><h:result><h:accepted/></h:result></h:businessDocumentHeader></n:reply></e:Body>"
        "</e:Envelope>"
    ).encode()


def unavailable(until: datetime) -> bytes:
    return (
        '<e:Envelope xmlns:e="http://www.w3.org/2003/05/soap-envelope" xmlns:a="uri:asic.gov.au"><e:Body><e:Fault>'
        "<e:Code><e:Value>e:Receiver</e:Value><e:Subcode><e:Value>a:FAULT.UNAVAILABLE</e:Value></e:Subcode></e:Code>"
        '<e:Reason><e:Text xml:lang="en">Unavailable</e:Text></e:Reason><e:Detail><a:AvailableAfter>'
        f"{until.isoformat()}</a:AvailableAfter></e:Detail></e:Fault></e:Body></e:Envelope>"
    ).encode()
