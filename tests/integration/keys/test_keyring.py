"""The keyring over real files: replaced, half written, damaged, readable by others, in folders."""

import os
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
)
from cryptography.hazmat.primitives.serialization.pkcs12 import serialize_key_and_certificates
from structlog.testing import capture_logs

from pipeline import keyring as keyring_module
from pipeline.bootstrap import open_keyring
from pipeline.keyring import KeyPlaces, Keyring
from pipeline.lodgment.errors import ConfigurationError
from pipeline.lodgment.failures import Failure
from pipeline.protocol.credential import Credential, RsaKey
from pipeline.protocol.keystore import KeystoreError, Unusable
from pipeline.protocol.synthetic_keystore import write
from pipeline.settings import EnvironmentSettings
from tests.doubles.key_places import private
from tests.doubles.synthetic_credentials import AGENT_ABN, CLIENT_ABN, credential, key, raw, user_credential, weak_key

PASSWORD = "Synthetic-1"
OTHER = f"ABRD:{CLIENT_ABN}_Other"


def store(*credentials: Credential, password: str = PASSWORD) -> bytes:
    return write(credentials, password, b"synthetic")


def pem(own: Credential, password: str = PASSWORD) -> tuple[bytes, bytes]:
    certificates = b"".join(one.public_bytes(Encoding.PEM) for one in (*own.chain, own.certificate))
    encrypted = BestAvailableEncryption(password.encode())
    return certificates, raw(own.private_key).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encrypted)


def pkcs12(own: Credential, password: str = PASSWORD) -> bytes:
    encrypted = BestAvailableEncryption(password.encode())
    return serialize_key_and_certificates(b"x", raw(own.private_key), own.certificate, own.chain, encrypted)


@pytest.fixture
def places(tmp_path: Path) -> KeyPlaces:
    return KeyPlaces(
        private(tmp_path / "keystore.xml", store(credential())),
        private(tmp_path / "keystore.password", PASSWORD.encode()),
    )


def path_of(places: KeyPlaces) -> Path:
    assert places.keystore is not None
    return places.keystore


def ids(keyring: Keyring) -> Sequence[str]:
    return [one.id for one in keyring.all()]


def renamed_over(path: Path, content: bytes) -> None:
    new = private(path.with_suffix(".new"), content)
    new.rename(path)


def rewritten(path: Path, content: bytes) -> None:
    path.write_bytes(content)


@pytest.mark.parametrize("replaced", [renamed_over, rewritten])
def test_a_replaced_file_is_picked_up_by_every_keyring_at_the_next_look(places: KeyPlaces, replaced: object) -> None:
    assert callable(replaced)
    workers = [Keyring(places), Keyring(places)]
    assert [ids(one) for one in workers] == [[credential().id]] * 2
    replaced(path_of(places), store(credential(OTHER, 8)))
    assert [ids(one) for one in workers] == [[OTHER]] * 2


def test_a_file_rewritten_with_its_size_and_its_times_as_they_were_is_picked_up(places: KeyPlaces) -> None:
    path = path_of(places)
    first, second = store(credential(serial=91)), store(credential(serial=92))
    assert len(first) == len(second)
    rewritten(path, first)
    keyring = Keyring(places)
    assert keyring.all()[0].certificate.serial_number == 91
    before = path.stat()
    rewritten(path, second)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert keyring.all()[0].certificate.serial_number == 92


def test_a_file_that_settled_is_not_read_again_until_it_changes(
    places: KeyPlaces, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keyring_module, "_SETTLED", 0)
    keyring = Keyring(places)
    keyring.all()
    read: list[Path] = []
    before = Path.read_bytes

    def counted(path: Path) -> bytes:
        read.append(path)
        return before(path)

    monkeypatch.setattr(Path, "read_bytes", counted)
    keyring.all()
    assert read == []
    rewritten(path_of(places), store(credential(OTHER, 8)))
    assert ids(keyring) == [OTHER]
    assert read == [path_of(places)]


