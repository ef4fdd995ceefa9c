"""How long a delivery can stay unacknowledged, held to what RabbitMQ allows before it takes everything back."""

from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import ValidationError

from pipeline.profiles import timing
from pipeline.settings import EnvironmentSettings, Settings
from workers.transport import paces_of

CONSUMER_TIMEOUT = timedelta(minutes=30)
"""RabbitMQ's `consumer_timeout`, as it comes."""
LONGEST = timedelta(minutes=10)


@pytest.mark.parametrize("agency_timeout", [EnvironmentSettings.model_fields["agency_timeout"].default, LONGEST])
def test_a_delivery_is_done_long_before_the_broker_takes_it_back(agency_timeout: timedelta) -> None:
    """Batches and their overlap cover the prefetch, so a delivery waits for one exchange at most, and then has its own.

    The lease outlives an exchange with the time that the ledger may take before it.
    """
    assert 2 * timing(Settings(), _environment(agency_timeout)).lease < 0.75 * CONSUMER_TIMEOUT


@pytest.mark.parametrize("in_flight", [1, 4, 5, 50, 499, 500, 501, 5000])
@pytest.mark.parametrize("batch", [1, 50, 1000])
def test_all_that_is_prefetched_fits_in_the_batches_that_are_handled_at_once(in_flight: int, batch: int) -> None:
    """What `Runner` prefetches is `batch * overlap`; it handles `overlap` batches of up to `batch` at the same time."""
    paces = paces_of(Settings(in_flight=in_flight, batch=batch))
    assert all(pace.batch * pace.overlap > 0 for pace in paces)
    # One connection cannot be shared out: then there are two.
    assert sum(pace.batch * pace.overlap for pace in paces) <= max(2, in_flight)


def test_an_agency_timeout_that_would_be_too_long_for_the_broker_is_refused_by_its_name() -> None:
    with pytest.raises(ValidationError, match="agency_timeout"):
        _environment(LONGEST + timedelta(seconds=1))


def _environment(agency_timeout: timedelta) -> EnvironmentSettings:
    return EnvironmentSettings(
        agency_url="https://asic.example.test",
        authentication="basic",
        username="SYNTHETIC",
        password_file=Path("never-read"),
        agency_timeout=agency_timeout,
    )
