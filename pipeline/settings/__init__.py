"""Settings: a TOML file named by LODGE_SETTINGS_FILE, then LODGE_* variables over it. Secrets come from files only."""

import os
import re
import tomllib
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from pipeline.lodgment.errors import ConfigurationError
from pipeline.lodgment.job import problems_of
from pipeline.settings.sections import (
    Closedown,
    Duration,
    EnvironmentSettings,
    HttpsUrl,
    PolicySettings,
    ReplaySettings,
    Sbr2Settings,
    ServiceSettings,
    SoftwareSettings,
)

__all__ = [
    "SETTINGS_FILE_VARIABLE",
    "Closedown",
    "EnvironmentSettings",
    "PolicySettings",
    "ReplaySettings",
    "Sbr2Settings",
    "ServiceSettings",
    "Settings",
    "SoftwareSettings",
    "load_settings",
]

SETTINGS_FILE_VARIABLE = "LODGE_SETTINGS_FILE"

_FIELD = re.compile(r'field "(\w+)"')
_QUOTED_NAMES = re.compile(r"""\(?["'].{7,}["'],?\)?""", re.DOTALL)
"""How the TOML parser repeats names; a character in quotes, however escaped, is left."""


class Settings(BaseSettings):
    """Everything that can be set; the defaults are the embedded profile with the sandbox agencies."""

    model_config = SettingsConfigDict(env_prefix="LODGE_", env_nested_delimiter="__", extra="forbid", frozen=True)

    environment: str = Field(default="sandbox", description="which of `environments` to lodge with")
    home: Path = Field(default=Path("var"), description="folder of the embedded ledger, the sandbox and the master key")
    ledger_url: str | None = Field(default=None, description="postgresql:// or sqlite:///; omitted: SQLite in `home`")
    broker_urls: Annotated[tuple[str, ...], NoDecode] = Field(default=(), description="amqp://…, several for failover")
    namespace: str = Field(default="lodge", pattern=r"^[a-z][a-z0-9_-]{0,30}$", description="prefix of queues")
    delivery_limit: int = Field(default=20, ge=2)
    master_key_file: Path | None = Field(default=None, description="32 bytes in base64, one per line, newest first")
    evidence_key: Path | None = Field(
        default=None, description="PEM private key that `lodge evidence` signs with; its certificate may stand below it"
    )
    evidence_key_password_file: Path | None = None
    payload_roots: Annotated[tuple[Path, ...], NoDecode] = Field(
        default=(), description="folders that file: payloads are in"
    )
    sandbox_url: HttpsUrl = Field(default="https://localhost:8443", description="where `lodge sandbox serve` listens")
    software: SoftwareSettings | None = None
    environments: dict[str, EnvironmentSettings] = Field(default_factory=dict)
    batch: int = Field(default=200, ge=1, le=1000, description="messages that a worker takes at once")
    in_flight: int = Field(default=256, ge=1, le=5000, description="requests under way to the agency, per worker")
    token_requests: int = Field(default=8, ge=1, le=100, description="requests under way to the STS, per worker")
    sts_rate: float = Field(
        default=10.0, gt=0, le=1000, description="requests a second to the STS, all workers together"
    )
    sts_concurrency: int = Field(
        default=16, ge=1, le=1000, description="requests under way to the STS, all workers together"
    )
    token_look_ahead: timedelta = Field(
        default=timedelta(minutes=10),
        ge=timedelta(0),
        le=timedelta(hours=8),
        description="tokens of lodgments with a not_before are asked for so long ahead",
    )
    ledger_connections: int = Field(default=8, ge=1, le=100)
    due_soon: Duration = Field(default=timedelta(hours=24), description="told of, so long before a due date is over")
    due_last: Duration = Field(default=timedelta(hours=4), description="told again, at the last moment to act by hand")
    replay: ReplaySettings = Field(default_factory=ReplaySettings)
    stuck_after: Duration = timedelta(minutes=5)
    sweep_every: Duration = timedelta(milliseconds=500)
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["text", "json"] = "text"
    metrics_port: int | None = Field(default=None, ge=1, le=65535)

    @field_validator("broker_urls", "payload_roots", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.due_last > self.due_soon:
            raise ValueError("due_last must not be longer than due_soon: it is the later warning")
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003  - the signature is the library's
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        path = os.environ.get(SETTINGS_FILE_VARIABLE)
        file = (TomlConfigSettingsSource(settings_cls, Path(path)),) if path else ()
        return (init_settings, env_settings, *file)

    @property
    def embedded(self) -> bool:
        """Whether everything runs in one process, without a broker to install."""
        return not self.broker_urls

    def ledger(self) -> str:
        return self.ledger_url or f"sqlite:///{self.home.resolve() / 'ledger.sqlite3'}"


def load_settings() -> Settings:
    """The settings of this process.

    Raises:
        ConfigurationError: `settings.file` or `settings.invalid`; names each field, its rule, and never a value.
    """
    path = os.environ.get(SETTINGS_FILE_VARIABLE)
    if path and not Path(path).is_file():
        raise ConfigurationError("settings.file", f"{SETTINGS_FILE_VARIABLE}: there is no file {path}")
    try:
        return Settings()
    except ValidationError as error:
        raise ConfigurationError("settings.invalid", "settings: " + "; ".join(problems_of(error))) from error
    except SettingsError as error:
        field = _FIELD.search(str(error))
        variable = f"LODGE_{field[1].upper()}" if field else "a LODGE_ variable"
        raise ConfigurationError("settings.invalid", f"settings: {variable}: must be JSON") from error
    except UnicodeDecodeError as error:
        raise ConfigurationError("settings.file", f"{SETTINGS_FILE_VARIABLE}: {path} is not UTF-8") from error
    except tomllib.TOMLDecodeError as error:
        text = f"{SETTINGS_FILE_VARIABLE}: {path} is no TOML: {_unquoted(error)}"
        raise ConfigurationError("settings.file", text) from None
    except RecursionError as error:
        raise ConfigurationError("settings.file", "settings: are nested too deep") from error
    except OSError as error:
        text = f"{SETTINGS_FILE_VARIABLE}: {path} cannot be read: {error.strerror}"
        raise ConfigurationError("settings.file", text) from error


def _unquoted(error: tomllib.TOMLDecodeError) -> str:
    """What is wrong and where, without the names: a URL with its password may stand in the place of one."""
    return _QUOTED_NAMES.sub("a name", str(error))