def test_a_half_written_file_leaves_the_old_credentials_is_told_once_and_read_when_whole(places: KeyPlaces) -> None:
    keyring = Keyring(places)
    assert ids(keyring) == [credential().id]
    new = store(credential(OTHER, 8))
    with capture_logs() as logs:
        for part in (new[: len(new) // 2], new[: len(new) // 2], new[: len(new) // 2]):
            rewritten(path_of(places), part)
            assert ids(keyring) == [credential().id]
        assert [one["event"] for one in logs] == ["keyring.unreadable"]
        rewritten(path_of(places), new)
        assert ids(keyring) == [OTHER]
    assert [one["event"] for one in logs] == ["keyring.unreadable", "keyring.read"]


def test_a_removed_file_leaves_the_old_credentials_and_is_told_once(places: KeyPlaces) -> None:
    keyring = Keyring(places)
    keyring.all()
    path_of(places).unlink()
    with capture_logs() as logs:
        assert [ids(keyring) for _ in range(3)] == [[credential().id]] * 3
    assert [(one["event"], "No such file" in one["reason"]) for one in logs] == [("keyring.unreadable", True)]


def test_a_keystore_with_a_new_password_is_unlocked_once_the_password_file_follows(places: KeyPlaces) -> None:
    keyring = Keyring(places)
    keyring.all()
    rewritten(path_of(places), store(credential(OTHER, 8), password="another"))
    assert ids(keyring) == [credential().id]
    assert places.password_file is not None
    rewritten(places.password_file, b"another")
    assert ids(keyring) == [OTHER]


def test_one_broken_credential_takes_no_other_down_and_is_told_by_its_id(places: KeyPlaces) -> None:
    broken = replace(credential(OTHER, 8), private_key=RsaKey(key("Stranger")))
    rewritten(path_of(places), store(broken, credential(), user_credential()))
    keyring = Keyring(places)
    with capture_logs() as logs:
        assert ids(keyring) == [credential().id, user_credential().id]
        keyring.all()
    told = [one for one in logs if one["event"] == "keyring.credential_unusable"]
    assert [(one["credential"], "does not belong" in one["reason"]) for one in told] == [(OTHER, True)]
    assert keyring.get(credential().id) == credential()
    refused = keyring.get(OTHER)
    assert isinstance(refused, Failure)
    assert refused.code == "keystore.mismatch"
    # The broken one and the user share an ABN: damage must not decide which of the two signs.
    ambiguous = keyring.get(CLIENT_ABN)
    assert isinstance(ambiguous, Failure)
    assert ambiguous.code == "keystore.ambiguous"


def test_a_key_of_1024_bits_is_read_and_is_told_to_be_too_weak_to_sign(places: KeyPlaces) -> None:
    weak = weak_key()
    rewritten(path_of(places), store(weak))
    keyring = Keyring(places)
    assert ids(keyring) == [weak.id]
    refused = keyring.get(weak.id)
    assert isinstance(refused, Failure)
    assert refused.code == "keystore.weak"
    assert "1024 bits, too weak to sign with" in refused.detail


def test_a_folder_gives_the_credentials_of_all_its_key_files(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    folder.mkdir()
    private(folder / "a.xml", store(credential()))
    certificates, own_key = pem(credential(OTHER, 8))
    private(folder / "b.pem", certificates)
    private(folder / "b.key", own_key)
    private(folder / "c.p12", pkcs12(credential(f"ABRD:{AGENT_ABN}_Third", 9), "its-own"))
    private(folder / "c.p12.password", b"its-own")
    private(folder / "notes.txt", b"left alone")
    password = private(tmp_path / "keystore.password", PASSWORD.encode())
    keyring = Keyring(KeyPlaces(folder, password))
    assert ids(keyring) == [credential().id, OTHER, f"ABRD:{AGENT_ABN}_Third"]
    assert [one.file.name for one in keyring.holdings() if one.file] == ["a.xml", "b.pem", "c.p12"]
    private(folder / "d.xml", store(user_credential()))
    (folder / "a.xml").unlink()
    assert ids(keyring) == [OTHER, f"ABRD:{AGENT_ABN}_Third", user_credential().id]


def test_a_damaged_file_in_a_folder_is_told_by_its_name_and_the_others_serve(tmp_path: Path) -> None:
    private(tmp_path / "a.xml", store(credential()))
    private(tmp_path / "b.p12", b"nonsense")
    keyring = Keyring(KeyPlaces(tmp_path, private(tmp_path / "password", PASSWORD.encode())))
    assert ids(keyring) == [credential().id]
    (unusable,) = (one.entry for one in keyring.holdings() if isinstance(one.entry, Unusable))
    assert (unusable.id, unusable.error.code) == ("b.p12", "keystore.unlock")


def environment(places: KeyPlaces, wanted: str = "") -> EnvironmentSettings:
    return EnvironmentSettings(
        agency_url="https://agency.invalid",
        sts_url="https://sts.invalid/",
        applies_to="https://agency.invalid",
        keystore=places.keystore,
        keystore_password_file=places.password_file,
        credential=wanted,
    )


def test_a_key_file_that_others_can_read_is_refused_at_start_with_the_remedy(places: KeyPlaces) -> None:
    path = path_of(places)
    path.chmod(0o640)
    with pytest.raises(ConfigurationError, match=f"{path} is readable by others; run chmod 600 {path}") as refused:
        open_keyring(environment(places))
    assert refused.value.code == "secret.permissions"
    path.chmod(0o600)
    assert open_keyring(environment(places)) is not None


def test_a_separate_key_file_that_others_can_read_is_refused_at_start(tmp_path: Path) -> None:
    certificates, own_key = pem(credential())
    places = KeyPlaces(private(tmp_path / "own.pem", certificates), private(tmp_path / "password", PASSWORD.encode()))
    private(tmp_path / "own.key", own_key).chmod(0o644)
    with pytest.raises(ConfigurationError, match=r"private key: .*own\.key is readable by others"):
        open_keyring(environment(places))


@pytest.mark.parametrize("kind", ["xml", "pem"])
def test_a_certificate_that_does_not_match_its_key_is_refused_at_start(tmp_path: Path, kind: str) -> None:
    wrong = replace(credential(), private_key=RsaKey(key("Stranger")))
    content = store(wrong) if kind == "xml" else b"".join(pem(wrong))
    places = KeyPlaces(private(tmp_path / f"keys.{kind}", content), private(tmp_path / "password", PASSWORD.encode()))
    with pytest.raises(ConfigurationError, match="does not belong to its certificate") as refused:
        open_keyring(environment(places))
    assert refused.value.code == "keystore.mismatch"


def test_a_default_credential_that_cannot_be_used_is_refused_at_start_though_others_can(places: KeyPlaces) -> None:
    broken = replace(credential(OTHER, 8), private_key=RsaKey(key("Stranger")))
    rewritten(path_of(places), store(broken, credential()))
    assert open_keyring(environment(places, credential().id)) is not None
    with pytest.raises(ConfigurationError, match=f"credential: the private key of credential '{OTHER}'"):
        open_keyring(environment(places, OTHER))


def test_a_wrong_password_is_one_error_at_start_that_echoes_no_secret(places: KeyPlaces) -> None:
    assert places.password_file is not None
    rewritten(places.password_file, b"wrong-and-secret")
    with pytest.raises(ConfigurationError, match="cannot unlock") as refused:
        open_keyring(environment(places))
    assert "wrong-and-secret" not in f"{refused.value!r} {refused.value.__cause__!r}"


def test_a_keyring_without_anything_says_why(tmp_path: Path) -> None:
    password = private(tmp_path / "password", PASSWORD.encode())
    empty = tmp_path / "keys"
    empty.mkdir()
    for place, told in ((empty, "holds no key file"), (tmp_path / "absent.xml", "No such file")):
        with pytest.raises(KeystoreError, match=told) as refused:
            Keyring(KeyPlaces(place, password)).all()
        assert refused.value.code == "keystore.file"


def test_of_a_renewed_credential_in_another_file_the_last_to_expire_signs(tmp_path: Path) -> None:
    old = credential(serial=4, valid=timedelta(days=30))
    private(tmp_path / "a.xml", store(credential()))
    private(tmp_path / "b.xml", store(old))
    keyring = Keyring(KeyPlaces(tmp_path, private(tmp_path / "password", PASSWORD.encode())))
    assert keyring.get(old.id) == credential()
