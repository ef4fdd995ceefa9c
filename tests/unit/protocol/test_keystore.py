"""The ABR keystore, in every vintage: synthetic stores by the recipe, judged by OpenSSL where it is installed."""

import base64
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from pipeline.protocol.credential import Credential, CredentialKind, Digest, RsaKey
from pipeline.protocol.key_files import read_credentials
from pipeline.protocol.keystore import KeystoreError, Unusable, read_entries, read_keystore, select
from pipeline.protocol.namespaces import Ns
from pipeline.protocol.synthetic_keystore import (
    ATTRIBUTES,
    ELEMENTS,
    VINTAGES,
    Vintage,
    certificate_set,
    protect,
    write,
)
from tests.doubles.synthetic_credentials import (
    AGENT_ABN,
    CLIENT_ABN,
    ISSUED_AT,
    credential,
    key,
    raw,
    root_authority,
    user_credential,
    weak_key,
)

PASSWORD = "Synthetic-Pässword-1"
needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")


def store(*credentials: Credential, vintage: Vintage | None = None, password: str = PASSWORD) -> bytes:
    return write(credentials, password, b"synthetic", vintage)


def changed(document: bytes, name: str, text: str) -> bytes:
    root = etree.fromstring(document)
    for element in root.iter(Ns.KEYSTORE(name)):
        element.text = text
    content: bytes = etree.tostring(root)
    return content


def another_device() -> Credential:
    return credential(f"ABRD:{CLIENT_ABN}_7_with_underscores", 7)


def vintages() -> st.SearchStrategy[Vintage]:
    """Every way in which a store was or could have been written."""
    return st.builds(
        Vintage,
        indefinite_length=st.booleans(),
        salt_size=st.sampled_from([8, 20]),
        utc_offset=st.sampled_from(["+10:00", "+11:00", "+00:00", "Z", ""]),
        leaf_last=st.booleans(),
        attributes=st.permutations(ATTRIBUTES).map(tuple),
        elements=st.permutations(ELEMENTS).map(tuple),
        prefix=st.sampled_from([None, "k", "ns0", "xsi-like"]),
        schema_declarations=st.booleans(),
        byte_order_mark=st.booleans(),
        line_length=st.sampled_from([0, 1, 64, 76]),
        comments=st.booleans(),
    )


@pytest.mark.parametrize("vintage", VINTAGES)
def test_reads_every_vintage_with_devices_and_users_of_several_abns(vintage: str) -> None:
    device, user = read_keystore(store(credential(), user_credential(), vintage=VINTAGES[vintage]), PASSWORD)
    assert device == credential()
    assert (user.abn, user.name, user.certificate) == (CLIENT_ABN, "Ann Ng", user_credential().certificate)
    assert (device.kind, user.kind) == (CredentialKind.DEVICE, CredentialKind.USER)
    assert raw(device.private_key).private_numbers() == raw(credential().private_key).private_numbers()
    assert set(device.chain) == set(credential().chain)


@settings(max_examples=60, deadline=None)
@given(
    vintage=vintages(),
    makers=st.lists(st.sampled_from([credential, another_device, user_credential, weak_key]), min_size=1, unique=True),
    password=st.text(st.characters(codec="utf-16", exclude_categories=("Cs", "Cc")), min_size=1, max_size=20),
    gap=st.sampled_from(["", " ", "\n\t", "\r\n  "]),
)
def test_every_vintage_gives_the_credentials_that_went_in_with_keys_that_sign(
    vintage: Vintage, makers: list[Callable[[], Credential]], password: str, gap: str
) -> None:
    credentials = [make() for make in makers]
    document = store(*credentials, vintage=vintage, password=password).replace(b"><", f">{gap}<".encode())
    read = read_keystore(document, password)
    assert list(read) == credentials
    for one, own in zip(read, credentials, strict=True):
        assert (one.kind, set(one.chain)) == (own.kind, set(own.chain))
        assert one.private_key.sign(b"x", Digest.SHA256) == own.private_key.sign(b"x", Digest.SHA256)


@settings(max_examples=30, deadline=None)
@given(serial=st.integers(1, 2**159 - 1), leaf_last=st.booleans(), zeros=st.integers(0, 3))
def test_finds_the_leaf_by_its_decimal_serial_number_of_any_length(serial: int, leaf_last: bool, zeros: int) -> None:
    own = credential(serial=serial)
    document = store(own, vintage=Vintage(leaf_last=leaf_last))
    document = changed(changed(document, "sha1fingerprint", ""), "serialNumber", f" {'0' * zeros}{serial} ")
    if serial in {one.serial_number for one in own.chain}:
        with pytest.raises(KeystoreError, match="serialNumber or sha1fingerprint"):
            read_keystore(document, PASSWORD)
    else:
        assert read_keystore(document, PASSWORD)[0].certificate == own.certificate


