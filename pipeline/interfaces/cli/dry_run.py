"""Dry run: the real receive, authorise and seal, on a ledger that is thrown away, and no transport worker at all."""

import asyncio
import secrets
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote

from cryptography.x509 import load_der_x509_certificate

from pipeline.bootstrap import Parts, open_keyring, opened
from pipeline.channels.sbr2_stp import NAME as SBR2
from pipeline.interfaces.cli.in_process import push, working
from pipeline.interfaces.cli.screen import write_private
from pipeline.interfaces.cli.session import embedded_file, reading
from pipeline.interfaces.cli.standing import token_failures, waits_for_token
from pipeline.keyring import Keyring
from pipeline.ledger import artifacts, lodgments, quarantine, software_ids, tokens
from pipeline.lodgment.errors import ConfigurationError
from pipeline.lodgment.failures import Failure
from pipeline.lodgment.job import LodgmentJob
from pipeline.lodgment.lodgment import Lodgment, Reason
from pipeline.lodgment.references import TokenKey
from pipeline.lodgment.shares import UNSHARED
from pipeline.lodgment.states import State
from pipeline.protocol.as4_signed_info import As4SignatureError
from pipeline.protocol.as4_verify import PUSH_POLICY, verify_message
from pipeline.protocol.mime import read_package
from pipeline.protocol.mime_reader import MimeError
from pipeline.protocol.verify import EnvelopeError, Expectation, verify_envelope
from pipeline.protocol.wstrust import SecurityToken
from pipeline.protocol.xml import canonical
from pipeline.sandbox.assertion import Grant, Issuer
from pipeline.sandbox.certificates import root_authority, service_certificate
from pipeline.settings import EnvironmentSettings, Settings
from workers.process import Worker

_LOOK_EVERY = 0.1
_ALL = 10_000_000
_VERIFIED_AS4 = "sealed, signature and digests verified"
_VERIFIED = "sealed, both signatures verified"


@dataclass(frozen=True, slots=True)
class Sealed:
    """What became of one job. `sha256` and `size` are of the bytes as they would go on the wire."""

    job_id: str
    verdict: str
    good: bool
    size: int = 0
    sha256: str = ""


async def seal_only(
    settings: Settings,
    environment: EnvironmentSettings,
    jobs: Iterable[LodgmentJob],
    out: Path,
    *,
    offline: bool,
    on_sealed: Callable[[int], None],
) -> list[Sealed]:
    """Seal, verify and write each job's envelope to `out`; nothing is sent, published or kept in the ledger.

    Raises:
        ConfigurationError: `file.write`, the folder cannot be written; and whatever cannot work as set.
    """
    _make(out)
    with tempfile.TemporaryDirectory(prefix="lodge-dry-run-") as folder:
        async with opened(_apart(settings, environment, Path(folder))) as whole:
            # Nothing is sent that would make room for the rest.
            parts = replace(whole, context=replace(whole.context, shares=UNSHARED))
            if any(channel.needs_software_id for channel in parts.context.channels.values()):
                await _copy_software_ids(settings, parts)
            async with working(parts, (Worker.INTAKE,)) as stop:
                # The envelope does not depend on it, and a dry run does not wait.
                pushed = await push(parts, (job.model_copy(update={"not_before": None}) for job in jobs))
                rows = await _settled(parts, pushed, stop, lambda _, __: True)
            refused = await _refused(parts)
            pushed = [job_id for job_id in pushed if job_id not in refused]
            if offline:
                await _hand_out_tokens(parts, rows)
            async with working(parts, (Worker.TOKEN, Worker.SIGNER)) as stop:
                rows = await _settled(parts, pushed, stop, _is_through)
            async with parts.ledger.transaction(read_only=True) as tx:
                no_token = await token_failures(tx, rows)
            keyring = open_keyring(environment)
            judged = [
                await _judged(parts, keyring, row, out, on_sealed, no_token.get(row.id), offline=offline)
                for row in rows
            ]
            return [*judged, *(Sealed(job_id, f"NOT taken, {why}", good=False) for job_id, why in refused.items())]


def _make(out: Path) -> None:
    try:
        out.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError("file.write", f"--out: {out} cannot be made: {error.strerror}") from error


def _apart(settings: Settings, environment: EnvironmentSettings, folder: Path) -> Settings:
    """The same environment, with a ledger, a master key and queues that end with this run."""
    return settings.model_copy(
        update={
            "home": folder,
            "ledger_url": None,
            "master_key_file": None,
            "broker_urls": (),
            "environments": {**settings.environments, settings.environment: environment},
        }
    )


def _is_through(row: Lodgment, no_token: Reason | None) -> bool:
    """A failed request for a token is asked again later, and a dry run does not wait for it."""
    if waits_for_token(row):
        return no_token is not None
    return row.state in {State.SEALED, State.HELD, State.PARKED}


async def _copy_software_ids(settings: Settings, parts: Parts) -> None:
    """The registered software ids, without which nothing would be taken here that the real ledger takes."""
    file = embedded_file(settings)
    if file is not None and not file.exists():
        return
    async with reading(settings) as tx:
        ids = await software_ids.list_(tx, "", _ALL, product=None, retired=False)
    async with parts.ledger.transaction() as tx:
        await software_ids.add(tx, ids)


