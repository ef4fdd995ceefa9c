"""What `lodge status` knows: asked of the ledger, and of the broker if there is one."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from pipeline.interfaces.cli.breakers import standing as breakers_standing
from pipeline.interfaces.cli.session import now, opened_ledger, somebody_at_work
from pipeline.lodgment.deadlines import Nearness
from pipeline.lodgment.errors import ConfigurationError, DependencyDownError
from pipeline.lodgment.holds import WAVE_WITHIN

if TYPE_CHECKING:
    from pipeline.interfaces.cli.breakers import Standing
    from pipeline.ledger.backlog import DueDay, Overdue, WaitingFor
    from pipeline.ledger.holds import Standing as StandingHold
    from pipeline.ledger.lanes import Blocked
    from pipeline.ledger.reports import StateCount
    from pipeline.ledger.sweeps import SweepNote
    from pipeline.ledger.waiting_jobs import WaitingSender
    from pipeline.ledger.watch import Late, Near
    from pipeline.lodgment.decisions import Closedown
    from pipeline.settings import Settings

_CALENDAR_AHEAD = timedelta(days=14)
_BROKER_PATIENCE = 8.0
_SHOWN = 10
_LATE = timedelta(minutes=1)
"""A scheduler sweeps twice a second: what is due for so long is looked after by nobody."""


@dataclass(frozen=True, slots=True)
class Overview:
    """What `lodge status` knows. `queues` is None where no broker could be asked, and `broker` says why; a queue that
    is not there has None.
    """

    environment: str
    at: datetime
    states: "list[StateCount]"
    reasons: "list[WaitingFor]"
    jobs: "list[WaitingSender]"
    due: "list[DueDay]"
    overdue: "Overdue"
    holds: "list[StandingHold]"
    lanes: "list[Blocked]"
    wave: int
    late: "list[Late]"
    near: "list[Near]"
    breakers: "list[Standing]"
    closedowns: "list[tuple[str, Closedown]]"
    replays: dict[str, int]
    quarantined: int
    queues: dict[str, int | None] | None
    broker: str
    at_work: bool | None
    sweeps: "Sequence[SweepNote]" = ()
    """What looks for stuck lodgments, as far as it ever ran."""
    made_at: datetime | None = None
    """When this ledger was made: from then on somebody should sweep."""


async def look(settings: "Settings", days: int, due_within: int) -> Overview:
    """Ask the ledger, and the broker if there is one to ask."""
    from pipeline.ledger import (
        backlog,
        holds,
        identity,
        lanes,
        quarantine,
        replays,
        reports,
        sweeps,
        waiting_jobs,
        watch,
    )
    from pipeline.lodgment.deadlines import DeadlinePolicy

    moment = now()
    soon = DeadlinePolicy(settings.due_soon, settings.due_last).until(Nearness.SOON, moment)
    async with opened_ledger(settings) as ledger, ledger.transaction(read_only=True) as tx:
        states = await reports.state_counts(tx, moment - timedelta(days=days))
        reasons = await backlog.reasons(tx)
        jobs = await waiting_jobs.standing(tx, _SHOWN)
        due = await backlog.due_days(tx, moment.date() + timedelta(days=due_within))
        overdue = await backlog.overdue(tx, moment - _LATE)
        standing = await holds.standing(tx, _SHOWN)
        blocked = await lanes.longest(tx, _SHOWN)
        wave = await holds.employers_since(tx, moment - WAVE_WITHIN)
        late = await watch.late(tx)
        near = await watch.near(tx, soon)
        breakers = await breakers_standing(tx)
        unfinished = await replays.running(tx)
        quarantined = await quarantine.count(tx)
        noted = await sweeps.notes(tx)
        made_at = (await identity.read(tx)).made_at
    queues, broker = await _queues(settings)
    return Overview(
        environment=settings.environment,
        at=moment,
        states=states,
        reasons=reasons,
        jobs=jobs,
        due=due,
        overdue=overdue,
        holds=standing,
        lanes=blocked,
        wave=wave,
        late=late,
        near=near,
        breakers=breakers,
        closedowns=_closedowns(settings, moment),
        replays=unfinished,
        quarantined=quarantined,
        queues=queues,
        broker=broker,
        at_work=somebody_at_work(settings),
        sweeps=tuple(noted.values()),
        made_at=made_at,
    )


def _closedowns(settings: "Settings", moment: datetime) -> "list[tuple[str, Closedown]]":
    """The calendar's closedowns that are on or begin soon, each with the channel and service that it is of."""
    from pipeline.interfaces.cli.policies import in_force

    found = {(f"{one.channel}/{one.service}", each) for one in in_force(settings) for each in one.retry.closedowns}
    ahead = moment + _CALENDAR_AHEAD
    return sorted(
        ((what, each) for what, each in found if each.end > moment and each.start < ahead), key=lambda one: one[1].start
    )


async def _queues(settings: "Settings") -> tuple[dict[str, int | None] | None, str]:
    from pipeline.broker import inspection
    from pipeline.broker.topology import Topology

    if settings.embedded:
        return None, "embedded: the queues live inside the process that runs"
    topology = Topology(settings.namespace, settings.delivery_limit)
    why = ""
    for url in settings.broker_urls:
        try:
            async with asyncio.timeout(_BROKER_PATIENCE):
                return await inspection.ready(url, topology), "reached"
        except TimeoutError:
            why = f"no answer within {_BROKER_PATIENCE:g} s"
        except (DependencyDownError, ConfigurationError) as error:
            why = f"{error} [{error.code}]"
    return None, f"{why}; lodgments are safe in the ledger meanwhile"
