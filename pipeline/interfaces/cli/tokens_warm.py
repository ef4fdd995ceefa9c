"""`lodge tokens warm`: ask ahead, so that a scheduled pay run finds its tokens at hand."""

import asyncio
import csv
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from stdnum.au import abn as abn_rules

from pipeline.interfaces.cli.screen import span, stdout, when
from pipeline.interfaces.cli.session import now, opened_ledger, operator, settings_of
from pipeline.lodgment.errors import ConfigurationError
from pipeline.lodgment.software_id import software_id_fault

if TYPE_CHECKING:
    from pipeline.channels.contract import Channel
    from pipeline.ledger.token_queue import Bespoken
    from pipeline.lodgment.references import TokenKey
    from pipeline.settings import EnvironmentSettings, Settings

_ABN, _CREDENTIAL, _SOFTWARE = "employer.abn", "credential", "software_id"
_EARLIER = timedelta(minutes=2)
"""The last of the tokens is asked for so long before it is needed."""
_BATCH = 1000
_MOST_PROBLEMS = 20


@dataclass(frozen=True, slots=True)
class Employer:
    """One employer of a pay run, as a channel asks for its token."""

    credential: str
    party_abn: str
    software_id: str | None


def register(commands: typer.Typer) -> None:
    """Add this module's command."""
    commands.command("warm")(warm)


def warm(
    context: typer.Context,
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="CSV with a column employer.abn, or one ABN a line.")
    ],
    at: Annotated[
        datetime | None,
        typer.Option(
            formats=["%Y-%m-%dT%H:%M:%S%z", "%Y-%m-%dT%H:%M%z"],
            metavar="TIME",
            help="When the tokens are needed, with a UTC offset: 2026-11-26T02:00+11:00. Omitted: now.",
        ),
    ] = None,
    credential: Annotated[
        str | None, typer.Option(metavar="ID", help="The machine credential of rows that name none.")
    ] = None,
    software_id: Annotated[
        str | None, typer.Option(metavar="SSID", help="The software id of rows that name none.")
    ] = None,
) -> None:
    """Have the token worker ask ahead for the tokens of a pay run, and keep them fresh until it begins.

    A manifest for `lodge submit` will do: the columns employer.abn, credential and software_id are read, the others are
    not. Asking begins early enough for the polite rate (sts_rate), and never before lodgments that wait already.
    Lodgments that are in the ledger with a not_before need no warming: that is seen to by itself.
    """
    settings = settings_of(context)
    moment = now()
    if at is not None and at < moment:
        raise ConfigurationError("warm.at", f"--at: {at.isoformat()} is over; give a time to come, or leave it out")
    employers = _read(files, credential, software_id)
    asyncio.run(_warm(settings, employers, at or moment, moment))


async def _warm(settings: "Settings", employers: Sequence[Employer], at: datetime, moment: datetime) -> None:
    from pipeline.ledger import operators, token_queue
    from pipeline.ledger.operators import OperatorAction
    from pipeline.lodgment.references import uuid7
    from pipeline.profiles import channels, environment_of, payroll_product, timing

    environment = environment_of(settings, moment)
    known = list(channels(settings, environment).values())
    product = payroll_product(settings)
    if product is not None and any(one.needs_software_id for one in known):
        employers = await _with_registered_ids(settings, employers, product)
    keys = _keys(employers, environment, known)
    if not keys:
        text = f"environment {settings.environment!r} uses no tokens: there is nothing to warm"
        raise ConfigurationError("warm.none", text)
    bespoken = plan(keys, at, moment, settings.sts_rate, timing(settings, environment).token_margin)
    note = f"{len(keys)} token keys until {at.isoformat()}"
    async with opened_ledger(settings) as ledger:
        for start in range(0, len(bespoken), _BATCH):
            async with ledger.transaction() as tx:
                await token_queue.warm(tx, bespoken[start : start + _BATCH], moment)
        async with ledger.transaction() as tx:
            action = OperatorAction(uuid7(moment, os.urandom(10)), moment, operator(), "tokens.warm", None, note)
            await operators.add(tx, [action])
    first, last = bespoken[0].ask_at, bespoken[-1].ask_at
    console = stdout()
    console.print(f"{len(employers)} employers, {len(keys)} token keys.")
    console.print(f"Asked for from {when(first)} to {when(last)} ({span(last - first)}), needed at {when(at)}.")
    if first <= moment and last > at - _EARLIER and len(keys) > 1:
        console.print("The last come after that: warm earlier, or raise sts_rate if the token service allows it.")


