"""`lodge quarantine fix`, `return` and `discard`: each deed once, and kept with who and why."""

import asyncio
import hashlib
import os
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.interfaces.cli.find import the_item
from pipeline.interfaces.cli.operate import Why, require_reason, write_released
from pipeline.interfaces.cli.quarantine_edits import assignment, changed, told
from pipeline.interfaces.cli.screen import progress, shown, stderr, stdout
from pipeline.interfaces.cli.session import now, opened_ledger, operator, settings_of
from pipeline.lodgment.errors import ConfigurationError, RefusedError
from pipeline.lodgment.states import NEXT_STEP, State, Step

if TYPE_CHECKING:
    from pipeline.ledger.quarantine import Fate, Quarantined
    from pipeline.ledger.session import Ledger, Tx
    from pipeline.lodgment.job import LodgmentJob
    from pipeline.settings import Settings

_AT_ONCE = 100_000
_EXAMPLES = 10

Ids = Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="As `lodge quarantine list` shows them.")]
Code = Annotated[str | None, typer.Option("--code", metavar="CODE", help="All that are here for this reason code.")]


def fix(
    context: typer.Context,
    reason: Why,
    ids: Ids = None,
    code: Code = None,
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="FIELD=VALUE", help="Set a field of the job, as in sender.type=REGA; may repeat."
        ),
    ] = None,
    without: Annotated[
        list[str] | None, typer.Option("--unset", metavar="FIELD", help="Leave a field out; may repeat.")
    ] = None,
    whole: Annotated[
        Path | None, typer.Option("--with", metavar="FILE", help="Put the job in FILE in its place.")
    ] = None,
) -> None:
    """Correct a refused job where it lies. It is checked as the intake checks it, before anything is written.

    Change only what its producer agrees to: what is lodged is the corrected job. Nothing is sent by this; `lodge
    quarantine return` puts it on its queue.
    """
    settings = settings_of(context)
    require_reason(reason)
    if bool(whole) == bool(changes or without):
        raise ConfigurationError("quarantine.fix", "give --set and --unset, or --with a FILE: what is to be changed?")
    replacement = None if whole is None else _read_file(whole)
    if replacement is not None and (code or len(ids or ()) != 1):
        raise ConfigurationError("quarantine.fix", "--with: takes exactly one ID, each job has its own document")
    sets = [assignment(one) for one in changes or ()]

    async def one(ledger: "Ledger", which: str) -> None:
        async with ledger.transaction() as tx:
            item = await _open_item(tx, which)
            _require_job(item)
            body = replacement if replacement is not None else changed(item.body, sets, without or ())
            job, _ = await _checked(tx, settings, body)
            await _rewrite(tx, item, body, job.job_id, told(sets, without or (), whole), reason)

    done = asyncio.run(_each(settings, ids, code, one))
    stdout().print(f"Fixed: {done}. `lodge quarantine return` puts them on their queue.")


def put_back(context: typer.Context, reason: Why, ids: Ids = None, code: Code = None) -> None:
    """Put messages back: a job on the intake's queue, once it would be taken; a lodgment's step where it stood.

    Each is returned once. What would only be refused again stays, and is told with its fault.
    """
    settings = settings_of(context)
    require_reason(reason)
    done = asyncio.run(_return(settings, ids, code, reason))
    stdout().print(f"Returned: {done}.")


def discard(context: typer.Context, reason: Why, ids: Ids = None, code: Code = None) -> None:
    """Take messages off the list for good. Their rows stay, with who and why; their lodgments stay as they are."""
    from pipeline.ledger.quarantine import Fate

    settings = settings_of(context)
    require_reason(reason)

    async def one(ledger: "Ledger", which: str) -> None:
        async with ledger.transaction() as tx:
            await _settle(tx, await _open_item(tx, which), Fate.DISCARDED, reason)

    done = asyncio.run(_each(settings, ids, code, one))
    stdout().print(f"Discarded: {done}.")


