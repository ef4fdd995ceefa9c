"""Files that hold a secret: their owner's alone, or the process does not start."""

from pathlib import Path

import pytest

from pipeline.lodgment.errors import ConfigurationError
from pipeline.secret_files import read_secret


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "key"
    path.write_text("SYNTHETIC-SECRET\n")
    path.chmod(0o600)
    return path


def test_a_file_of_its_owner_alone_is_read(secret: Path) -> None:
    assert read_secret(secret, "the key") == "SYNTHETIC-SECRET"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o601])
def test_a_file_that_others_can_reach_is_refused_with_what_to_do(secret: Path, mode: int) -> None:
    secret.chmod(mode)
    with pytest.raises(ConfigurationError, match=f"the key: {secret} .* chmod 600") as refused:
        read_secret(secret, "the key")
    assert refused.value.code == "secret.permissions"
    assert "SYNTHETIC-SECRET" not in str(refused.value)


@pytest.mark.parametrize(("content", "code"), [(b" \n", "secret.empty"), (b"\xff\xfe\xfd", "secret.missing")])
def test_a_file_without_a_secret_is_refused_by_name(secret: Path, content: bytes, code: str) -> None:
    secret.write_bytes(content)
    with pytest.raises(ConfigurationError, match=str(secret)) as refused:
        read_secret(secret, "the key")
    assert refused.value.code == code
