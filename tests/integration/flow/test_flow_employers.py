"""Whoever lodges for many employers gets for each the assertion that was issued for exactly that one."""

import random
from typing import TYPE_CHECKING

from lxml import etree

from pipeline.bootstrap import now
from pipeline.ledger import software_ids, tokens
from pipeline.lodgment.software_id import SoftwareId
from pipeline.lodgment.states import State
from pipeline.lodgment.subscription import Checked, Origin, RegisteredId, Subscription
from pipeline.profiles import SANDBOX, environment_of
from pipeline.protocol.namespaces import Ns
from pipeline.protocol.xml import parse
from pipeline.sandbox.claims import CLAIM
from pipeline.sandbox.home import synthetic_abn
from pipeline.sandbox.relying_party import RelyingParty
from tests.acceptance.token_load import PRODUCT, software_id
from tests.doubles.jobs import job

if TYPE_CHECKING:
    from tests.integration.flow.conftest import Pipeline

EMPLOYERS, EACH = 9, 5


async def test_interleaved_employers_never_share_a_token(pipeline: "Pipeline") -> None:
    described = environment_of(pipeline.settings, now()).model_copy(update={"act_as_employer": True})
    pipeline.settings = pipeline.settings.model_copy(update={"environments": {SANDBOX: described}})
    order = [number for number in range(EMPLOYERS) for _ in range(EACH)]
    random.Random(7).shuffle(order)  # noqa: S311  - repeatable, not a secret
    names = {f"job-{at}": synthetic_abn(number) for at, number in enumerate(order)}
    async with pipeline.running():
        async with pipeline.parts.ledger.transaction() as tx:
            await software_ids.add(tx, [registered(number) for number in range(EMPLOYERS)])
        await pipeline.push(
            *(
                job(f"job-{at}", employer={"abn": synthetic_abn(number)}, software_product=PRODUCT)
                for at, number in enumerate(order)
            )
        )
        rows = {name: await pipeline.until(name, State.ACCEPTED) for name in names}
        party = RelyingParty(pipeline.sandbox.home.relying_party, pipeline.sandbox.home.sts.certificate)
        async with pipeline.parts.ledger.transaction(read_only=True) as tx:
            stored = await tokens.load(tx, {row.token_key for row in rows.values() if row.token_key is not None})
    assert len(stored) == EMPLOYERS
    for name, abn in names.items():
        key_hash = rows[name].token_key
        assert key_hash is not None
        token = stored[key_hash].token
        assert token is not None
        opened = party.open(encrypted_data(token.assertion))
        assert opened.claims[f"{CLAIM}abn"] == abn == stored[key_hash].key.second_party
        assert opened.proof_key == token.proof_key
        assert rows[name].software_id == stored[key_hash].key.software_id


def registered(employer: int) -> RegisteredId:
    whose = Subscription(PRODUCT, synthetic_abn(employer))
    return RegisteredId(
        SoftwareId(software_id(employer)), whose, Origin.IMPORTED, Checked.CONTROL_DIGIT, now(), "test@desk"
    )


def encrypted_data(assertion: bytes) -> etree._Element:
    [data] = parse(assertion, 1_000_000).findall(Ns.XENC("EncryptedData"))
    return data
