"""Keeps the credentials' remaining time on the metrics, and tells once a day of those that end soon."""

from collections.abc import Callable
from datetime import date, datetime, timedelta

import structlog

from pipeline.keyring import Keyring
from pipeline.protocol.credential import EXPIRY_WARNING, Credential
from pipeline.telemetry import Metrics

log = structlog.get_logger(__name__)


class ExpiryWatch:
    """One process's watch over its keyring. Looking also picks up a replaced file while there is nothing to do."""

    def __init__(self, keyring: Keyring, metrics: Metrics, clock: Callable[[], datetime]) -> None:
        self._keyring = keyring
        self._metrics = metrics
        self._clock = clock
        self._told: dict[str, date] = {}

    async def look(self) -> bool:
        """Measure now; False, since there is never more to do at once."""
        now = self._clock()
        entries = [one.entry for one in self._keyring.holdings()]
        latest: dict[str, Credential] = {}
        for one in sorted((one for one in entries if isinstance(one, Credential)), key=lambda one: one.not_after):
            latest[one.id] = one
        left = {(one.id, one.abn): one.not_after - now for one in latest.values()}
        self._metrics.credentials(left, unusable=sum(not isinstance(one, Credential) for one in entries))
        for credential in latest.values():
            self._tell(credential, now)
        return False

    def _tell(self, credential: Credential, now: datetime) -> None:
        left = credential.not_after - now
        if left > EXPIRY_WARNING or self._told.get(credential.id) == now.date():
            return
        self._told[credential.id] = now.date()
        event = "credential.expiring" if left > timedelta(0) else "credential.expired"
        log.warning(
            event,
            credential=credential.id,
            abn=credential.abn,
            not_after=credential.not_after.isoformat(),
            days_left=left // timedelta(days=1),
        )
