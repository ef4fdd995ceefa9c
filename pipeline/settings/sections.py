"""The parts of the settings: environments, their channels, policies, and what software says of itself."""

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, model_validator


def _with_host(url: str) -> str:
    try:
        parts = urlsplit(url)
        fits = bool(parts.hostname) and parts.port != 0
    except ValueError:  # a bracket without its other, a port that is no number
        fits = False
    if not fits:
        raise ValueError("must be https://host or https://host:port, with a port from 1 to 65535")
    return url


HttpsUrl = Annotated[str, Field(pattern=r"^https://"), AfterValidator(_with_host)]

Duration = Annotated[timedelta, Field(gt=timedelta(0))]
"""A time that must pass: with zero, what is tried again would be tried without end."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ServiceSettings(_Section):
    """One message of an agency, where it differs from what this version knows (message implementation guides)."""

    service: str
    action: str
    message_type: str
    message_version: int = 1
    namespace: str
    path: str


class SoftwareSettings(_Section):
    """`softwareInformation` of every message (WIG 3.3.1.6)."""

    organisation: str = Field(min_length=1, max_length=100)
    product: str = Field(min_length=1, max_length=100)
    version: str = Field(min_length=1, max_length=100)


class Closedown(_Section):
    """An announced time in which the agency gives no answers."""

    start: AwareDatetime
    end: AwareDatetime
    takes_documents: bool = Field(default=True, description="false: nothing is sent meanwhile")

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.end <= self.start:
            raise ValueError("a closedown must end after it starts")
        return self


_Positive = Annotated[timedelta, Field(gt=timedelta(0), le=timedelta(days=30))]


class PolicySettings(_Section):
    """How one channel, service or action is retried, polled, parked and watched, where it differs from the rest.

    Every field but `channel` may be left out: then what holds anyway stands. The last section that fits counts.
    """

    channel: str
    service: str | None = Field(default=None, description="omitted: every service of the channel")
    action: str | None = Field(default=None, description="omitted: every action of the service")
    not_sent_first: _Positive | None = None
    not_sent_longest: _Positive | None = None
    unknown_first: _Positive | None = None
    unknown_longest: _Positive | None = None
    unknown_limit: int | None = Field(default=None, ge=1, le=1000, description="failures in a row, then held")
    unavailable_first: _Positive | None = None
    unavailable_longest: _Positive | None = None
    announced_longest: _Positive | None = Field(default=None, description="a return time further away is not believed")
    poll_first: _Positive | None = None
    poll_longest: _Positive | None = None
    stale_token_limit: int | None = Field(default=None, ge=1, le=100)
    receipt_after: _Positive | None = None
    late_after: _Positive | None = None
    closing_after: _Positive | None = None
    give_up_after: _Positive | None = None
    expected: timedelta | None = Field(
        default=None, ge=timedelta(0), le=timedelta(days=14), description="from sending to outcome, as a rule"
    )
    closedowns: tuple[Closedown, ...] | None = None
    breaker_failures: int | None = Field(default=None, ge=1, le=10_000, description="in a row; then the door closes")
    breaker_ratio: float | None = Field(default=None, gt=0, le=1, description="share of failures that closes it")
    breaker_ratio_least: int | None = Field(default=None, ge=2, le=100_000, description="of so many answers at least")
    breaker_window: _Positive | None = None
    breaker_probe_first: _Positive | None = None
    breaker_probe_longest: _Positive | None = None
    breaker_ramp: tuple[Annotated[int, Field(ge=1)], ...] | None = Field(default=None, min_length=1, max_length=10)
    breaker_ramp_every: _Positive | None = None
    breaker_quiet: int | None = Field(
        default=None, ge=0, description="questions in a row answered with nothing yet that close it; 0: never"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.action is not None and self.service is None:
            raise ValueError("action needs service: name the service that the action is of")
        if self.service is not None and self.breaker_set and self.action is not None:
            raise ValueError("breaker_* belong to a service: all its actions go through one door; leave action out")
        return self

    @property
    def breaker_set(self) -> bool:
        """Whether it says anything of breakers."""
        return any(name.startswith("breaker_") for name in self.model_fields_set)


class ReplaySettings(_Section):
    """How replays run, and how they give way to live work; all that is not said otherwise when one is started."""

    rate: float = Field(default=20.0, ge=0.01, le=10_000, description="lodgments a second at most")
    halt_share: float = Field(default=0.1, ge=0.001, le=1, description="of a stage met by one failure; then it halts")
    slower: float = Field(
        default=1.1, gt=1, le=10, description="live work is slower when too many take so many times as long as before"
    )
    least: float = Field(default=1.0, ge=0.01, le=1000, description="lodgments a second, however slow live work is")
    raise_by: float = Field(
        default=0.02, gt=0, le=1, description="each second, as a share, while live work is not slower"
    )
    window: _Positive = Field(default=timedelta(seconds=60), description="live lodgments of this time tell of now")
    level_for: _Positive = Field(
        default=timedelta(minutes=10), description="then it goes slowly for a while, to see live work alone again"
    )


class Sbr2Settings(_Section):
    """Single Touch Payroll over SBR2. Nothing here is proved by a public document: compare with your registration."""

    gateways: dict[str, HttpsUrl] = Field(
        min_length=1, description="scheme and host by a name of yours; keep those that open lodgments went through"
    )
    gateway: str = Field(description="the one of `gateways` that new lodgments go through")
    applies_to: str = Field(description="the relying party as the token service knows it")
    product_id: str = Field(min_length=1, description="ProductID, as the agency issued it for this environment")
    vendor: str = Field(min_length=1, description="BMS Vendor, exactly as the product is registered")
    name: str = Field(min_length=1, description="BMS Name, exactly as the product is registered")
    version: str = Field(min_length=1, description="BMS Version, exactly as the product is registered")
    domain: str = Field(pattern=r"^[A-Za-z0-9.-]{1,100}$", description="of yours: right of the @ in every MessageId")
    agency_certificates: Path | None = Field(
        default=None, description="certificates (PEM) that pulled responses may be signed with; given: verified"
    )
    signed_responses: bool = Field(default=False, description="refuse pulled responses that are not signed")
    software_ids: bool = Field(default=True, description="cloud software: every lodgment carries its software id")
    poll_first: Duration = timedelta(seconds=60)
    poll_longest: Duration = timedelta(minutes=15)
    late_after: timedelta = Field(default=timedelta(hours=24), description="from then on a missing outcome is told")
    closing_after: timedelta = Field(default=timedelta(hours=72), description="told again, while there is still time")
    give_up_after: timedelta = Field(default=timedelta(hours=96), description="from then on a person must ask")
    closedowns: tuple[Closedown, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.gateway not in self.gateways:
            raise ValueError(f"gateway must be one of gateways: {', '.join(sorted(self.gateways))}")
        if self.signed_responses and self.agency_certificates is None:
            raise ValueError("signed_responses needs agency_certificates to verify them with")
        if not self.late_after <= self.closing_after <= self.give_up_after:
            raise ValueError("late_after, closing_after and give_up_after must follow each other in time")
        return self


class EnvironmentSettings(_Section):
    """One environment of the agencies: where they are, and who we are there."""

    agency_url: HttpsUrl = Field(description="scheme and host of the gateway")
    sts_url: HttpsUrl | None = Field(default=None, description="the token service, with its path")
    applies_to: str | None = Field(default=None, description="the relying party as the token service knows it")
    ca_file: Path | None = Field(default=None, description="trust only these authorities (PEM); omitted: the system's")
    keystore: Path | None = Field(default=None, description="keystore.xml, PEM or PKCS#12: a file, or a folder of them")
    keystore_password_file: Path | None = None
    pkcs11_module: Path | None = Field(default=None, description="private keys stay in this PKCS#11 library's token")
    pkcs11_token: str | None = Field(default=None, description="the token's label")
    pkcs11_pin_file: Path | None = None
    credential: str = Field(default="", description="id or ABN of the credential for jobs that name none")
    authentication: Literal["token", "basic"] = "token"
    username: str | None = None
    password_file: Path | None = None
    agency_timeout: timedelta = Field(
        default=timedelta(seconds=200),
        gt=timedelta(0),
        le=timedelta(minutes=10),
        description="over three minutes (WIG 3.6); RabbitMQ takes a message back after 30, so at most ten",
    )
    sts_timeout: Duration = timedelta(seconds=30)
    sts_contract: Literal["v1.3", "v1.2-legacy-sha1"] = Field(
        default="v1.3", description="v1.2 signs with SHA-1: only for a service that takes nothing else"
    )
    sts_back_date: timedelta = Field(
        default=timedelta(0),
        ge=timedelta(0),
        le=timedelta(minutes=4),
        description="how far a request's Timestamp lies in the past, where the service still finds it too new",
    )
    sts_client_entropy: bool = Field(default=False, description="contribute to the proof key (P_SHA1), as .NET does")
    sts_claim_values: bool = Field(default=False, description="write the claims' values when acting for a client")
    sts_context: bool = Field(default=False, description="send a Context, which the response must repeat")
    relationship_id: Literal["v13:ID", "ID", "wsu:Id"] = Field(
        default="v13:ID", description="attribute that carries the id of a relationship token"
    )
    saml_version: Literal["2.0", "1.1"] = Field(default="2.0", description="of the token")
    token_lifetime: timedelta = Field(default=timedelta(minutes=30), gt=timedelta(minutes=5), le=timedelta(hours=8))
    key_size: Literal[256, 512] = 512
    act_as_employer: bool = Field(
        default=False,
        description="tokens act for the employer under the job's software_id (MAS-ST 3.3.1); ASIC's guide knows none",
    )
    poll_first: Duration = timedelta(seconds=60)
    unavailable_first: Duration = timedelta(seconds=30)
    retry_first: Duration = timedelta(seconds=5)
    probe_first: Duration = Field(
        default=timedelta(seconds=5), description="until a door that is closed is tried the first time"
    )
    probe_longest: Duration = Field(default=timedelta(minutes=5), description="between tries, once it has failed often")
    services: tuple[ServiceSettings, ...] = ()
    policies: tuple[PolicySettings, ...] = Field(
        default=(), description="what differs for single channels, services and actions"
    )
    sbr2: Sbr2Settings | None = Field(default=None, description="omitted: this environment lodges no pay events")

    @model_validator(mode="after")
    def _complete(self) -> Self:
        needed: tuple[str, ...] = ("username", "password_file")
        if self.authentication == "token":
            keys = ("keystore", "keystore_password_file")
            if self.pkcs11_module is not None:
                keys = ("pkcs11_token", "pkcs11_pin_file")
            needed = ("sts_url", "applies_to", *keys)
        missing = [name for name in needed if getattr(self, name) is None]
        if missing:
            raise ValueError(f"authentication {self.authentication!r} needs {', '.join(missing)}")
        if self.probe_first > self.probe_longest:
            raise ValueError("probe_first must not be longer than probe_longest")
        if self.sbr2 is not None and self.sts_url is None:
            raise ValueError("sbr2 needs sts_url: SBR2 knows no other authentication than by token")
        if self.pkcs11_module is None and (self.pkcs11_token or self.pkcs11_pin_file):
            raise ValueError("pkcs11_token and pkcs11_pin_file need pkcs11_module, the path of the token's library")
        return self