async def _return(settings: "Settings", ids: Sequence[str] | None, code: str | None, why: str) -> int:
    from pipeline.bootstrap import open_broker
    from pipeline.broker.port import Exchange, Outgoing
    from pipeline.ledger.quarantine import Fate

    broker = None if settings.embedded else open_broker(settings)

    async def one(ledger: "Ledger", which: str) -> None:
        async with ledger.transaction() as tx:
            item = await _open_item(tx, which)
            if item.lodgment_id is not None:
                await _put_back_lodgment(tx, item, why)
                return
            _require_job(item)
            job, digest = await _checked(tx, settings, item.body)
            if broker is not None:
                # The row is locked and the queue has the job before this is committed: nobody else returns it, and a
                # crash between the two only means that a job which is known comes again.
                await _settle(tx, item, Fate.RETURNED, why)
                message = Outgoing(Exchange.JOBS, Step.RECEIVE, item.body, job.job_id, priority=job.priority)
                await broker.publish([message])
        if item.lodgment_id is None and broker is None:
            await _lodge_here(settings, job, digest)
            async with ledger.transaction() as tx:
                await _settle(tx, item, Fate.RETURNED, why)

    if broker is None:
        return await _each(settings, ids, code, one)
    try:
        await broker.open()
        return await _each(settings, ids, code, one)
    finally:
        await broker.close()


async def _lodge_here(settings: "Settings", job: "LodgmentJob", digest: str) -> None:
    """Without a broker the queue lives inside a process: run it until this job is where it can be left."""
    from pipeline.interfaces.cli.in_process import Patience, lodge_here

    patience = Patience(to_the_end=False, seconds=None)
    await lodge_here(settings, [job], {job.job_id: digest}, patience, on_ended=lambda _: None)


async def _put_back_lodgment(tx: "Tx", item: "Quarantined", why: str) -> None:
    """Let the lodgment go on where its message could not be handled; the scheduler queues it."""
    from pipeline.ledger import lodgments
    from pipeline.ledger.quarantine import Fate

    assert item.lodgment_id is not None  # noqa: S101  - the caller's own rule
    row = (await lodgments.load(tx, [item.lodgment_id])).get(item.lodgment_id)
    if row is None or (row.state is not State.HELD and row.state not in NEXT_STEP):
        state = "not in this ledger" if row is None else f"{row.state} by now"
        text = f"{item.id}: its lodgment is {state} and needs no message: discard this one"
        raise RefusedError("quarantine.moved", text)
    await _settle(tx, item, Fate.RETURNED, why)
    if row.state is State.HELD:
        await write_released(tx, [row], why)
    else:
        await lodgments.postpone(tx, [row.id], now())


async def _each(
    settings: "Settings",
    ids: Sequence[str] | None,
    code: str | None,
    one: "Callable[[Ledger, str], Awaitable[None]]",
) -> int:
    """Do it to each, one transaction each; how many. Those that cannot be done are told, and stay as they are.

    Raises:
        ConfigurationError: `quarantine.which`.
        RefusedError: what is wrong with the only one, or `quarantine.some` when it was many.
    """
    from pipeline.ledger import quarantine

    if bool(ids) == bool(code):
        raise ConfigurationError("quarantine.which", "give ids, or --code CODE: which messages are meant?")
    faults: list[RefusedError] = []
    async with opened_ledger(settings) as ledger:
        wanted = list(dict.fromkeys(ids or ()))
        if code is not None:
            async with ledger.transaction(read_only=True) as tx:
                wanted = [str(item.id) for item in reversed(await quarantine.list_(tx, _AT_ONCE, code=code))]
            if not wanted:
                raise RefusedError(
                    "quarantine.none", f"nothing is in quarantine for {code}; see `lodge quarantine list`"
                )
        with progress() as bar:
            for which in bar.track(wanted, description="messages"):
                try:
                    await one(ledger, which)
                except RefusedError as error:
                    faults.append(error)
    if not faults:
        return len(wanted)
    if len(wanted) == 1:
        raise faults[0]
    for fault in faults[:_EXAMPLES]:
        stderr().print(f"{shown(fault)} [{fault.code}]", soft_wrap=True)
    done = len(wanted) - len(faults)
    raise RefusedError("quarantine.some", f"done: {done}; not done, and left as they were: {len(faults)}")


