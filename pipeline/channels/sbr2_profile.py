"""What differs between SBR2 environments, as data. Nothing here is proved on the wire by a public document."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from cryptography import x509

from pipeline.channels.asic_profile import TokenTerms
from pipeline.lodgment.decisions import Delays, RetryPolicy
from pipeline.protocol.as4_signature import SBR2_LAYOUT, SecurityLayout
from pipeline.protocol.sbr_ebms3 import SbrProfile, Software

SERVICE = "payevnt"
SUBMIT, UPDATE, ADJUST = "Submit", "Update", "Adjust"


@dataclass(frozen=True, slots=True)
class Gate:
    """One of the agency's gateways: where documents are pushed, and where answers to those documents are pulled."""

    push_url: str
    pull_url: str

    @classmethod
    def at(cls, host_url: str) -> "Gate":
        """The bulk services of a host, by the names that working clients use."""
        services = f"{host_url.rstrip('/')}/services"
        return cls(f"{services}/BulkBatch-async-push", f"{services}/BulkBatch-async-pull")


@dataclass(frozen=True, slots=True)
class ActionEntry:
    """One action of the registry: its service URI, its name there, and what its document is called."""

    service: str
    action: str
    document_name: str = "PAYEVNT"


def pay_events() -> dict[str, ActionEntry]:
    """The 2020 package, as read off working clients."""
    service = "http://sbr.gov.au/ato/payevnt/2020"
    return {action: ActionEntry(service, f"{action}.004.00") for action in (SUBMIT, UPDATE, ADJUST)}


def usual_policy() -> RetryPolicy:
    """Polling intervals are in the agency's registry, which is not public: from a minute to a quarter of an hour, for
    the 72 hours that an outcome takes in the busiest weeks and a day beyond.
    """
    return RetryPolicy(
        poll=Delays(timedelta(seconds=60), 2, timedelta(minutes=15)),
        late_after=timedelta(hours=24),
        closing_after=timedelta(hours=72),
        give_up_after=timedelta(hours=96),
    )


@dataclass(frozen=True, slots=True)
class Sbr2Profile:
    """One SBR2 environment."""

    environment: str
    gates: Mapping[str, Gate]
    gate: str
    """The gateway that new lodgments go through; those before them are asked for where they went in."""
    terms: TokenTerms
    software: Software
    domain: str
    """Right of the @ in every MessageId."""
    messages: SbrProfile = field(default_factory=SbrProfile)
    layout: SecurityLayout = SBR2_LAYOUT
    actions: Mapping[str, ActionEntry] = field(default_factory=pay_events)
    policy: RetryPolicy = field(default_factory=usual_policy)
    policies: Mapping[str, RetryPolicy] = field(default_factory=dict)
    """By action, where it differs."""
    agency_certificates: tuple[x509.Certificate, ...] = ()
    """The certificates that a pulled response may be signed with."""
    software_ids: bool = True
    """Whether lodgments carry the id of the software subscription, as those of cloud software must."""
    signed_responses: bool = False
    """Whether a pulled response without a signature is refused."""
    document_limit: int = 200 * 1024 * 1024
    """Bytes of a document before compression; the agency's own limit is not public."""
    response_limit: int = 50 * 1024 * 1024
    """Bytes of a response document after inflation."""
