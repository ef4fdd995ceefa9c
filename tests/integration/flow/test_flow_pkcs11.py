"""The whole pipeline with its private key in a PKCS#11 token: the sandbox agencies judge every signature."""

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

import pkcs11
import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from pipeline.lodgment.states import State
from pipeline.protocol.keystore import read_keystore
from pipeline.settings import EnvironmentSettings
from tests.doubles.jobs import job
from tests.doubles.key_places import TokenOfATest, private
from workers.process import Worker

if TYPE_CHECKING:
    from tests.integration.flow.conftest import Pipeline


def with_key_in(token: TokenOfATest, pipeline: "Pipeline") -> None:
    """The sandbox's first credential: certificates in a PEM file, private key in the token, and no keystore."""
    home = pipeline.sandbox.home
    store = read_keystore(home.keystore_file.read_bytes(), home.keystore_password_file.read_text())
    own = next(one for one in store if one.id == home.credential().id)
    token.hsm.put_key(token.label, own.private_key)
    certificates = b"".join(one.public_bytes(Encoding.PEM) for one in (*own.chain, own.certificate))
    environment = EnvironmentSettings(
        agency_url=pipeline.sandbox.url,
        sts_url=pipeline.sandbox.sts_url,
        applies_to=home.applies_to,
        ca_file=home.ca_file,
        keystore=private(home.path / "machine.pem", certificates),
        pkcs11_module=token.hsm.module,
        pkcs11_token=token.label,
        pkcs11_pin_file=token.pin_file,
        credential=own.id,
    )
    home.keystore_file.unlink()
    changes = {"environment": "token", "environments": {"token": environment}}
    pipeline.settings = pipeline.settings.model_copy(update=changes)


async def test_tokens_are_asked_for_and_envelopes_sealed_with_a_key_that_never_left_its_token(
    pipeline: "Pipeline", hsm_token: TokenOfATest
) -> None:
    with_key_in(hsm_token, pipeline)
    async with pipeline.running():
        await pipeline.push(job("one"), job("two"))
        for name in ("one", "two"):
            await pipeline.until(name, State.ACCEPTED)
        assert {line["processed"] for line in (await pipeline.book()).values()} == {1}
        own = pipeline.sandbox.home.credential()
        registry = pipeline.parts.metrics.registry
        left = registry.get_sample_value("lodge_credential_seconds_left", {"credential": own.id, "abn": own.abn})
        assert left == pytest.approx(timedelta(days=729).total_seconds(), abs=timedelta(hours=1).total_seconds())


async def test_a_token_that_is_gone_holds_work_back_and_loses_none_of_it(
    pipeline: "Pipeline", hsm_token: TokenOfATest
) -> None:
    with_key_in(hsm_token, pipeline)
    async with pipeline.running([Worker.INTAKE, Worker.TOKEN, Worker.SCHEDULER]):
        await pipeline.push(job("one"))
        await pipeline.until("one", State.AUTHORISED)
    pin = hsm_token.pin_file.read_bytes()
    async with pipeline.running():
        keyring = pipeline.parts.keyring()
        assert keyring is not None
        hsm_token.pin_file.unlink()  # from here on nobody can log in again
        pkcs11.lib(str(hsm_token.hsm.module)).reinitialize()
        await pipeline.push(job("two"))
        row = await pipeline.until("two", State.AUTHORISED, State.RECEIVED, State.PARKED)
        assert row.sent_at is None
        private(hsm_token.pin_file, pin)
        async with asyncio.timeout(60):
            await pipeline.until("two", State.ACCEPTED)
        await pipeline.until("one", State.ACCEPTED)
