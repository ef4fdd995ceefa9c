import asyncio
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from pipeline.ledger import lodgments, token_reports, tokens
from pipeline.ledger.session import Ledger
from pipeline.ledger.tables import TokenState, security_token
from pipeline.ledger.token_reports import TokenFilter
from pipeline.ledger.token_rows import StoredToken
from pipeline.ledger.vault import Vault
from pipeline.lodgment.errors import RefusedError
from pipeline.lodgment.failures import Party
from pipeline.lodgment.lodgment import TOKEN_REQUESTED, Reason
from pipeline.lodgment.references import TokenKey, TokenKeyHash
from tests.doubles.lodgments import NOW, a_lodgment
from tests.integration.ledger.samples import a_token, a_token_key, new, on_disk, parked

KEY = a_token_key()
LEASE = NOW + timedelta(minutes=1)
AFTER_LEASE = LEASE + timedelta(seconds=1)
TOKEN = a_token()


async def _claim(ledger: Ledger, owner: str, now: datetime = NOW, *keys: TokenKey) -> set[TokenKeyHash]:
    async with ledger.transaction() as tx:
        return await tokens.claim(tx, keys or [KEY], owner, now, now + (LEASE - NOW))


async def _load(ledger: Ledger) -> StoredToken:
    async with ledger.transaction(read_only=True) as tx:
        return (await tokens.load(tx, [KEY.hash()]))[KEY.hash()]


async def _have_token(ledger: Ledger) -> None:
    assert await _claim(ledger, "one") == {KEY.hash()}
    async with ledger.transaction() as tx:
        assert await tokens.store(tx, KEY.hash(), "one", TOKEN, NOW)


async def test_of_a_new_key_is_requested_then_valid(ledger: Ledger) -> None:
    assert await _claim(ledger, "one") == {KEY.hash()}
    requested = await _load(ledger)
    assert requested == StoredToken(
        key_hash=KEY.hash(),
        key=KEY,
        state=TokenState.REQUESTED,
        token=None,
        expires_at=None,
        lease_owner="one",
        lease_until=LEASE,
        failed=None,
        retry_at=None,
        requested_at=NOW,
        renewals=0,
        last_used_at=NOW,
        ask_at=NOW,
    )
    async with ledger.transaction() as tx:
        assert await tokens.store(tx, KEY.hash(), "one", TOKEN, NOW)
    assert await _load(ledger) == replace(
        requested,
        state=TokenState.VALID,
        token=TOKEN,
        expires_at=TOKEN.expires_at,
        lease_owner=None,
        lease_until=None,
        ask_at=None,
    )


async def test_is_asked_for_by_exactly_one_of_twenty(ledger: Ledger) -> None:
    won = await asyncio.gather(*(_claim(ledger, f"worker-{number}") for number in range(20)))
    assert sum(map(len, won)) == 1


async def test_claims_of_many_keys_in_any_order_do_not_deadlock(ledger: Ledger) -> None:
    keys = [a_token_key(f"{number:011}") for number in range(30)]
    orders = (keys, keys[::-1], keys[10:] + keys[:10], [*keys, *keys])
    won = await asyncio.gather(*(_claim(ledger, f"worker-{n}", NOW, *order) for n, order in enumerate(orders)))
    assert sorted(key for winner in won for key in winner) == sorted(key.hash() for key in keys)
    assert await _claim(ledger, "late", NOW, *keys) == set()


async def test_is_claimed_again_only_when_the_lease_is_over(ledger: Ledger) -> None:
    await _claim(ledger, "dead")
    assert await _claim(ledger, "one", LEASE - timedelta(seconds=1)) == set()
    assert await _claim(ledger, "one", LEASE) == {KEY.hash()}


async def test_is_stored_only_by_who_holds_the_lease(ledger: Ledger) -> None:
    await _claim(ledger, "slow")
    await _claim(ledger, "quick", AFTER_LEASE)
    async with ledger.transaction() as tx:
        assert not await tokens.store(tx, KEY.hash(), "slow", a_token(proof_key=b"the slow one"), NOW)
        assert await tokens.store(tx, KEY.hash(), "quick", TOKEN, NOW)
        assert not await tokens.store(tx, KEY.hash(), "quick", TOKEN, NOW)
        assert not await tokens.store(tx, a_token_key("other").hash(), "quick", TOKEN, NOW)
    assert (await _load(ledger)).token == TOKEN


async def test_stays_usable_while_it_is_renewed(ledger: Ledger) -> None:
    await _have_token(ledger)
    assert await _claim(ledger, "two", AFTER_LEASE) == {KEY.hash()}
    renewing = await _load(ledger)
    assert (renewing.state, renewing.token) == (TokenState.VALID, TOKEN)
    renewed = a_token(TOKEN.expires_at + timedelta(minutes=30))
    async with ledger.transaction() as tx:
        assert await tokens.store(tx, KEY.hash(), "two", renewed, NOW)
    found = await _load(ledger)
    assert (found.token, found.renewals) == (renewed, 1)


