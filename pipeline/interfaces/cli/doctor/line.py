"""One line of the doctor: what was looked at, what was found, what that means, what to do and who does it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from pipeline.interfaces.cli.doctor.catalogue import MEANING, Check
from pipeline.lodgment.failures import Failure, FailureClass, Party


class Verdict(StrEnum):
    PASS = "pass"  # noqa: S105  - a verdict, not a secret
    WARN = "warn"
    FAIL = "fail"
    SKIP = "skip"


class Role(StrEnum):
    """Who can do it. Three are roles in RAM, the government's register of who may act for a business."""

    OPERATOR = "operator"
    NETWORK = "network_administrator"
    BROKER = "broker_administrator"
    DATABASE = "database_administrator"
    PRINCIPAL_AUTHORITY = "principal_authority"
    """An associate of the business in the ABR: claims the business in RAM, and may do all that follows."""
    CREDENTIAL_ADMINISTRATOR = "machine_credential_administrator"
    """Creates and manages machine credentials; appointed by the principal authority."""
    AUTHORISATION_ADMINISTRATOR = "authorisation_administrator"
    """Authorises others, and edits a credential's permissions in Access Manager."""
    PROVIDER = "digital_service_provider"
    """Whoever registered the product with the agency's partnership office, and may ask it to open a gate."""
    EMPLOYER = "employer"
    AGENT = "agent"
    PRODUCER = "producer"
    AGENCY = "agency"


RENEWERS = (Role.PRINCIPAL_AUTHORITY, Role.CREDENTIAL_ADMINISTRATOR)
"""Who creates and manages machine credentials in RAM: either."""
PERMITTERS = (Role.PRINCIPAL_AUTHORITY, Role.AUTHORISATION_ADMINISTRATOR)
"""Who edits permissions in Access Manager: either."""

_OF_PARTY: Mapping[Party, tuple[Role, ...]] = {
    Party.NOBODY: (),
    Party.EMPLOYER: (Role.EMPLOYER,),
    Party.AGENT: (Role.AGENT,),
    Party.PRODUCER: (Role.PRODUCER,),
    Party.OPERATOR: (Role.OPERATOR,),
    Party.AGENCY: (Role.AGENCY,),
}

_NO_PERMISSION = "E2003"
"""The token service does not know the AppliesTo, or the credential has no permission for that relying party."""


@dataclass(frozen=True, slots=True)
class Line:
    """One thing looked at. `who` holds the roles of which each alone can do what `fix` says."""

    check: Check
    verdict: Verdict
    found: str
    fix: str = ""
    who: tuple[Role, ...] = ()
    subject: str = ""
    """Which one, where there can be several: `host:port`."""
    measured: Mapping[str, float] = field(default_factory=dict)
    """Figures by name; the unit ends the name (`_seconds`, `_days`, `_bytes`)."""

    @property
    def meaning(self) -> str:
        """Why it matters; empty when all is well."""
        return MEANING[self.check] if self.verdict in {Verdict.WARN, Verdict.FAIL} else ""


def passed(check: Check, found: str, subject: str = "", measured: Mapping[str, float] | None = None) -> Line:
    return Line(check, Verdict.PASS, found, subject=subject, measured=measured or {})


def skipped(check: Check, why: str, subject: str = "") -> Line:
    return Line(check, Verdict.SKIP, why, subject=subject)


def warned(
    check: Check, found: str, fix: str, *who: Role, subject: str = "", measured: Mapping[str, float] | None = None
) -> Line:
    return Line(check, Verdict.WARN, found, fix, who, subject, measured or {})


def failed(
    check: Check, found: str, fix: str, *who: Role, subject: str = "", measured: Mapping[str, float] | None = None
) -> Line:
    return Line(check, Verdict.FAIL, found, fix, who, subject, measured or {})


def of_failure(check: Check, failure: Failure, subject: str = "") -> Line:
    """A failure of a conversation, with the roles that its class points to."""
    found = f"{failure.code}: {failure.detail}" if failure.detail else failure.code
    return Line(check, Verdict.FAIL, found, failure.advice, roles_of(failure), subject)


def roles_of(failure: Failure) -> tuple[Role, ...]:
    """Who can mend it: of the operator's own failures, those of credential and permission are mended in RAM."""
    if failure.code == _NO_PERMISSION:
        return (Role.OPERATOR, *PERMITTERS)
    if failure.kind is FailureClass.OUR_CREDENTIAL and not failure.code.startswith("keystore."):
        return (Role.OPERATOR, *RENEWERS)
    if failure.kind is FailureClass.THEIR_PERMISSION:
        return (*PERMITTERS, *(role for role in _OF_PARTY[failure.who] if role is not Role.OPERATOR))
    return _OF_PARTY[failure.who]
