"""What a process refuses to start with, because it would send what is not its own or could read nothing."""

from typing import TYPE_CHECKING

import pytest

from pipeline.bootstrap import opened
from pipeline.lodgment.errors import ConfigurationError
from pipeline.lodgment.states import State
from pipeline.settings import EnvironmentSettings
from tests.doubles.jobs import job
from tests.services.master_key import write_master_key
from workers.process import Worker

if TYPE_CHECKING:
    from pathlib import Path

    from pipeline.settings import Settings
    from tests.integration.flow.conftest import Pipeline


async def refusal(settings: "Settings") -> ConfigurationError:
    with pytest.raises(ConfigurationError) as refused:
        async with opened(settings):
            pass
    return refused.value


async def test_what_waits_for_one_environment_is_never_sent_to_another(pipeline: "Pipeline", tmp_path: "Path") -> None:
    async with pipeline.running([Worker.INTAKE]):
        await pipeline.push(job("one"))
        await pipeline.until("one", State.RECEIVED)
    password = tmp_path / "password"
    password.write_text("synthetic")
    password.chmod(0o600)
    evte = EnvironmentSettings(
        agency_url=pipeline.sandbox.url, authentication="basic", username="synthetic", password_file=password
    )
    changes = {"environment": "evte", "environments": {"evte": evte}}
    refused = await refusal(pipeline.settings.model_copy(update=changes))
    assert refused.code == "ledger.environment"
    assert "'sandbox'" in str(refused)
    assert "'evte'" in str(refused)


async def test_a_master_key_that_opens_nothing_of_the_ledger_is_told_at_the_start(
    pipeline: "Pipeline", tmp_path: "Path"
) -> None:
    async with pipeline.running([Worker.INTAKE]):
        await pipeline.push(job("one"))
        await pipeline.until("one", State.RECEIVED)
    other = write_master_key(tmp_path / "other.key")
    refused = await refusal(pipeline.settings.model_copy(update={"master_key_file": other}))
    assert refused.code == "vault.key_unknown"


@pytest.mark.parametrize("pipeline", ["server"], indirect=True)
async def test_without_a_broker_nobody_takes_over_a_ledger_that_others_work_on(pipeline: "Pipeline") -> None:
    refused = await refusal(pipeline.settings.model_copy(update={"broker_urls": ()}))
    assert refused.code == "embedded.ledger"
    assert "broker_urls" in str(refused)