def test_takes_the_dates_from_the_certificate_and_not_from_the_elements_with_the_wrong_offset() -> None:
    document = store(credential())
    assert b"<notBefore>2026-09-13T06:10:22+10:00</notBefore>" in document
    (read,) = read_keystore(document, PASSWORD)
    assert read.certificate.not_valid_before_utc == ISSUED_AT
    assert read.not_after == ISSUED_AT + timedelta(days=730)


def test_finds_a_leaf_whose_serial_number_has_160_bits() -> None:
    document = store(credential(), vintage=Vintage(leaf_last=True))
    assert str(2**159 - 1).encode() in document
    assert read_keystore(document, PASSWORD)[0].certificate == credential().certificate


def test_finds_the_leaf_by_fingerprint_where_the_serial_number_is_missing_or_strange() -> None:
    for text in ("", "0x7F", "one"):
        document = changed(store(credential(), vintage=Vintage(leaf_last=True)), "serialNumber", text)
        assert read_keystore(document, PASSWORD)[0].certificate == credential().certificate


def test_tells_a_leaf_from_an_authority_with_the_same_serial_number() -> None:
    twin = credential(f"ABRD:{AGENT_ABN}_Twin", root_authority().certificate.serial_number)
    assert read_keystore(store(twin, vintage=Vintage(leaf_last=True)), PASSWORD)[0].certificate == twin.certificate


def test_refuses_a_store_in_which_no_certificate_is_the_leaf() -> None:
    document = changed(changed(store(credential()), "serialNumber", "12345"), "sha1fingerprint", "")
    with pytest.raises(KeystoreError, match="serialNumber or sha1fingerprint") as refused:
        read_keystore(document, PASSWORD)
    assert refused.value.code == "keystore.malformed"


def test_a_wrong_password_and_a_damaged_key_give_one_error_that_echoes_no_secret() -> None:
    document = store(credential())
    damaged = re.sub(rb"(<protectedPrivateKey>.{40}).{40}", rb"\1" + b"A" * 40, document)
    for bad, password in ((document, "wrong-and-secret"), (damaged, PASSWORD), (document, "")):
        with pytest.raises(KeystoreError, match="cannot unlock credential 'ABRD:11000002568_Payroll'") as refused:
            read_keystore(bad, password)
        assert refused.value.code == "keystore.unlock"
        told = f"{refused.value!r} {refused.value.__cause__!r}"
        assert "wrong-and-secret" not in told
        assert PASSWORD not in told


def test_refuses_a_private_key_that_is_not_the_certificates() -> None:
    own = credential()
    impostor = replace(own, private_key=RsaKey(key("Other")))
    with pytest.raises(KeystoreError, match="does not belong to its certificate") as refused:
        read_keystore(store(impostor), PASSWORD)
    assert refused.value.code == "keystore.mismatch"


def test_a_store_in_utf_16_is_read() -> None:
    document = store(credential()).decode().replace("encoding='utf-8'", "encoding='utf-16'").encode("utf-16")
    assert read_credentials(document, PASSWORD) == (credential(),)


def test_one_broken_credential_is_told_by_its_id_and_the_others_are_read() -> None:
    whole = store(credential(), user_credential())
    for name, code in (("publicCertificate", "keystore.malformed"), ("protectedPrivateKey", "keystore.unlock")):
        root = etree.fromstring(whole)
        next(root.iter(Ns.KEYSTORE(name))).text = base64.b64encode(b"\x30\x03\x02\x01\x01").decode()
        broken, user = read_entries(etree.tostring(root), PASSWORD)
        assert isinstance(broken, Unusable)
        assert (broken.id, broken.abn, broken.error.code) == (credential().id, AGENT_ABN, code)
        assert user == user_credential()
        assert read_keystore(etree.tostring(root), PASSWORD) == (user_credential(),)


def test_a_wrong_password_is_told_once_for_the_whole_store() -> None:
    with pytest.raises(
        KeystoreError, match=r"cannot unlock credential .*, and none of the other 2 can be used"
    ) as told:
        read_keystore(store(credential(), user_credential(), weak_key()), "wrong-and-secret")
    assert told.value.code == "keystore.unlock"
    assert "wrong-and-secret" not in f"{told.value!r} {told.value.__cause__!r}"


def test_a_key_of_1024_bits_is_read_and_told_to_be_too_weak() -> None:
    (read,) = read_keystore(store(weak_key(), vintage=VINTAGES["auskey"]), PASSWORD)
    assert read.weakness is not None
    assert "has 1024 bits, too weak to sign with: 2048 is the least" in read.weakness
    assert credential().weakness is None


