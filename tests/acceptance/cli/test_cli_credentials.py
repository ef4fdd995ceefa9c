"""`lodge credentials` and `lodge sandbox keystore`, as a person runs them."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pipeline.protocol.keystore import read_keystore

if TYPE_CHECKING:
    from tests.acceptance.cli.conftest import Left, Lodge

FIRST, SECOND = "51824753556", "53004085616"


def settings_for(lodge: "Lodge", place: Path, password_file: Path, credential: str = "") -> None:
    """An environment whose keystore is at `place`; nothing in it is asked."""
    path = lodge.folder / "lodge.toml"
    path.write_text(
        f"""
environment = "elsewhere"
[environments.elsewhere]
agency_url = "https://agency.invalid"
sts_url = "https://sts.invalid/"
applies_to = "https://agency.invalid"
keystore = "{place}"
keystore_password_file = "{password_file}"
credential = "{credential}"
"""
    )
    lodge.environment["LODGE_SETTINGS_FILE"] = str(path)


def left(lodge: "Lodge", code: int, *arguments: str) -> "Left":
    done = lodge(*arguments)
    assert done.code == code, done.err
    return done


@pytest.mark.parametrize("vintage", ["present", "offline", "auskey"])
def test_a_synthetic_keystore_of_any_vintage_is_written_for_its_owner_and_says_what_it_is(
    lodge: "Lodge", vintage: str
) -> None:
    arguments = ("--abn", FIRST, "--abn", "53 004 085 616", "--name", "Tryout", "--vintage", vintage)
    said = left(lodge, 0, "sandbox", "keystore", "out.xml", *arguments)
    assert "SYNTHETIC" in said.out
    store, password = lodge.folder / "out.xml", lodge.folder / "out.xml.password"
    assert [path.stat().st_mode & 0o777 for path in (store, password)] == [0o600, 0o600]
    assert b"SYNTHETIC" in store.read_bytes()
    found = read_keystore(store.read_bytes(), password.read_text())
    assert [one.id for one in found] == [f"ABRD:{FIRST}_Tryout", f"ABRD:{SECOND}_Tryout"]
    refused = left(lodge, 2, "sandbox", "keystore", "out.xml")
    assert "exists already and is not replaced" in refused.err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--abn", "51824753557"), "--abn: '51824753557' is no ABN"),
        (("--vintage", "antique"), "--vintage: 'antique' is not one of present, offline, auskey"),
        (("--name", "x" * 65), "--name: 1 to 64 printable characters"),
    ],
)
def test_a_synthetic_keystore_is_refused_with_the_rule(lodge: "Lodge", arguments: tuple[str, ...], told: str) -> None:
    assert told in left(lodge, 2, "sandbox", "keystore", "out.xml", *arguments).err
    assert not (lodge.folder / "out.xml").exists()


def test_credentials_are_listed_with_days_chain_and_place_and_expiry_is_told_from_sixty_days(lodge: "Lodge") -> None:
    lodge("sandbox", "keystore", "keys.xml", "--abn", FIRST, "--days", "61")
    password = lodge.folder / "keys.xml.password"
    settings_for(lodge, lodge.folder / "keys.xml", password)
    listed = left(lodge, 0, "credentials", "--json")
    (line,) = json.loads(listed.out)
    assert (line["id"], line["abn"], line["kind"], line["days_left"], line["standing"]) == (
        f"ABRD:{FIRST}_SyntheticMachine",
        FIRST,
        "device",
        60,
        "good",
    )
    assert (line["chain_complete"], line["key"], line["file"]) == (True, "file", str(lodge.folder / "keys.xml"))
    assert line["issuer"] == "Sandbox Sub Certification Authority"
    (lodge.folder / "keys.xml").unlink()
    lodge("sandbox", "keystore", "keys.xml", "--abn", FIRST, "--days", "60", "--password-file", str(password))
    soon = left(lodge, 0, "credentials")
    assert "WARNING: ABRD:51824753556_SyntheticMachine: expires soon" in soon.err
    assert "renews it in RAM" in soon.err
    (lodge.folder / "keys.xml").unlink()
    lodge("sandbox", "keystore", "keys.xml", "--abn", FIRST, "--expired", "--password-file", str(password))
    assert "WRONG: ABRD:51824753556_SyntheticMachine: has expired" in left(lodge, 1, "credentials").err


def test_a_credential_that_cannot_be_used_is_listed_by_its_id_beside_the_others(lodge: "Lodge") -> None:
    folder = lodge.folder / "keys"
    folder.mkdir()
    lodge("sandbox", "keystore", "keys/one.xml", "--abn", FIRST)
    lodge("sandbox", "keystore", "keys/two.xml", "--abn", SECOND)
    (folder / "two.xml.password").write_text("another, and secret")
    settings_for(lodge, folder, folder / "one.xml.password")
    listed = left(lodge, 1, "credentials", "--json")
    assert [(one["id"], one["standing"]) for one in json.loads(listed.out)] == [
        ("two.xml", "unusable"),
        (f"ABRD:{FIRST}_SyntheticMachine", "good"),
    ]
    told = left(lodge, 1, "credentials")
    assert f"cannot unlock credential 'ABRD:{SECOND}_SyntheticMachine'" in told.err
    assert "another, and secret" not in told.err + told.out + listed.out


def test_a_worker_does_not_start_with_a_key_file_that_others_can_read(lodge: "Lodge") -> None:
    lodge("sandbox", "keystore", "keys.xml", "--abn", FIRST)
    settings_for(lodge, lodge.folder / "keys.xml", lodge.folder / "keys.xml.password")
    (lodge.folder / "keys.xml").chmod(0o644)
    refused = left(lodge, 2, "run")
    assert "is readable by others; run chmod 600" in refused.err
    assert "[secret.permissions]" in refused.err
