"""Wires the parts: settings in, a process's running parts out. Plain constructors; nothing is global."""

import asyncio
import base64
import binascii
import fcntl
import os
import secrets
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path

import structlog

from pipeline.broker.embedded import EmbeddedBroker
from pipeline.broker.port import Broker
from pipeline.broker.rabbitmq import RabbitBroker
from pipeline.broker.topology import Topology
from pipeline.gateway.client import Gateway, TlsSettings
from pipeline.keyring import KeyPlaces, Keyring
from pipeline.ledger import artifacts, lodgments, migrate
from pipeline.ledger.session import Ledger
from pipeline.ledger.vault import Vault
from pipeline.lodgment.deadlines import DeadlinePolicy
from pipeline.lodgment.errors import ConfigurationError
from pipeline.lodgment.failures import Failure
from pipeline.lodgment.references import Ids
from pipeline.pkcs11 import open_token
from pipeline.policies import breaker_policies
from pipeline.profiles import channels, environment_of, timeouts, timing
from pipeline.protocol.keystore import KeystoreError
from pipeline.protocol.libraries import require_one_libxml2, xml_libraries
from pipeline.secret_files import read_secret
from pipeline.settings import EnvironmentSettings, Settings
from pipeline.stages.contract import Context
from pipeline.telemetry import Metrics

log = structlog.get_logger(__name__)

MASTER_KEY_BYTES = 32


@dataclass(frozen=True, slots=True)
class Parts:
    """What a process works with, opened; `opened` closes it."""

    settings: Settings
    environment: EnvironmentSettings
    broker: Broker
    agency: Gateway
    sts: Gateway
    context: Context
    metrics: Metrics
    keyring: Callable[[], Keyring | None]
    """Opens the credentials when first called: only workers that sign have any business with keys."""

    @property
    def ledger(self) -> Ledger:
        return self.context.ledger


def now() -> datetime:
    """The clock of every process."""
    return datetime.now(UTC)


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[Parts]:
    """The parts of one process: ledger checked, broker connected.

    Raises:
        ConfigurationError: whatever cannot work as set, with the setting's name.
    """
    require_one_libxml2(xml_libraries())
    async with AsyncExitStack() as stack:
        if settings.embedded:
            _require_own_ledger(settings)
            stack.enter_context(_alone_in(settings.home))
            await asyncio.to_thread(migrate.upgrade, settings.ledger())
        environment = environment_of(settings, now())
        if environment.sts_contract != "v1.3":
            log.warning("sts.legacy_sha1", environment=settings.environment, sts_contract=environment.sts_contract)
        ledger = open_ledger(settings)
        stack.push_async_callback(ledger.close)
        await ledger.check()
        await _fits(ledger, settings.environment)
        broker = open_broker(settings)
        stack.push_async_callback(broker.close)
        await broker.open()
        tls = TlsSettings(environment.ca_file)
        # One at least for live work, and one for what gives way to it.
        connections = max(2, settings.in_flight)
        agency = Gateway(tls, timeouts(environment.agency_timeout), now, pool_size=connections)
        stack.push_async_callback(agency.close)
        sts = Gateway(tls, timeouts(environment.sts_timeout), now, pool_size=settings.token_requests)
        stack.push_async_callback(sts.close)
        metrics, clocks = Metrics(), timing(settings, environment)
        yield Parts(
            settings=settings,
            environment=environment,
            broker=broker,
            agency=agency,
            sts=sts,
            context=Context(
                ledger=ledger,
                channels=channels(settings, environment),
                environment=settings.environment,
                clock=now,
                timing=clocks,
                breakers=breaker_policies(environment, clocks.lease),
                deadlines=DeadlinePolicy(settings.due_soon, settings.due_last),
                ids=Ids(),
                worker=f"{socket.gethostname()}:{os.getpid()}:{now():%Y%m%dT%H%M%S}",
                metrics=metrics,
            ),
            metrics=metrics,
            keyring=cache(partial(open_keyring, environment)),
        )


def open_ledger(settings: Settings) -> Ledger:
    """The ledger, with the vault that its secrets are sealed in."""
    return Ledger(settings.ledger(), Vault(_master_keys(settings)), pool_size=settings.ledger_connections)


def open_broker(settings: Settings) -> Broker:
    """RabbitMQ where URLs are set, else the broker inside this process."""
    topology = Topology(settings.namespace, settings.delivery_limit)
    if settings.embedded:
        return EmbeddedBroker(topology)
    return RabbitBroker(settings.broker_urls, topology)