async def _open_item(tx: "Tx", which: str) -> "Quarantined":
    item = await the_item(tx, which)
    if item.released_at is not None:
        by = f" by {item.fate_by}" if item.fate_by else ""
        raise RefusedError("quarantine.left", f"{which} was {item.fate or 'released'}{by}: it is not in quarantine now")
    return item


def _require_job(item: "Quarantined") -> None:
    if item.lodgment_id is not None:
        text = f"{item.id}: its lodgment {item.lodgment_id} has taken its job already: there is no job to correct"
        raise RefusedError("quarantine.lodgment", f"{text}; mend the cause, then `lodge quarantine return {item.id}`")
    if item.step != Step.RECEIVE:
        text = f"{item.id}: a message of the step {item.step} that names no lodgment: nothing can be done with it"
        raise RefusedError("quarantine.unreadable", f"{text}; discard it")


async def _checked(tx: "Tx", settings: "Settings", body: bytes) -> "tuple[LodgmentJob, str]":
    """The job and its content digest, once the intake would take it.

    Raises:
        RefusedError: with the code and the faults with which it would be refused again.
    """
    from pipeline.gateway.documents import LARGEST, DocumentStore
    from pipeline.interfaces.cli.examine import checked_digest
    from pipeline.ledger import lodgments
    from pipeline.lodgment.job import JobRefusedError, read_job
    from pipeline.profiles import channels, environment_of

    try:
        job = read_job(body)
        found = channels(settings, environment_of(settings, now()))
        digest = checked_digest(job, found, DocumentStore(settings.payload_roots, LARGEST))
    except JobRefusedError as error:
        raise RefusedError(error.code, f"it would be refused again, nothing was changed: {error}") from error
    known = (await lodgments.known_jobs(tx, [job.job_id])).get(job.job_id)
    if known is not None and known.content_digest != digest:
        text = f"job_id: {job.job_id} is lodgment {known.id} with other content; give this job an id of its own"
        raise RefusedError("job.conflict", f"it would be refused again, nothing was changed: {text}")
    return job, digest


async def _rewrite(tx: "Tx", item: "Quarantined", body: bytes, job_id: str, what: str, why: str) -> None:
    from pipeline.ledger import quarantine

    if not await quarantine.rewrite(tx, item.id, body, job_id, operator(), now()):
        raise RefusedError("quarantine.left", f"{item.id} left quarantine in this instant: nothing was changed")
    was = hashlib.sha256(item.body).hexdigest()
    await _audit(tx, "quarantine.fix", f"{item.id}: {what}; the message before had SHA-256 {was}: {why}")


async def _settle(tx: "Tx", item: "Quarantined", fate: "Fate", why: str) -> None:
    from pipeline.ledger import quarantine
    from pipeline.ledger.quarantine import Settling

    if not await quarantine.settle(tx, item.id, Settling(fate, operator(), why, now())):
        raise RefusedError("quarantine.left", f"{item.id} left quarantine in this instant: nothing was changed")
    await _audit(tx, f"quarantine.{fate}", f"{item.id} ({item.code}): {why}")


async def _audit(tx: "Tx", action: str, what: str) -> None:
    from pipeline.ledger import operators
    from pipeline.ledger.operators import OperatorAction
    from pipeline.lodgment.references import uuid7

    moment = now()
    await operators.add(tx, [OperatorAction(uuid7(moment, os.urandom(10)), moment, operator(), action, None, what)])


def _read_file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigurationError("quarantine.file", f"--with: {path} cannot be read: {error.strerror}") from error
