"""The ledger's database and the broker, looked at without changing either."""

import re
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta

from pipeline.broker.inspection import BrokerView
from pipeline.broker.inspection import inspect as inspect_broker
from pipeline.broker.topology import Topology
from pipeline.interfaces.cli.doctor.catalogue import Check
from pipeline.interfaces.cli.doctor.line import Line, Role, failed, passed, skipped, warned
from pipeline.interfaces.cli.screen import span
from pipeline.ledger import artifacts, identity, lodgments, sweeps
from pipeline.ledger.inspection import DatabaseView, database_file
from pipeline.ledger.inspection import inspect as inspect_database
from pipeline.ledger.session import Ledger
from pipeline.ledger.vault import Vault
from pipeline.lodgment.errors import ConfigurationError, PipelineError
from pipeline.lodgment.sweeping import SweepKind, missing
from pipeline.settings import Settings

OF_DATABASE = (Check.DATABASE, Check.DATABASE_CLOCK, Check.MIGRATIONS, Check.PARTITIONS)
OF_LEDGER = (Check.LEDGER_KEY, Check.LEDGER_ENVIRONMENT, Check.SWEEPS)
OF_BROKER = (Check.BROKER, Check.TOPOLOGY, Check.QUEUES, Check.ALARM)

_SKEW_TOLD = timedelta(seconds=5)
_OLDEST_POSTGRESQL = 13
_OLDEST_RABBITMQ = (3, 10)
"""Quorum queues dead-letter at least once from 3.10 on."""
_DEEP = 100_000


async def database_lines(settings: Settings, moment: datetime) -> list[Line]:
    """Connection, clock, schema, partitions."""
    try:
        file = database_file(settings.ledger())
        if file is not None and not file.exists():
            why = f"none yet; the first `lodge submit` makes {file}"
            return [skipped(one, why) for one in (*OF_DATABASE, *OF_LEDGER)]
        view = await inspect_database(settings.ledger(), moment)
    except PipelineError as error:
        return [
            failed(Check.DATABASE, f"{error} [{error.code}]", *_database_fix(error)),
            *(skipped(one, f"needs {Check.DATABASE}") for one in (*OF_DATABASE[1:], *OF_LEDGER)),
        ]
    return list(judge_database(view))


def _database_fix(error: PipelineError) -> tuple[str, Role]:
    if isinstance(error, ConfigurationError):
        return "Correct ledger_url.", Role.OPERATOR
    return "See that the server runs and lets this user into this database.", Role.DATABASE


def judge_database(view: DatabaseView) -> Iterator[Line]:
    """What the database shows of itself."""
    took = {"connect_seconds": round(view.took.total_seconds(), 6)}
    found = f"{view.server} {view.version}, answered in {view.took / timedelta(milliseconds=1):.0f} ms"
    postgresql = view.server == "PostgreSQL"
    if postgresql and _number(view.version)[0] < _OLDEST_POSTGRESQL:
        fix = f"Move the ledger to PostgreSQL {_OLDEST_POSTGRESQL} or later."
        yield failed(Check.DATABASE, found, fix, Role.DATABASE, measured=took)
    else:
        yield passed(Check.DATABASE, found, measured=took)
    yield _database_clock(view.skew)
    if view.lacking:
        waiting = f"at {view.revision or 'nothing'}; still to run: {', '.join(view.lacking)}"
        yield failed(Check.MIGRATIONS, waiting, "Run `lodge db upgrade`: it is safe while workers run.", Role.OPERATOR)
    else:
        yield passed(Check.MIGRATIONS, f"at {view.revision}, nothing is to run")
    if not postgresql:
        yield skipped(Check.PARTITIONS, "SQLite has none")
    elif view.revision is None:
        yield skipped(Check.PARTITIONS, f"needs {Check.MIGRATIONS}")
    elif view.unpartitioned:
        fix = "See that a scheduler runs: it makes them daily."
        yield warned(Check.PARTITIONS, f"not there yet: {', '.join(view.unpartitioned)}", fix, Role.OPERATOR)
    else:
        yield passed(Check.PARTITIONS, "next month's are there")


def _database_clock(skew: timedelta | None) -> Line:
    if skew is None:
        return skipped(Check.DATABASE_CLOCK, "SQLite has this machine's clock")
    seconds = skew.total_seconds()
    if abs(skew) < _SKEW_TOLD:
        return passed(Check.DATABASE_CLOCK, f"as this machine's ({seconds:+.3f} s)", measured={"skew_seconds": seconds})
    found = f"the database's clock is {span(abs(skew))} {'ahead of' if seconds > 0 else 'behind'} this machine's"
    fix = "Set both clocks by NTP."
    return warned(Check.DATABASE_CLOCK, found, fix, Role.OPERATOR, Role.DATABASE, measured={"skew_seconds": seconds})