def open_keyring(environment: EnvironmentSettings) -> Keyring | None:
    """The machine credentials, or None where the environment uses user name and password.

    Raises:
        ConfigurationError: no credential can be used, or not the one that `credential` names: `keystore.*`, `pkcs11.*`
            or `secret.*`. What becomes unusable later is told, and holds what needs it.
    """
    keyring = keyring_of(environment)
    if keyring is None:
        return None
    try:
        keyring.all()
    except KeystoreError as error:
        raise ConfigurationError(error.code, str(error)) from error
    found = keyring.get(environment.credential) if environment.credential else None
    if isinstance(found, Failure):
        raise ConfigurationError(found.code, f"credential: {found.detail}")
    return keyring


def keyring_of(environment: EnvironmentSettings) -> Keyring | None:
    """The keyring as it is, for looking at what cannot be used; nothing is read yet.

    Raises:
        ConfigurationError: `pkcs11.package`.
    """
    if environment.keystore is None and environment.pkcs11_module is None:
        return None
    token = None
    if environment.pkcs11_module is not None:
        assert environment.pkcs11_token is not None  # noqa: S101  - the settings' own rule
        assert environment.pkcs11_pin_file is not None  # noqa: S101
        token = open_token(environment.pkcs11_module, environment.pkcs11_token, environment.pkcs11_pin_file)
    return Keyring(KeyPlaces(environment.keystore, environment.keystore_password_file, token))


def _master_keys(settings: Settings) -> tuple[bytes, ...]:
    """The keys of the vault, newest first. Only the embedded profile makes one by itself.

    Raises:
        ConfigurationError: `master-key.missing` or `master-key.invalid`.
    """
    path = settings.master_key_file
    if path is None and settings.ledger_url is None:
        path = settings.home / "master.key"
        _make_master_key(path)
    if path is None:
        text = "master_key_file: name the file that holds the master key; `lodge master-key FILE` makes one"
        raise ConfigurationError("master-key.missing", text)
    return read_master_keys(path)


def read_master_keys(path: Path) -> tuple[bytes, ...]:
    """The master keys in a file, newest first.

    Raises:
        ConfigurationError: `secret.*`, or `master-key.invalid`; names the file, never its content.
    """
    try:
        keys = tuple(base64.b64decode(line, validate=True) for line in read_secret(path, "master key").split())
    except binascii.Error as error:
        raise ConfigurationError("master-key.invalid", f"{path}: each line must be a key in base64") from error
    if any(len(key) != MASTER_KEY_BYTES for key in keys):
        raise ConfigurationError("master-key.invalid", f"{path}: each key must have {MASTER_KEY_BYTES} bytes")
    return keys


def _make_master_key(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return
    with os.fdopen(descriptor, "wb") as file:
        file.write(base64.b64encode(secrets.token_bytes(MASTER_KEY_BYTES)) + b"\n")


async def _fits(ledger: Ledger, environment: str) -> None:
    """See that this process may work on what the ledger holds.

    Raises:
        ConfigurationError: `ledger.environment`, or `vault.key_unknown`.
    """
    async with ledger.transaction(read_only=True) as tx:
        await artifacts.check_key(tx)
        found = await lodgments.environment(tx)
    if found not in {None, environment}:
        # What waits would be sent to the wrong agency, and a job known there would be taken for lodged here.
        text = f"the ledger holds lodgments of environment {found!r}, this process lodges with {environment!r}"
        raise ConfigurationError("ledger.environment", f"{text}: give each its own LODGE_LEDGER_URL, or LODGE_HOME")


def _require_own_ledger(settings: Settings) -> None:
    """Keep the embedded profile, which takes over what was in flight, away from a ledger that others may work on.

    Raises:
        ConfigurationError: `embedded.ledger`.
    """
    if settings.ledger_url is not None:
        text = "broker_urls: is not set, so that one process does all the work, and its ledger is in `home`"
        raise ConfigurationError("embedded.ledger", f"{text}: set broker_urls, or leave ledger_url out")


@contextmanager
def _alone_in(home: Path) -> Iterator[None]:
    """Keep a second process out: the embedded broker knows only its own, and what was in flight is taken over at start.

    Raises:
        ConfigurationError: `embedded.busy`.
    """
    home.mkdir(parents=True, exist_ok=True)
    with (home / "embedded.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            text = f"{home} is in use by another lodge process; stop it, or set LODGE_HOME to another folder"
            raise ConfigurationError("embedded.busy", text) from error
        yield
