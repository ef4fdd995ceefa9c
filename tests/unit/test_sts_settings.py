"""How the token service is asked, by the settings; SHA-1 only where it is named, and never towards production."""

from datetime import timedelta
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from pipeline.bootstrap import opened
from pipeline.lodgment.errors import ConfigurationError
from pipeline.profiles import channels, environment_of, sts_profile
from pipeline.protocol.suites import V1_2_LEGACY, V1_3
from pipeline.protocol.wstrust import RelationshipId
from pipeline.settings import EnvironmentSettings, Settings
from tests.doubles.lodgments import NOW, a_lodgment

V1_3_URL = "https://sts.invalid/R3.0/S007v1.3/service.svc"
V1_2_URL = "https://sts.invalid/R3.0/S007v1.2/Service.svc"
LEGACY = "v1.2-legacy-sha1"


def environment(**changes: object) -> EnvironmentSettings:
    usual = {
        "agency_url": "https://agency.invalid",
        "sts_url": V1_3_URL,
        "applies_to": "https://agency.invalid",
        "keystore": Path("keystore.xml"),
        "keystore_password_file": Path("keystore.password"),
    }
    return EnvironmentSettings.model_validate({**usual, **changes})


def chosen(name: str, found: EnvironmentSettings) -> EnvironmentSettings:
    return environment_of(Settings(environment=name, environments={name: found}), NOW)


def test_signs_with_sha_256_unless_the_legacy_contract_is_named() -> None:
    assert sts_profile(chosen("evte", environment())).suite is V1_3
    named = environment(sts_url=V1_2_URL, sts_contract=LEGACY)
    assert sts_profile(chosen("evte", named)).suite is V1_2_LEGACY


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("evte", {"sts_url": V1_2_URL}),
        ("evte", {"sts_contract": LEGACY}),
        ("production", {"sts_url": V1_2_URL, "sts_contract": LEGACY}),
        ("Prod-2", {"sts_url": "https://sts.invalid/any", "sts_contract": LEGACY}),
    ],
)
def test_refuses_a_contract_that_the_address_contradicts_and_sha_1_in_production(
    name: str, changes: dict[str, object]
) -> None:
    with pytest.raises(ConfigurationError, match="sts_contract") as refused:
        chosen(name, environment(**changes))
    assert refused.value.code == "settings.sts-contract"


def test_every_option_of_a_request_can_be_set() -> None:
    profile = sts_profile(
        environment(
            sts_back_date=timedelta(seconds=9),
            sts_client_entropy=True,
            sts_claim_values=True,
            sts_context=True,
            relationship_id="ID",
            token_lifetime=timedelta(hours=8),
        )
    )
    assert profile.relationship_id is RelationshipId.UNQUALIFIED
    assert (profile.back_date, profile.lifetime) == (timedelta(seconds=9), timedelta(hours=8))
    assert (profile.client_entropy, profile.claim_values, profile.with_context) == (True, True, True)


@pytest.mark.parametrize(
    "changes",
    [
        {"token_lifetime": timedelta(minutes=5)},
        {"token_lifetime": timedelta(hours=9)},
        {"sts_back_date": timedelta(minutes=5)},
        {"sts_contract": "v1.2"},
    ],
)
def test_refuses_what_the_service_would_refuse(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(changes))):
        environment(**changes)


async def test_every_start_with_the_legacy_contract_is_told(tmp_path: Path) -> None:
    for contract, url in ((LEGACY, V1_2_URL), ("v1.3", V1_3_URL)):
        named = environment(sts_url=url, sts_contract=contract)
        settings = Settings(environment="evte", environments={"evte": named}, home=tmp_path)
        with capture_logs() as logs:
            async with opened(settings):
                pass
        told = [entry["sts_contract"] for entry in logs if entry["event"] == "sts.legacy_sha1"]
        assert told == ([LEGACY] if contract == LEGACY else [])


def test_the_version_of_saml_is_part_of_every_channels_token_keys() -> None:
    settings = Settings(environment="local")
    subject = a_lodgment()
    keys = {
        version: channels(settings, environment(saml_version=version))["asic_bn"].token_key(subject)
        for version in ("1.1", "2.0")
    }
    assert {version: key and key.saml_version for version, key in keys.items()} == {"1.1": "1.1", "2.0": "2.0"}
