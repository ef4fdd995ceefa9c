"""What each code means to a person: the shape of an explanation, and the one way to find it.

The tables stand beside what they explain: faults in `*_faults`, the ATO's rules for pay events in `sbr2_rules`, the
pipeline's own reasons in `own_reasons`. A code that none of them has is a gap, and shows up as one.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from pipeline.channels import asic_faults, mas_st_faults, own_reasons, sbr2_faults, sbr2_rules
from pipeline.channels.asic_bn import NAME as ASIC
from pipeline.channels.faults import FaultRule
from pipeline.channels.sbr2_rules import Rule
from pipeline.channels.sbr2_stp import NAME as STP
from pipeline.lodgment.failures import Blast, FailureClass, Party

TOKEN_SERVICE = "mas_st"  # noqa: S105  - a name, not a secret
PIPELINE = "pipeline"
"""Where the codes of no agency come from."""


class Retried(StrEnum):
    """Whether a lodgment with this code goes on."""

    BY_ITSELF = "by itself"
    ON_RELEASE = "when released"
    AS_A_NEW_JOB = "as a new job"
    """The outcome is final: what is corrected is another document."""
    NOT_NEEDED = "not needed"


@dataclass(frozen=True, slots=True)
class Explanation:
    """One code of one speaker, in plain words. `place` is where in what was sent the cause is."""

    code: str
    speaker: str
    meaning: str
    who: Party
    action: str
    retried: Retried
    place: str


_RETRIED: Mapping[FailureClass, Retried] = {
    FailureClass.NOT_SENT: Retried.BY_ITSELF,
    FailureClass.UNKNOWN: Retried.BY_ITSELF,
    FailureClass.UNAVAILABLE: Retried.BY_ITSELF,
    FailureClass.STALE_TOKEN: Retried.BY_ITSELF,
    FailureClass.DUPLICATE: Retried.BY_ITSELF,
    FailureClass.OUR_DOCUMENT: Retried.ON_RELEASE,
    FailureClass.THEIR_PERMISSION: Retried.ON_RELEASE,
    FailureClass.OUR_CREDENTIAL: Retried.ON_RELEASE,
}
_PLACE: Mapping[FailureClass, str] = {
    FailureClass.NOT_SENT: "nowhere: the connection",
    FailureClass.UNKNOWN: "nowhere: the other side, or the way there",
    FailureClass.UNAVAILABLE: "nowhere: the other side",
    FailureClass.STALE_TOKEN: "wsse:Security: the token and the signatures",
    FailureClass.DUPLICATE: "nowhere: the document was lodged",
    FailureClass.OUR_DOCUMENT: "the request, as the text says",
    FailureClass.THEIR_PERMISSION: "not in the document: ABN, agent number and software id of who lodges",
    FailureClass.OUR_CREDENTIAL: "not in the document: the machine credential, or the registration of the product",
}


def explanations() -> Iterator[Explanation]:
    """Everything that is explained, by speaker and then as the tables have it."""
    for code in sorted(sbr2_faults.NOISE):
        yield Explanation(code, STP, *_SAID_WITH_SUCCESS)
    for code in sorted(sbr2_faults.DUPLICATE):
        yield Explanation(code, STP, *_HAS_IT)
    yield from (_of_fault(STP, code, rule) for code, rule in sbr2_faults.AGENCY_RULES.items())
    yield from (_of_fault(STP, code, rule) for code, rule in sbr2_faults.EBMS_RULES.items())
    yield Explanation("EBMS:0006", STP, *_NOTHING_YET)
    yield from (_of_rule(code, rule) for code, rule in sbr2_rules.RULES.items())
    yield from (_of_fault(ASIC, code, rule) for code, rule in asic_faults.RULES.items())
    yield from (_of_fault(TOKEN_SERVICE, code, rule) for code, rule in mas_st_faults.EVENT_RULES.items())
    yield from (_of_fault(TOKEN_SERVICE, code, rule) for code, rule in mas_st_faults.SUBCODE_RULES.items())
    for code, reason in own_reasons.REASONS.items():
        speaker = ASIC if code.startswith("asic:") else PIPELINE
        yield Explanation(
            code, speaker, reason.meaning, reason.who, reason.action, Retried(reason.retried), reason.place
        )


class Catalogue:
    """Explanations to look up in."""

    def __init__(self) -> None:
        self._all = tuple(explanations())
        self._known = {(one.speaker, one.code.casefold()): one for one in self._all}

    def __iter__(self) -> Iterator[Explanation]:
        return iter(self._all)

    def find(self, code: str, channel: str | None = None) -> Explanation | None:
        """What `code` means where `channel` said it, or to anybody; a code of the pipeline also by its family."""
        speakers = (STP, ASIC, TOKEN_SERVICE, PIPELINE) if channel is None else (channel, TOKEN_SERVICE, PIPELINE)
        for speaker in speakers:
            found = self._known.get((speaker, code.casefold()))
            if found is None and speaker == ASIC and code.isdigit():
                # the zero padding varies between ports
                found = self._known.get((ASIC, f"asic:{code.lstrip('0').zfill(5)}"))
            if found is not None:
                return found
        family = f"{code.partition('.')[0]}.*".casefold()
        return self._known.get((PIPELINE, "soap:*" if code.startswith("soap:") else family))

    def named(self, text: str) -> tuple[Explanation, ...]:
        """What a person may mean by `text`: a code, whoever says it, or a part of one."""
        wanted = text.casefold()
        exact = tuple(one for one in self._all if one.code.casefold() == wanted)
        return exact or tuple(one for one in self._all if wanted in one.code.casefold())


def _of_fault(speaker: str, code: str, rule: FaultRule) -> Explanation:
    retried = _RETRIED[rule.kind]
    if rule.kind is FailureClass.OUR_DOCUMENT and rule.who is Party.PRODUCER and rule.blast is Blast.LODGMENT:
        retried = Retried.AS_A_NEW_JOB
    return Explanation(code, speaker, rule.meaning, rule.who, rule.action, retried, rule.place or _PLACE[rule.kind])


def _of_rule(code: str, rule: Rule) -> Explanation:
    retried = Retried.AS_A_NEW_JOB
    return Explanation(code, STP, rule.meaning, rule.who, rule.action, retried, rule.place)


_SAID_WITH_SUCCESS = (
    "Said beside a success.",
    Party.NOBODY,
    "Nothing.",
    Retried.NOT_NEEDED,
    "nowhere",
)
_HAS_IT = (
    "The ATO accepted this very document before, under the MessageId that comes with the code.",
    Party.NOBODY,
    "Nothing: it was lodged, and its outcome is asked for under that MessageId.",
    Retried.BY_ITSELF,
    "nowhere: the document was lodged",
)
_NOTHING_YET = (
    "There is no outcome to be pulled yet, or the ATO is closed; closedowns of days are answered so.",
    Party.AGENCY,
    "Nothing: it is asked again by itself, at growing intervals.",
    Retried.BY_ITSELF,
    "nowhere: the other side",
)
