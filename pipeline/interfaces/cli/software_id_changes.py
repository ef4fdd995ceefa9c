"""What `lodge software-ids` changes: each in one transaction, with who and why in the audit."""

import os
import secrets
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from pipeline.interfaces.cli.screen import when
from pipeline.interfaces.cli.session import now, opened_ledger, operator
from pipeline.interfaces.cli.software_id_files import Entry, ReadFile
from pipeline.ledger import operators, software_ids
from pipeline.ledger.operators import OperatorAction
from pipeline.ledger.software_ids import Conflict
from pipeline.lodgment.errors import ConfigurationError, RefusedError
from pipeline.lodgment.references import uuid7
from pipeline.lodgment.software_id import NUMBERS, SoftwareId, SoftwareIdError
from pipeline.lodgment.subscription import Checked, Origin, RegisteredId, Subscription, read_label, read_party

if TYPE_CHECKING:
    from pipeline.ledger.session import Tx
    from pipeline.settings import Settings


def one_client(party: str | None, product: str | None, note: str | None) -> ReadFile:
    """A client named on the command line, as if it stood in a file.

    Raises:
        ConfigurationError: `software-id.whose`, names the argument and its rule.
    """
    if product is None:
        raise ConfigurationError("software-id.whose", "--product: name the payroll product, or set software.product")
    try:
        whose = Subscription(_named("--product", product), read_party(party or ""))
        return ReadFile([Entry(0, whose, None, None if note is None else _named("--note", note))])
    except SoftwareIdError as error:
        raise ConfigurationError("software-id.whose", f"ABN|WPN: {error}") from error


def without_control_digit(entries: Sequence[Entry]) -> list[str]:
    """The lines whose ids break the rule, each with the rule."""
    return [
        f"line {one.line}: software_id: {one.software_id}: {fault}"
        for one in entries
        if one.software_id is not None and (fault := one.software_id.control_fault) is not None
    ]


async def generated(settings: "Settings", entries: Sequence[Entry]) -> tuple[list[RegisteredId], list[RegisteredId]]:
    """New ids for the clients that have none, and the ids of the others."""
    notes = {one.whose: one.note for one in entries}
    async with opened_ledger(settings) as ledger, ledger.transaction() as tx:
        moment = now()
        made = await software_ids.generate(tx, notes, drawn, operator(), moment)
        await _note(tx, "software-id.generate", [f"{one.software_id} for {one.whose}" for one in made], moment)
        fresh = {one.whose for one in made}
        before = await software_ids.registered(tx, [whose for whose in notes if whose not in fresh])
    return made, [before[whose] for whose in sorted(before)]


async def imported(settings: "Settings", entries: Sequence[Entry], *, write: bool) -> tuple[int, list[str]]:
    """How many ids are new, and what stands against registering these; with any problem nothing is written."""
    moment, who = now(), operator()
    wanted = {
        one.software_id: (_imported(one, one.software_id, moment, who), one.line) for one in entries if one.software_id
    }
    ids = [registered for registered, _ in wanted.values()]
    async with opened_ledger(settings) as ledger, ledger.transaction(read_only=not write) as tx:
        found = await software_ids.conflicts(tx, ids)
        if found:
            return 0, [f"line {wanted[one.wanted.software_id][1]}: software_id: {_told(one)}" for one in found]
        if not write:
            known = await software_ids.by_id(tx, [one.software_id for one in ids])
            return len(ids) - len(known), []
        added = await software_ids.add(tx, ids)
        await _note(tx, "software-id.import", [_audited(one) for one in added], moment)
    return len(added), []


async def retired(settings: "Settings", which: SoftwareId, why: str) -> RegisteredId:
    """The id, taken out of use.

    Raises:
        RefusedError: `software-id.unknown`, or `software-id.retired` when it was before.
    """
    _require(why)
    async with opened_ledger(settings) as ledger, ledger.transaction() as tx:
        found, moment = await _the(tx, which), now()
        if not await software_ids.retire(tx, which, operator(), why, moment):
            raise RefusedError("software-id.retired", f"{which} is not in use: it was retired before")
        await _note(tx, "software-id.retire", [f"{which} of {found.whose}: {why}"], moment)
    return found


async def restored(settings: "Settings", which: SoftwareId, why: str) -> RegisteredId:
    """The id, in use again.

    Raises:
        RefusedError: `software-id.unknown`, `software-id.in-use`, or `software-id.other` when its client has another.
    """
    _require(why)
    async with opened_ledger(settings) as ledger, ledger.transaction() as tx:
        found = await _the(tx, which)
        if found.retired_at is None:
            raise RefusedError("software-id.in-use", f"{which} is in use: there is nothing to restore")
        other = (await software_ids.registered(tx, [found.whose])).get(found.whose)
        if other is not None:
            text = f"{found.whose} has {other.software_id} by now: retire that first"
            raise RefusedError("software-id.other", text)
        await software_ids.restore(tx, which)
        await _note(tx, "software-id.restore", [f"{which} of {found.whose}: {why}"], now())
    return found


def drawn() -> SoftwareId:
    """An id at random. In sequence, two processes would always draw the same, and a client could guess the next."""
    return SoftwareId.of_number(1 + secrets.randbelow(NUMBERS - 1))


def _imported(entry: Entry, software_id: SoftwareId, moment: datetime, who: str) -> RegisteredId:
    checked = Checked.CONTROL_DIGIT if software_id.control_fault is None else Checked.ALLOWED
    return RegisteredId(software_id, entry.whose, Origin.IMPORTED, checked, moment, who, entry.note)


def _told(conflict: Conflict) -> str:
    """Why it cannot be registered, and what to do."""
    wanted, taken = conflict.wanted, conflict.taken
    if taken is not None and taken.whose != wanted.whose:
        return f"{wanted.software_id} belongs to {taken.whose}; no two clients or products may have the same"
    if taken is not None and taken.retired_at is not None:
        fix = f"lodge software-ids restore {wanted.software_id}"
        return f"{wanted.software_id} was retired on {when(taken.retired_at)}: to use it again, {fix}"
    other = conflict.other
    has = "another" if other is None else other.software_id
    return f"{wanted.whose} has {has} already: one id each; if the ATO knows the client by this one, retire that first"


def _audited(one: RegisteredId) -> str:
    allowed = "" if one.checked is Checked.CONTROL_DIGIT else f"; allowed although its {one.software_id.control_fault}"
    return f"{one.software_id} for {one.whose}{allowed}"


def _named(option: str, text: str) -> str:
    try:
        return read_label(text)
    except SoftwareIdError as error:
        raise ConfigurationError("software-id.whose", f"{option}: {error}") from error


async def _the(tx: "Tx", which: SoftwareId) -> RegisteredId:
    found = (await software_ids.by_id(tx, [which])).get(which)
    if found is None:
        raise RefusedError("software-id.unknown", f"{which} is not registered; see `lodge software-ids list`")
    return found


async def _note(tx: "Tx", action: str, texts: Sequence[str], moment: datetime) -> None:
    who = operator()
    await operators.add(
        tx, [OperatorAction(uuid7(moment, os.urandom(10)), moment, who, action, None, text) for text in texts]
    )


def _require(reason: str) -> None:
    if not reason.strip():
        raise ConfigurationError("operator.reason", "--reason: must say why, it is kept with the deed")
