"""`lodge credentials`: the machine credentials at hand, how long they last, and where their keys are."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.interfaces.cli.screen import print_json, shown, stderr, stdout, table
from pipeline.interfaces.cli.session import now, settings_of

if TYPE_CHECKING:
    from pipeline.keyring import Holding
    from pipeline.protocol.credential import Credential
    from pipeline.protocol.keystore import Unusable


class Standing(StrEnum):
    """What a credential is good for today."""

    GOOD = "good"
    EXPIRING = "expires soon"
    EXPIRED = "expired"
    EARLY = "not yet valid"
    WEAK = "too weak"
    UNUSABLE = "unusable"
    REPLACED = "replaced"
    """Another of the same id lasts longer, and is the one that is used."""


_WRONG = {Standing.EXPIRED, Standing.EARLY, Standing.WEAK, Standing.UNUSABLE}


@dataclass(frozen=True, slots=True)
class Line:
    """One credential as it is shown. Days are whole ones, and negative once it has expired."""

    id: str
    abn: str
    name: str
    kind: str
    issuer: str
    first_day: str
    last_day: str
    days_left: int | None
    chain: str
    chain_complete: bool
    key: str
    file: Path | None
    standing: Standing
    problem: str | None


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command("credentials")(credentials)


def credentials(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for machines.")] = False,
) -> None:
    """Show each machine credential: its ABN, how many days are left, its chain, and where its private key is.

    Reads the key files as they are now, and changes nothing. First and last day are the certificate's own, in UTC. A
    chain is complete when it ends in a self-signed root; whether the agency trusts that root, only the agency knows.

    Warns of what expires within 60 days. Exit code 1 if one has expired, is not valid yet, is too weak to sign or
    cannot be used for another reason; one that was replaced under the same id does not count.
    """
    from pipeline.bootstrap import keyring_of
    from pipeline.profiles import environment_of

    moment = now()
    settings = settings_of(context)
    keyring = keyring_of(environment_of(settings, moment))
    lines = [] if keyring is None else described(keyring.holdings(), moment)
    if as_json:
        print_json([asdict(one) for one in lines])
    elif keyring is None:
        stdout().print(f"The environment {settings.environment} uses user name and password: it has no credential.")
    else:
        _print(lines)
    if any(one.standing in _WRONG for one in lines):
        raise typer.Exit(1)


def described(holdings: Iterable["Holding"], moment: datetime) -> list[Line]:
    """A line for each credential, those that need somebody first."""
    from pipeline.protocol.credential import Credential

    holdings = list(holdings)
    latest: dict[str, datetime] = {}
    for one in holdings:
        if isinstance(one.entry, Credential):
            latest[one.entry.id] = max(one.entry.not_after, latest.get(one.entry.id, one.entry.not_after))
    lines = [
        _line(one.entry, one.file, latest, moment)
        if isinstance(one.entry, Credential)
        else _unusable(one.entry, one.file)
        for one in holdings
    ]
    return sorted(lines, key=lambda line: (line.days_left is not None, line.days_left or 0, line.id))


def _line(credential: "Credential", file: Path | None, latest: Mapping[str, datetime], moment: datetime) -> Line:
    from pipeline.protocol.chain import chain_of, issuer_of

    chain = chain_of(credential, moment)
    standing, problem = _judged(credential, latest, moment)
    above = " → ".join(chain.issuers)
    return Line(
        id=credential.id,
        abn=credential.abn,
        name=credential.name,
        kind=credential.kind,
        issuer=issuer_of(credential),
        first_day=f"{credential.not_before:%Y-%m-%d}",
        last_day=f"{credential.not_after:%Y-%m-%d}",
        days_left=(credential.not_after - moment) // timedelta(days=1),
        chain=f"complete: {above}" if chain.complete else f"incomplete: {chain.problem}",
        chain_complete=chain.complete,
        key=credential.private_key.kept_in,
        file=file,
        standing=standing,
        problem=problem,
    )


def _judged(credential: "Credential", latest: Mapping[str, datetime], moment: datetime) -> tuple[Standing, str | None]:
    from pipeline.protocol.credential import EXPIRY_WARNING

    if credential.not_after < latest[credential.id]:
        return Standing.REPLACED, None
    if credential.not_after <= moment:
        return Standing.EXPIRED, f"has expired: {_RENEW}"
    if credential.weakness is not None:
        return Standing.WEAK, f"{credential.weakness}. {_RENEW}"
    if credential.not_before > moment:
        return Standing.EARLY, "is not valid yet: check this machine's clock, or wait"
    if credential.not_after - moment <= EXPIRY_WARNING:
        return Standing.EXPIRING, f"expires soon: {_RENEW}"
    return Standing.GOOD, None


def _unusable(entry: "Unusable", file: Path | None) -> Line:
    return Line(
        id=entry.id,
        abn=entry.abn,
        name="",
        kind="",
        issuer="",
        first_day="",
        last_day="",
        days_left=None,
        chain="",
        chain_complete=False,
        key="",
        file=file,
        standing=Standing.UNUSABLE,
        problem=f"{entry.error} [{entry.error.code}]",
    )


def _print(lines: Sequence[Line]) -> None:
    columns = ("id", "ABN", "name", "kind", "issuer", "first day", "last day", "days left", "chain", "key", "standing")
    rows = [
        (
            line.id,
            line.abn,
            line.name,
            line.kind,
            line.issuer,
            line.first_day,
            line.last_day,
            line.days_left,
            "complete" if line.chain_complete else line.chain,
            line.key,
            line.standing,
        )
        for line in lines
    ]
    stdout().print(table("Machine credentials", columns, rows))
    for line in lines:
        if line.problem is not None:
            word = "WRONG" if line.standing in _WRONG else "WARNING"
            stderr().print(f"{word}: {shown(line.id)}: {shown(line.problem)}", soft_wrap=True)


_RENEW = (
    "whoever is principal authority or machine credential administrator renews it in RAM under the same name, and the "
    "new keystore takes the place of the old; no restart is needed"
)