def test_what_is_selected_never_depends_on_damage() -> None:
    broken = Unusable(f"ABRD:{AGENT_ABN}_Broken", AGENT_ABN, KeystoreError("keystore.unlock", "cannot unlock it"))
    with pytest.raises(KeystoreError, match="cannot unlock it"):
        select([credential()], broken.id, [broken])
    with pytest.raises(KeystoreError, match="several credentials have the ABN"):
        select([credential()], AGENT_ABN, [broken])
    assert select([credential()], credential().id, [broken]) == credential()
    with pytest.raises(KeystoreError, match="cannot unlock it"):
        select([user_credential()], AGENT_ABN, [broken])


@pytest.mark.parametrize(
    ("document", "told"),
    [
        (b"", "cannot be read"),
        (b"<credentialStore/>", "not an ABR keystore"),
        (f'<credentialStore xmlns="{Ns.KEYSTORE}"/>'.encode(), "holds no credential"),
        (f'<!DOCTYPE a><credentialStore xmlns="{Ns.KEYSTORE}"/>'.encode(), "document type"),
    ],
)
def test_refuses_what_is_not_a_keystore(document: bytes, told: str) -> None:
    with pytest.raises(KeystoreError, match=told):
        read_keystore(document, PASSWORD)


@pytest.mark.parametrize("name", ["publicCertificate", "protectedPrivateKey"])
@pytest.mark.parametrize("text", ["", "no base64!", "AAAA", "MIAGCSqGSIb3DQEHAqCA", "MIL/////////AA=="])
def test_refuses_damaged_content_by_name(name: str, text: str) -> None:
    with pytest.raises(KeystoreError, match="ABRD:11000002568_Payroll"):
        read_keystore(changed(store(credential()), name, text), PASSWORD)


@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")
@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_damaged_certificates_give_a_keystore_error_or_a_leaf_of_the_same_key(data: st.DataObject) -> None:
    whole = bytearray(certificate_set((credential().certificate,), indefinite_length=True))
    for place in data.draw(st.lists(st.integers(0, len(whole) - 1), min_size=1, max_size=4)):
        whole[place] = data.draw(st.integers(0, 255))
    encoded = base64.b64encode(whole[: data.draw(st.integers(0, len(whole)))]).decode()
    document = changed(store(credential()), "publicCertificate", encoded)
    try:
        (read,) = read_keystore(document, PASSWORD)
    except KeystoreError:
        return
    assert read.certificate.public_key() == credential().certificate.public_key()


def test_selects_by_id_or_by_abn_and_never_by_position() -> None:
    first, second = credential(), user_credential()
    for credentials in ((first, second), (second, first)):
        assert select(credentials, first.id) == first
        assert select(credentials, CLIENT_ABN) == second
        assert select(credentials, "27 809 366 375") == second


def test_selecting_names_the_ids_that_there_are() -> None:
    other = credential(f"ABRD:{AGENT_ABN}_Second")
    with pytest.raises(KeystoreError, match="ABRD:11000002568_Payroll, ABRD:11000002568_Second") as ambiguous:
        select((credential(), other, user_credential()), AGENT_ABN)
    assert ambiguous.value.code == "keystore.ambiguous"
    with pytest.raises(KeystoreError, match="there are: ABRD:11000002568_Payroll") as missing:
        select((credential(),), "51824753556")
    assert missing.value.code == "keystore.not-found"


def test_of_a_replaced_credential_with_the_same_name_the_last_to_expire_is_selected() -> None:
    old = credential(serial=4, valid=timedelta(days=30))
    assert select((credential(), old), old.id) == credential()
    assert select((old, credential()), AGENT_ABN) == credential()


def test_neither_key_nor_password_shows_in_a_repr() -> None:
    (read,) = read_keystore(store(credential()), PASSWORD)
    assert "private_key" not in repr(read)


@needs_openssl
def test_openssl_opens_the_synthetic_key_and_lists_the_synthetic_certificates(tmp_path: Path) -> None:
    (tmp_path / "key.der").write_bytes(protect(credential().private_key, "Synthetic1", bytes(range(20))))
    chain = (credential().certificate, *credential().chain)
    (tmp_path / "set.p7").write_bytes(certificate_set(chain, indefinite_length=True))
    providers = ("-provider", "legacy", "-provider", "default")
    key_command = ("openssl", "pkcs8", "-inform", "DER", "-in", "key.der", "-passin", "pass:Synthetic1", *providers)
    opened = subprocess.run(key_command, cwd=tmp_path, capture_output=True, check=True)
    assert opened.stdout.startswith(b"-----BEGIN PRIVATE KEY-----")
    list_command = ("openssl", "pkcs7", "-inform", "DER", "-in", "set.p7", "-print_certs", "-noout")
    listed = subprocess.run(list_command, cwd=tmp_path, capture_output=True, check=True)
    assert listed.stdout.count(b"subject=") == 3
