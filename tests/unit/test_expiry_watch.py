"""The watch over expiry: on the metrics all the time, in the log once a day from sixty days out."""

from datetime import datetime, timedelta
from pathlib import Path

from structlog.testing import capture_logs

from pipeline.expiry_watch import ExpiryWatch
from pipeline.keyring import KeyPlaces, Keyring
from pipeline.protocol.credential import EXPIRY_WARNING, Credential
from pipeline.protocol.synthetic_keystore import write
from pipeline.telemetry import Metrics
from tests.doubles.synthetic_credentials import AGENT_ABN, ISSUED_AT, credential

SOON = timedelta(days=100)
LATE = f"ABRD:{AGENT_ABN}_Late"


class Clock:
    def __init__(self, moment: datetime) -> None:
        self.moment = moment

    def __call__(self) -> datetime:
        return self.moment


def keep(path: Path, *credentials: Credential) -> None:
    path.touch(mode=0o600)
    path.write_bytes(write(credentials, "Synthetic-1", b"seed"))


def watch_over(folder: Path, clock: Clock) -> tuple[ExpiryWatch, Metrics]:
    password = folder / "password"
    password.touch(mode=0o600)
    password.write_text("Synthetic-1")
    metrics = Metrics()
    return ExpiryWatch(Keyring(KeyPlaces(folder / "keystore.xml", password)), metrics, clock), metrics


def seconds_left(metrics: Metrics, identity: str) -> float | None:
    labels = {"credential": identity, "abn": AGENT_ABN}
    return metrics.registry.get_sample_value("lodge_credential_seconds_left", labels)


async def test_the_time_left_is_measured_at_every_look_and_goes_with_the_credential(tmp_path: Path) -> None:
    keep(tmp_path / "keystore.xml", credential(), credential(LATE, 5))
    clock = Clock(ISSUED_AT)
    watch, metrics = watch_over(tmp_path, clock)
    await watch.look()
    assert seconds_left(metrics, LATE) == timedelta(days=730).total_seconds()
    clock.moment += timedelta(days=731)
    await watch.look()
    assert seconds_left(metrics, LATE) == -timedelta(days=1).total_seconds()
    keep(tmp_path / "keystore.xml", credential())
    await watch.look()
    assert seconds_left(metrics, LATE) is None
    assert seconds_left(metrics, credential().id) == -timedelta(days=1).total_seconds()
    assert metrics.registry.get_sample_value("lodge_credentials_unusable") == 0


async def test_what_expires_soon_is_told_once_a_day_until_it_is_replaced(tmp_path: Path) -> None:
    ending = credential(serial=4, valid=SOON)
    keep(tmp_path / "keystore.xml", ending)
    clock = Clock(ISSUED_AT + SOON - EXPIRY_WARNING - timedelta(seconds=1))
    watch, _ = watch_over(tmp_path, clock)
    with capture_logs() as logs:
        for passed in (timedelta(), timedelta(seconds=1), timedelta(hours=1), timedelta(days=1), timedelta(minutes=1)):
            clock.moment += passed
            await watch.look()
        keep(tmp_path / "keystore.xml", ending, credential())
        clock.moment += timedelta(days=1)
        await watch.look()
    told = [one for one in logs if one["event"].startswith("credential.")]
    assert [(one["event"], one["credential"], one["days_left"]) for one in told] == [
        ("credential.expiring", ending.id, 60),
        ("credential.expiring", ending.id, 58),
    ]


async def test_an_expired_one_is_told_as_such(tmp_path: Path) -> None:
    keep(tmp_path / "keystore.xml", credential(serial=4, valid=SOON))
    watch, _ = watch_over(tmp_path, Clock(ISSUED_AT + SOON + timedelta(hours=1)))
    with capture_logs() as logs:
        await watch.look()
    assert [(one["event"], one.get("days_left")) for one in logs if "credential." in one["event"]] == [
        ("credential.expired", -1)
    ]


async def test_credentials_that_cannot_be_used_are_counted(tmp_path: Path) -> None:
    keep(tmp_path / "keystore.xml", credential())
    watch, metrics = watch_over(tmp_path, Clock(ISSUED_AT))
    damaged = (tmp_path / "keystore.xml").read_bytes().replace(b"<protectedPrivateKey>MII", b"<protectedPrivateKey>AAA")
    (tmp_path / "keystore.xml").write_bytes(damaged)
    await watch.look()
    assert metrics.registry.get_sample_value("lodge_credentials_unusable") == 1
