"""User name and password instead of tokens (WIG 5.2): the same flow, without a token service."""

from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.lodgment.failures import Party
from pipeline.lodgment.states import State
from pipeline.settings import EnvironmentSettings
from tests.doubles.jobs import job

if TYPE_CHECKING:
    from tests.integration.flow.conftest import Pipeline


def with_password(pipeline: "Pipeline", password_file: Path) -> None:
    home = pipeline.sandbox.home
    environment = EnvironmentSettings(
        agency_url=pipeline.sandbox.url,
        ca_file=home.ca_file,
        authentication="basic",
        username=home.basic_user,
        password_file=password_file,
    )
    changes = {"environment": "basic", "environments": {"basic": environment}}
    pipeline.settings = pipeline.settings.model_copy(update=changes)


async def test_a_user_name_and_password_lodge_without_a_token(pipeline: "Pipeline") -> None:
    with_password(pipeline, pipeline.sandbox.home.basic_password_file)
    async with pipeline.running():
        await pipeline.push(job("one"), job("two", "lost-reply"))
        row = await pipeline.until("one", State.ACCEPTED)
        assert row.token_key is None
        again = await pipeline.until("two", State.ACCEPTED)
        assert again.attempts == 2
        assert {line["processed"] for line in (await pipeline.book()).values()} == {1}


async def test_a_wrong_password_holds_and_says_who_must_act(pipeline: "Pipeline", tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.password"
    wrong.touch(mode=0o600)
    wrong.write_text("synthetic-wrong-password")
    with_password(pipeline, wrong)
    async with pipeline.running():
        await pipeline.push(job("one"))
        row = await pipeline.until("one", State.HELD)
        assert row.reason is not None
        assert row.reason.code == "asic:00005"
        assert row.reason.who is Party.OPERATOR
        assert "synthetic-wrong-password" not in row.reason.text
        assert await pipeline.book() == {}
