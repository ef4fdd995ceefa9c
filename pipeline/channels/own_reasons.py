"""The pipeline's own reason codes as data, for whoever looks one up; a name that ends in `*` is a family of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from pipeline.lodgment.failures import Party

_BY_ITSELF: Literal["by itself"] = "by itself"


@dataclass(frozen=True, slots=True)
class OwnReason:
    """One row."""

    meaning: str
    action: str
    who: Party = Party.NOBODY
    retried: Literal["by itself", "when released", "as a new job", "not needed"] = _BY_ITSELF
    place: str = "nowhere: the way there, or the clock"


_HELD: Literal["when released"] = "when released"
_FOLLOWS = "Nothing: it goes on by itself."
_SAME_REFERENCE = "Nothing: it is settled by itself, under the same reference."
_KEYS = "not in the document: the machine credential"

_TURNED_AWAY = OwnReason(
    "Something before the agency, or before the token service, did not let the request in; nothing was processed.",
    "Nothing at once: it is tried again by itself. Where few meet it, ask the agency for its firewall's rule; where all"
    " do, check address, proxy and allow-list.",
    Party.OPERATOR,
)

_NOBODY_THERE = OwnReason(
    "Nothing takes messages at the address: a gateway that is being set up, a page in its place, or a wrong address.",
    "Nothing at once: it is tried again by itself. If it lasts, compare the address, and the action's path, with the"
    " agency's guide.",
    Party.OPERATOR,
)

REASONS: Mapping[str, OwnReason] = {
    "breaker.open": OwnReason(
        "Not sent: the agency is down, or a person has stopped what goes there; the text says which door and why.",
        "Nothing where the agency is down: it goes on when a canary has come through. Else see `lodge breaker list`.",
    ),
    "breaker.polls": OwnReason(
        "The agency has it and is not asked for the outcome: it is down, or a person has stopped what goes there.",
        "Nothing where the agency is down: it is asked again after a canary. Else see `lodge breaker list`.",
    ),
    "agency.closedown": OwnReason(
        "The calendar in the settings says that the agency takes nothing, or answers nothing, until then.", _FOLLOWS
    ),
    "ledger.restored": OwnReason(
        "It was open in the copy that the ledger was restored from, and may have been sent since.", _SAME_REFERENCE
    ),
    "transport.*": OwnReason(
        "The exchange with the agency did not end in a whole reply; the code says at which point.",
        "Nothing at once: it is tried again by itself, under the same reference. If it lasts, run `lodge doctor`.",
    ),
    "http.401": _TURNED_AWAY,
    "http.403": _TURNED_AWAY,
    "http.404": _NOBODY_THERE,
    "http.405": _NOBODY_THERE,
    "http.*": OwnReason(
        "The agency's gateway, or something before it, answered with this HTTP status and nothing that can be read.",
        "5xx and 429 mend themselves. Any other: compare addresses and log-in with the settings, then release.",
        Party.OPERATOR,
    ),
    "reply.*": OwnReason("An answer came that cannot be believed; the code says why.", _SAME_REFERENCE),
    "soap:*": OwnReason(
        "A SOAP fault without a code of its own.", "Read its text; mend what it says, then release.", Party.OPERATOR
    ),
    "keystore.*": OwnReason(
        "The credential is not in the keystore, cannot be unlocked, or is too weak to sign.",
        "See `lodge credentials`; mend the keystore, then release what is held.",
        Party.OPERATOR,
        _HELD,
        _KEYS,
    ),
    "pkcs11.*": OwnReason(
        "The token that holds the private key cannot be used as set.",
        "Mend the setting or the token; `pkcs11.down` mends itself, for the others release what is held.",
        Party.OPERATOR,
        _HELD,
        _KEYS,
    ),
    "sts.*": OwnReason(
        "The token service gave no usable token.",
        "See the line in `lodge tokens`, which says who acts.",
        Party.OPERATOR,
        place="not in the document: the security token",
    ),
    "wstrust.*": OwnReason(
        "The token service answered, but not in a way that can be used as an answer to our request.",
        "Nothing at once: it is asked again by itself. If it lasts, compare the STS settings with its guide.",
        Party.OPERATOR,
        place="not in the document: the security token",
    ),
    "token.*": OwnReason(
        "No security token is at hand, or the one at hand would not outlive another sending.",
        "Nothing: a new one is asked for. `lodge tokens` says how that stands.",
        place="not in the document: the security token",
    ),
    "lane.turn": OwnReason("An earlier lodgment with the same order key is not final.", _FOLLOWS),
    "share.turn": OwnReason("Its sender has many under way, and others have turns between them.", _FOLLOWS),
    "replacement.*": OwnReason(
        "A full file replacement that the rules forbid, or that must wait for the end of a closedown.",
        "The reason says what to lodge instead; one that waits goes on by itself.",
        Party.PRODUCER,
        "as a new job",
        "PAYEVNT/Rp/Payroll/AmendmentI",
    ),
    "job.not-before": OwnReason("The producer asked to wait until a time.", _FOLLOWS),
    "agency.delayed": OwnReason("The agency has it and has not finished.", "Nothing: it is asked again by itself."),
    "poll.due": OwnReason("It is about to be asked for again.", _FOLLOWS),
    "outcome.late": OwnReason(
        "The agency has it for longer than is usual.", "Nothing: it is asked on by itself.", Party.AGENCY
    ),
    "outcome.missing": OwnReason(
        "The agency gave no outcome in all the time in which it is asked.",
        "Ask the agency about this reference before its retrieval window closes; a release asks again.",
        Party.OPERATOR,
        _HELD,
    ),
    "worker.lost": OwnReason("A transport worker died while it was sending.", _SAME_REFERENCE),
    "lease.short": OwnReason(
        "The ledger took so long to record the attempt that it was not begun.",
        "Nothing at once: it is tried again by itself. If it goes on, look at the database.",
    ),
    "operator.*": OwnReason("Done by hand; `lodge explain` says by whom and why.", "Nothing.", retried="not needed"),
    "asic:result.fault": OwnReason(
        "ASIC answered, but its systems behind the gateway may be down.", _SAME_REFERENCE, Party.AGENCY
    ),
    "asic:00005": OwnReason(
        "ASIC does not accept who we say we are.",
        "Check user name and password, or the credential's registration with ASIC, then release what is held.",
        Party.OPERATOR,
        _HELD,
        "not in the document: the log-in, or the machine credential",
    ),
}