async def _with_registered_ids(
    settings: "Settings", employers: Sequence[Employer], product: str
) -> "Sequence[Employer]":
    """Those that name no software id with the one that the intake will look up for their lodgments."""
    from pipeline.ledger import software_ids
    from pipeline.lodgment.subscription import Subscription

    async with opened_ledger(settings) as ledger, ledger.transaction(read_only=True) as tx:
        found = await software_ids.registered(tx, {Subscription(product, one.party_abn) for one in employers})
    ids = {whose.party: one.software_id.digits for whose, one in found.items()}
    return [replace(one, software_id=one.software_id or ids.get(one.party_abn)) for one in employers]


def plan(
    keys: "Sequence[TokenKey]", at: datetime, moment: datetime, rate: float, margin: timedelta
) -> "list[Bespoken]":
    """When each key is asked for: evenly at four fifths of `rate`, the last one two minutes before `at`, none before
    `moment`.
    """
    from pipeline.ledger.token_queue import Bespoken

    apart = timedelta(seconds=1 / (rate * 0.8))
    first = max(moment, at - _EARLIER - apart * len(keys))
    return [Bespoken(key, first + apart * number, at, at + margin) for number, key in enumerate(keys)]


def _keys(
    employers: Sequence[Employer], environment: "EnvironmentSettings", channels: "Sequence[Channel]"
) -> "list[TokenKey]":
    chosen = [Employer(one.credential or environment.credential, one.party_abn, one.software_id) for one in employers]
    found = (channel.token_key(one) for channel in channels for one in chosen)
    return list(dict.fromkeys(key for key in found if key is not None))


def _read(files: Sequence[Path], credential: str | None, software_id: str | None) -> list[Employer]:
    """Every employer in the files, once each.

    Raises:
        ConfigurationError: `warm.file` or `warm.input`; names each row, its column, the rule and the fix.
    """
    found: dict[Employer, None] = {}
    problems: list[str] = []
    for path in files:
        try:
            for where, fields in _rows(path):
                one = Employer(
                    fields.get(_CREDENTIAL) or credential or "",
                    fields.get(_ABN, "").replace(" ", ""),
                    fields.get(_SOFTWARE) or software_id,
                )
                if fault := _fault(one):
                    problems.append(f"{path} {where}: {fault}")
                else:
                    found[one] = None
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not CSV in UTF-8"
            raise ConfigurationError("warm.file", f"{path} cannot be read: {reason}") from error
    if problems:
        more = f"; and {len(problems) - _MOST_PROBLEMS} more" if len(problems) > _MOST_PROBLEMS else ""
        raise ConfigurationError("warm.input", "; ".join(problems[:_MOST_PROBLEMS]) + more)
    if not found:
        raise ConfigurationError("warm.input", "there is no employer in these files: give an ABN a line")
    return list(found)


def _rows(path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file)
        header: list[str] | None = None
        for cells in reader:
            values = [cell.strip() for cell in cells]
            if not any(values):
                continue
            if header is None and _ABN in values:
                header = values
                continue
            names = [_ABN] if header is None else header
            header = names
            yield f"row {reader.line_num}", dict(zip(names, values, strict=False))


def _fault(one: Employer) -> str | None:
    if not abn_rules.is_valid(one.party_abn):
        return f"column {_ABN}: must be an ABN, 11 digits whose check digits are right"
    fault = None if one.software_id is None else software_id_fault(one.software_id)
    return None if fault is None else f"column {_SOFTWARE}: {fault}"