async def ledger_lines(settings: Settings, keys: tuple[bytes, ...], moment: datetime) -> list[Line]:
    """Whether the master key opens what is stored, whether it is this environment's ledger, and who looks after it."""
    if not keys:
        return [skipped(one, f"needs {Check.MASTER_KEY}") for one in OF_LEDGER]
    ledger = Ledger(settings.ledger(), Vault(keys), pool_size=1)
    try:
        async with ledger.transaction(read_only=True) as tx:
            try:
                await artifacts.check_key(tx)
                key_line = passed(
                    Check.LEDGER_KEY, "the newest document, if there is one, opens with a key that is at hand"
                )
            except ConfigurationError as error:
                fix = "Put the key that is missing back into master_key_file, below the newest one."
                key_line = failed(Check.LEDGER_KEY, f"{error} [{error.code}]", fix, Role.OPERATOR)
            environment = judge_environment(await lodgments.environment(tx), settings.environment)
            last = {kind: one.last_run_at for kind, one in (await sweeps.notes(tx)).items()}
            made_at = (await identity.read(tx)).made_at
        if settings.embedded:
            return [key_line, environment, skipped(Check.SWEEPS, "the process that runs here sweeps, while it runs")]
        return [key_line, environment, judge_sweeps(last, made_at, moment)]
    except PipelineError as error:
        fix = "See that the server runs and lets this user read."
        return [
            failed(Check.LEDGER_KEY, f"{error} [{error.code}]", fix, Role.DATABASE),
            *(skipped(one, f"needs {Check.LEDGER_KEY}") for one in OF_LEDGER[1:]),
        ]
    finally:
        await ledger.close()


def judge_environment(found: str | None, wanted: str) -> Line:
    """One ledger, one environment."""
    if found in {None, wanted}:
        return passed(Check.LEDGER_ENVIRONMENT, f"holds lodgments of {wanted!r} alone" if found else "is still empty")
    fix = "Give each environment its own LODGE_LEDGER_URL, or LODGE_HOME."
    text = f"holds lodgments of {found!r}, and these settings lodge with {wanted!r}"
    return failed(Check.LEDGER_ENVIRONMENT, text, fix, Role.OPERATOR)


def judge_sweeps(last: Mapping[SweepKind, datetime], made_at: datetime, now: datetime) -> Line:
    """Whether a scheduler looks for what is stuck."""
    gone = missing(last, made_at, now)
    if not gone:
        return passed(Check.SWEEPS, "every kind of sweep ran lately, or the ledger is new")
    found = f"for {span(now - min(gone.values()))} nobody has looked for: {', '.join(sorted(gone))}"
    return warned(Check.SWEEPS, found, "Start a scheduler: `lodge worker scheduler`.", Role.OPERATOR)


async def broker_lines(url: str, name: str, topology: Topology) -> list[Line]:
    """One broker; `name` is its host and port."""
    try:
        view = await inspect_broker(url, topology)
    except PipelineError as error:
        fix = "See that the broker runs, and that user, password and virtual host in broker_urls are right."
        return [
            failed(Check.BROKER, f"{error} [{error.code}]", fix, Role.OPERATOR, Role.BROKER, subject=name),
            *(skipped(one, f"needs {Check.BROKER}", name) for one in OF_BROKER[1:]),
        ]
    return list(judge_broker(view, name, topology.queue_name("")))


def judge_broker(view: BrokerView, name: str, prefix: str) -> Iterator[Line]:
    """What the broker shows of itself. `prefix` begins the names of our exchanges and queues."""
    found = f"{view.product} {view.version}, everything answered in {view.took * 1000:.0f} ms"
    if view.product != "RabbitMQ" or _number(view.version) < _OLDEST_RABBITMQ:
        fix = "Use RabbitMQ 3.10 or later: quorum queues that dead-letter at least once are needed."
        yield failed(Check.BROKER, found, fix, Role.BROKER, subject=name)
    else:
        yield passed(Check.BROKER, found, name, measured={"inspect_seconds": round(view.took, 6)})
    yield _judge_topology(view, name)
    yield _judge_queues(view, name, prefix)
    if view.alarm is not None:
        fix = "Give the broker memory or disk; publishers wait and nothing is lost."
        yield failed(Check.ALARM, f"publishers are held back: {view.alarm}", fix, Role.BROKER, subject=name)
    else:
        yield passed(Check.ALARM, "publishers are not held back", name)


def _judge_topology(view: BrokerView, name: str) -> Line:
    if view.different:
        found = "; ".join(f"{one}: {said}" for one, said in view.different.items())
        fix = "Drain and delete what was declared otherwise, or choose another namespace; or let this user declare it."
        return failed(Check.TOPOLOGY, found, fix, Role.BROKER, Role.OPERATOR, subject=name)
    if view.absent:
        found = f"not there yet: {', '.join(view.absent)}"
        return warned(Check.TOPOLOGY, found, "Start a worker: it declares them.", Role.OPERATOR, subject=name)
    return passed(Check.TOPOLOGY, "exchanges and quorum queues are there, declared as this program declares them", name)


def _judge_queues(view: BrokerView, name: str, prefix: str) -> Line:
    depths = ", ".join(f"{queue.removeprefix(prefix)} {count}" for queue, count in view.depths.items())
    measured = {f"{queue.removeprefix(prefix)}_messages": float(count) for queue, count in view.depths.items()}
    if view.quarantined:
        found = f"{view.quarantined} message(s) in quarantine; ready: {depths}"
        return warned(
            Check.QUEUES, found, "See `lodge quarantine list`.", Role.OPERATOR, subject=name, measured=measured
        )
    if any(count > _DEEP for count in view.depths.values()):
        fix = "See that workers of that step run."
        return warned(Check.QUEUES, f"ready: {depths}", fix, Role.OPERATOR, subject=name, measured=measured)
    return passed(Check.QUEUES, f"ready: {depths}" if depths else "no queue is there yet", name, measured=measured)


def _number(version: str) -> tuple[int, ...]:
    """The leading numbers: `17.2 (Debian 17.2-1)` is (17, 2)."""
    found = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(int(part) for part in found.group().split(".")) if found else (0,)