async def _refused(parts: Parts) -> dict[str, str]:
    """The jobs that the intake refused, with the reason."""
    async with parts.ledger.transaction(read_only=True) as tx:
        kept = await quarantine.list_(tx, _ALL)
    return {one.job_id: f"{one.code}: {one.reason}" for one in kept if one.job_id is not None}


async def _settled(
    parts: Parts, job_ids: Sequence[str], stop: asyncio.Event, done: Callable[[Lodgment, Reason | None], bool]
) -> list[Lodgment]:
    """The lodgments of these jobs, once all that were not refused are there and `done`."""
    while True:
        async with parts.ledger.transaction(read_only=True) as tx:
            known = await lodgments.known_jobs(tx, job_ids)
            refused = await quarantine.count(tx)
            no_token = await token_failures(tx, known.values())
        through = all(done(row, no_token.get(row.id)) for row in known.values())
        if stop.is_set() or (len(known) + refused >= len(job_ids) and through):
            return [known[job_id] for job_id in job_ids if job_id in known]
        await asyncio.sleep(_LOOK_EVERY)


async def _hand_out_tokens(parts: Parts, rows: Sequence[Lodgment]) -> None:
    """Tokens of our own making, so that `authorise` has no reason to ask the token service."""
    moment = parts.context.clock()
    keys = {parts.context.channels[row.channel].token_key(row) for row in rows}
    wanted = [key for key in keys if key is not None]
    expires = parts.environment.token_lifetime
    async with parts.ledger.transaction() as tx:
        await tokens.claim(tx, wanted, parts.context.worker, moment, moment + timedelta(minutes=1))
        for key in wanted:
            await tokens.store(tx, key.hash(), parts.context.worker, _own_token(parts, key, expires), moment)


def _own_token(parts: Parts, key: TokenKey, lifetime: timedelta) -> SecurityToken:
    """A token like a real one, from an authority that nobody knows: right in form and worthless."""
    moment = parts.context.clock()
    authority = root_authority(moment)
    issuer = Issuer(
        service_certificate(authority, "SYNTHETIC token service", moment),
        service_certificate(authority, "SYNTHETIC relying party", moment).certificate,
    )
    proof_key = secrets.token_bytes(key.key_size // 8)
    assertion_id, assertion = issuer.issue(Grant(key.applies_to, {}, moment, moment + lifetime, proof_key))
    return SecurityToken(canonical(assertion), proof_key, assertion_id, moment, moment + lifetime)


async def _judged(
    parts: Parts,
    keyring: Keyring | None,
    row: Lodgment,
    out: Path,
    on_sealed: Callable[[int], None],
    no_token: Reason | None,
    *,
    offline: bool,
) -> Sealed:
    on_sealed(1)
    if row.envelope_id is None:
        reason = no_token or row.reason
        why = f"{reason.code}: {reason.text}" if reason is not None else "interrupted"
        return Sealed(row.job_id, f"NOT sealed, {row.state}: {why}", good=False)
    async with parts.ledger.transaction(read_only=True) as tx:
        stored = (await artifacts.read_envelopes(tx, [row.envelope_id]))[row.envelope_id]
        token = None
        if row.token_key is not None:
            token = (await tokens.load(tx, [row.token_key]))[row.token_key].token
    envelope = stored.head + stored.payload + stored.tail
    write_private(out / f"{quote(row.job_id, safe='')}.xml", envelope, replace=True)
    content_type = dict(parts.context.channels[row.channel].headers(row)).get("Content-Type", "")
    fault = _fault(keyring, row, envelope, content_type, token)
    verdict = fault or _praise(row, token)
    note = " (token of our own making: no agency takes it)" if offline and token is not None else ""
    return Sealed(row.job_id, verdict + note, fault is None, len(envelope), stored.sha256)


def _praise(row: Lodgment, token: SecurityToken | None) -> str:
    if token is None:
        return "without signatures: user name and password"
    return _VERIFIED_AS4 if row.channel == SBR2 else _VERIFIED


def _fault(
    keyring: Keyring | None, row: Lodgment, envelope: bytes, content_type: str, token: SecurityToken | None
) -> str | None:
    """What whoever receives the envelope would find wrong with its signatures, if it has any."""
    if token is None or keyring is None:
        return None
    credential = keyring.get(row.credential)
    if isinstance(credential, Failure):
        return f"{credential.code}: {credential.advice}"
    if row.channel == SBR2:
        return _as4_fault(envelope, content_type, credential.certificate_der)
    try:
        verify_envelope(envelope, Expectation(credential.certificate_der, token.proof_key))
    except EnvelopeError as error:
        return f"NOT verified, {error.code}: {error}"
    return None


def _as4_fault(message: bytes, content_type: str, certificate: bytes) -> str | None:
    """What a receiver of SBR2 pushes would refuse the message for."""
    ours = load_der_x509_certificate(certificate)
    try:
        package = read_package(content_type, (message,))
        verify_message(package.root, package.attachments, PUSH_POLICY, lambda named: ours if named == ours else None)
    except (MimeError, As4SignatureError) as error:
        return f"NOT verified, {error.code}: {error}"
    return None