async def test_that_is_over_is_requested_anew(ledger: Ledger) -> None:
    await _have_token(ledger)
    await _claim(ledger, "two", TOKEN.expires_at)
    assert (await _load(ledger)).state is TokenState.REQUESTED


async def test_that_cannot_be_had_says_why_and_when_to_ask_again(ledger: Ledger) -> None:
    reason = Reason("sts:E2014", "the credential is not known \0", Party.OPERATOR)
    await _claim(ledger, "one")
    async with ledger.transaction() as tx:
        assert not await tokens.fail(tx, KEY.hash(), "another", reason, LEASE, NOW)
        assert await tokens.fail(tx, KEY.hash(), "one", reason, LEASE, NOW)
    failed = await _load(ledger)
    assert (failed.state, failed.retry_at, failed.lease_owner) == (TokenState.FAILED, LEASE, None)
    assert (failed.failures, failed.ask_at) == (1, LEASE)
    assert failed.failed == replace(reason, text="the credential is not known \ufffd")
    await _have_token(ledger)
    assert (await _load(ledger)).failed is None


async def test_that_cannot_be_renewed_stays_valid_until_it_expires(ledger: Ledger) -> None:
    await _have_token(ledger)
    for now, state in ((AFTER_LEASE, TokenState.VALID), (TOKEN.expires_at, TokenState.FAILED)):
        await _claim(ledger, "two", now)
        async with ledger.transaction() as tx:
            await tokens.fail(tx, KEY.hash(), "two", Reason("sts.down", "away"), None, now)
        assert (await _load(ledger)).state is state


async def test_that_the_agency_refused_is_not_handed_out_again(ledger: Ledger) -> None:
    await _have_token(ledger)
    async with ledger.transaction() as tx:
        await tokens.discard(tx, KEY.hash(), TOKEN.expires_at - timedelta(seconds=1))
    assert (await _load(ledger)).token == TOKEN
    async with ledger.transaction() as tx:
        await tokens.discard(tx, KEY.hash(), TOKEN.expires_at)
    discarded = await _load(ledger)
    assert (discarded.state, discarded.token) == (TokenState.FAILED, None)
    assert await _claim(ledger, "two") == {KEY.hash()}


async def test_list_counts_who_waits_and_shows_no_secret(ledger: Ledger) -> None:
    await _have_token(ledger)
    await _claim(ledger, "one", NOW, a_token_key("idle"))
    waiting = [replace(parked(a_lodgment(), TOKEN_REQUESTED), token_key=KEY.hash()) for _ in range(3)]
    async with ledger.transaction() as tx:
        await lodgments.add(tx, new([*waiting, replace(a_lodgment(), token_key=KEY.hash())]))
        summaries = await token_reports.listed(tx, TokenFilter(), NOW, 10)
    assert {each.token.key.second_party: each.waiting for each in summaries} == {KEY.second_party: 3, "idle": 0}
    assert all(each.token.token is None for each in summaries)


@pytest.mark.parametrize("column", ["assertion", "proof_key"])
async def test_secrets_that_were_swapped_between_rows_are_refused(ledger: Ledger, column: str) -> None:
    other = a_token_key("53004085616")
    await _claim(ledger, "one", NOW, KEY, other)
    async with ledger.transaction() as tx:
        await tokens.store(tx, KEY.hash(), "one", TOKEN, NOW)
        await tokens.store(tx, other.hash(), "one", a_token(proof_key=b"the other employer's"), NOW)
        stolen = sa.select(security_token.c[column]).where(security_token.c.key_hash == other.hash())
        value = (await tx.connection.execute(stolen)).scalar_one()
        mine = sa.update(security_token).where(security_token.c.key_hash == KEY.hash())
        await tx.connection.execute(mine.values({column: value}))
    with pytest.raises(RefusedError) as refusal:
        await _load(ledger)
    assert refusal.value.code == "vault.damaged"


async def test_secrets_cannot_be_read_in_the_database_file_or_a_repr(
    sqlite_ledger: Ledger, vault: Vault, tmp_path: Path
) -> None:
    await _have_token(sqlite_ledger)
    stored = await _load(sqlite_ledger)
    await sqlite_ledger.close()
    files = on_disk(tmp_path)
    assert KEY.hash().encode() in files
    for secret in (TOKEN.assertion, TOKEN.proof_key):
        assert secret not in files
        assert repr(secret)[2:-1] not in repr(stored)
        assert secret not in vault.seal(secret, b"")
