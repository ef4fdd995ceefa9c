"""What operators write: the settings file, LODGE_ variables, policies, secrets in files."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from pipeline.lodgment.errors import ConfigurationError
from pipeline.policies import breaker_policies, doors, retry_policies
from pipeline.secret_files import read_secret
from pipeline.settings import SETTINGS_FILE_VARIABLE, load_settings
from tests.fuzz.mutation import JSON, TOML, Form
from tests.fuzz.scratch import file_of
from tests.fuzz.target import Target, must

NOW = datetime(2026, 11, 25, 3, 0, tzinfo=UTC)
_SECRET = "SYNTHETIC-SECRET"
_FILE = f"""
environment = "evte"
ledger_url = "postgresql://lodge:{_SECRET}@db.example.test/lodge"
broker_urls = ["amqps://lodge:{_SECRET}@broker.example.test/lodge"]
batch = 100
sts_rate = 5.0
due_soon = "PT24H"
[software]
organisation = "Synthetic Payroll Pty Ltd"
product = "Synthetic Pay"
version = "1.0"
[environments.evte]
agency_url = "https://agency.example.test"
sts_url = "https://sts.example.test/S007v1.3/service.svc"
applies_to = "https://agency.example.test"
keystore = "keystore.xml"
keystore_password_file = "keystore.password"
[environments.evte.sbr2]
gateways = {{ first = "https://one.example.test", second = "https://two.example.test:8443" }}
gateway = "first"
applies_to = "https://sbr.example.test"
product_id = "SYNTHETIC-1"
vendor = "Synthetic"
name = "Synthetic Pay"
version = "1.0"
domain = "example.test"
closedowns = [{{ start = 2026-12-24T10:00:00Z, end = 2026-12-25T10:00:00Z, takes_documents = false }}]
[[environments.evte.policies]]
channel = "asic_bn"
not_sent_first = "PT5S"
breaker_failures = 5
breaker_ramp = [1, 2, 4]
[[environments.evte.policies]]
channel = "sbr2_stp"
service = "payevnt"
action = "Submit"
poll_first = 30
poll_longest = "PT10M"
"""


def _read() -> None:
    settings = load_settings()
    for environment in settings.environments.values():
        policies = retry_policies(environment)
        breakers = breaker_policies(environment, timedelta(minutes=5))
        must(bool(doors(environment)) and bool(breakers.usual.ramp), "every environment has its doors")
        for policy in (one for pairs in policies.values() for one in pairs.values()):
            must(policy.not_sent.first <= policy.not_sent.cap, "delays grow")
    must(_SECRET not in str(settings.software), "no secret leaks into other settings")


@contextmanager
def _environment(**variables: str) -> Iterator[None]:
    """Variables of this process for a while, in place of all that begin alike."""
    before = {name: os.environ.pop(name) for name in list(os.environ) if name.upper().startswith("LODGE_")}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name in variables:
            del os.environ[name]
        os.environ.update(before)


def _toml(data: bytes) -> None:
    with _environment(**{SETTINGS_FILE_VARIABLE: str(file_of("lodge.toml", data))}):
        _read()


def _variable_seeds() -> Sequence[bytes]:
    return (
        (
            b'LODGE_BATCH=10\nLODGE_STUCK_AFTER=PT5M\nLODGE_SOFTWARE={"organisation":"a","product":"b","version":"c"}\n'
            b"LODGE_SOFTWARE__PRODUCT=d\nLODGE_PAYLOAD_ROOTS=/data/in,/data/more\nLODGE_LOG_LEVEL=debug\nLODGE_STS_RATE=1e3"
        ),
        f"LODGE_BROKER_URLS=amqp://a:{_SECRET}@b\nLODGE_LEDGER_URL=postgresql://a:{_SECRET}@b/c".encode(),
    )


def _variables(data: bytes) -> None:
    lines = [line.decode(errors="surrogateescape").partition("=") for line in data.replace(b"\0", b"").split(b"\n")]
    with _environment(**{name: value for name, _, value in lines if name.startswith("LODGE_")}):
        _read()


def _secret(data: bytes) -> None:
    text = read_secret(file_of("secret", data), "synthetic secret")
    must(text == text.strip() != "", "a secret is there, without blanks around it")


TARGETS = (
    Target(
        "settings-file",
        "no value is quoted; policies fit together",
        lambda: (_FILE.encode(),),
        _toml,
        (ConfigurationError,),
        TOML,
        (_SECRET,),
    ),
    Target(
        "settings-variables",
        "no value is quoted; policies fit together",
        _variable_seeds,
        _variables,
        (ConfigurationError,),
        Form((*TOML.pieces[:1], *JSON.pieces), JSON.values),
        (_SECRET,),
    ),
    Target(
        "secret-file",
        "a secret without blanks around it, never quoted",
        lambda: (f"{_SECRET}\n".encode(),),
        _secret,
        (ConfigurationError,),
        secrets=(_SECRET,),
    ),
)
