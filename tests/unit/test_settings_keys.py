"""Which settings about keys go together; what is missing is named."""

import pytest
from pydantic import ValidationError

from pipeline.settings import EnvironmentSettings

AGENCY = {
    "agency_url": "https://agency.invalid",
    "sts_url": "https://sts.invalid/",
    "applies_to": "https://agency.invalid",
}
FILES = {"keystore": "/keys", "keystore_password_file": "/keys.password"}
TOKEN = {"pkcs11_module": "/lib.so", "pkcs11_token": "lodge", "pkcs11_pin_file": "/pin"}


@pytest.mark.parametrize("keys", [FILES, TOKEN, {**TOKEN, "keystore": "/certificates.pem"}])
def test_keys_are_in_files_or_in_a_token_with_or_without_a_file_of_certificates(keys: dict[str, str]) -> None:
    assert EnvironmentSettings.model_validate({**AGENCY, **keys}).authentication == "token"


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({}, "needs keystore, keystore_password_file"),
        ({"keystore": "/keys"}, "needs keystore_password_file"),
        ({"pkcs11_module": "/lib.so"}, "needs pkcs11_token, pkcs11_pin_file"),
        ({**FILES, "pkcs11_token": "lodge"}, "need pkcs11_module"),
        ({**FILES, "pkcs11_pin_file": "/pin"}, "need pkcs11_module"),
    ],
)
def test_what_is_missing_for_keys_is_named(keys: dict[str, str], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        EnvironmentSettings.model_validate({**AGENCY, **keys})
