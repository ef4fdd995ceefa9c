"""Private keys that stay in a PKCS#11 token: SoftHSM holds them, xmlsec judges what they sign."""

import os
import select
import signal
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pkcs11
import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from lxml import etree

from pipeline.keyring import KeyPlaces, Keyring
from pipeline.lodgment.errors import ConfigurationError, DependencyDownError
from pipeline.pkcs11 import Pkcs11Key, Pkcs11Token, open_token
from pipeline.protocol.credential import Credential, Digest
from pipeline.protocol.keystore import KeystoreError
from pipeline.protocol.synthetic_keystore import write
from pipeline.protocol.verify import Expectation, verify_envelope
from pipeline.protocol.wsse import AssertionReference
from pipeline.protocol.wstrust import TokenRequest
from pipeline.protocol.wstrust_request import signed_request
from tests.doubles.asic import PAYLOAD, make_channel, make_order, make_token, on_the_wire
from tests.doubles.key_places import TokenOfATest, private
from tests.doubles.synthetic_credentials import AGENT_ABN, certificate_of, credential, sub_authority
from tests.doubles.xml_signatures import verify_with_xmlsec
from tests.services.softhsm import SO_PIN

NOW = datetime(2026, 11, 23, 4, 5, 6, tzinfo=UTC)


def pem_of(*credentials: Credential) -> bytes:
    certificates = [one for each in credentials for one in (*each.chain, each.certificate)]
    return b"".join(one.public_bytes(Encoding.PEM) for one in certificates)


def generated(hsm_token: TokenOfATest, folder: Path) -> Credential:
    """A credential whose key was made in the token, by another process, and whose certificate is in a PEM file."""
    leaf = certificate_of("Payroll", AGENT_ABN, hsm_token.hsm.generate(hsm_token.label), sub_authority(), 91)
    chain = sub_authority().certificate.public_bytes(Encoding.PEM)
    file = private(folder / "payroll.pem", leaf.public_bytes(Encoding.PEM) + chain)
    (found,) = Keyring(KeyPlaces(file, None, hsm_token.opened())).all()
    return found


def test_envelopes_and_token_requests_signed_in_the_token_are_verified_by_xmlsec(
    hsm_token: TokenOfATest, tmp_path: Path
) -> None:
    own = generated(hsm_token, tmp_path)
    assert own.private_key.kept_in == f"PKCS#11 token {hsm_token.label!r}"
    envelope = on_the_wire(make_channel().seal(replace(make_order(), credential=own)), PAYLOAD)
    expected = Expectation(own.certificate_der, make_token().proof_key, AssertionReference.WSU_ID)
    assert verify_envelope(envelope, expected)[0] is not None
    request = signed_request(
        TokenRequest("https://agency.invalid"), own, "https://sts.invalid/", "urn:uuid:1", NOW, "n"
    )
    verify_with_xmlsec(etree.fromstring(request), own.certificate)


@pytest.mark.parametrize("digest", list(Digest))
def test_a_signature_of_the_token_is_that_of_the_same_key_in_memory(hsm_token: TokenOfATest, digest: Digest) -> None:
    own = credential()
    hsm_token.hsm.put_key(hsm_token.label, own.private_key)
    signature = hsm_token.opened().key(own.certificate).sign(b"synthetic", digest)
    assert signature == own.private_key.sign(b"synthetic", digest)  # PKCS1-v1_5 has one signature for each content


def test_the_key_can_be_had_neither_from_the_token_nor_from_any_file_nor_from_what_holds_the_credential(
    hsm_token: TokenOfATest, tmp_path: Path
) -> None:
    own = generated(hsm_token, tmp_path)
    with pkcs11.lib(str(hsm_token.hsm.module)).get_token(token_label=hsm_token.label).open() as session:
        (key,) = session.get_objects({pkcs11.Attribute.CLASS: pkcs11.ObjectClass.PRIVATE_KEY})
        assert key[pkcs11.Attribute.SENSITIVE]
        assert not key[pkcs11.Attribute.EXTRACTABLE]
        for secret in (pkcs11.Attribute.PRIVATE_EXPONENT, pkcs11.Attribute.PRIME_1):
            with pytest.raises(pkcs11.AttributeSensitive):
                key[secret]
    assert b"PRIVATE KEY" not in (tmp_path / "payroll.pem").read_bytes()
    assert isinstance(own.private_key, Pkcs11Key)
    assert not hasattr(own.private_key, "private")
    assert not hasattr(own.private_key, "private_numbers")


def test_the_key_in_a_keystore_is_left_alone_where_a_token_holds_it(hsm_token: TokenOfATest, tmp_path: Path) -> None:
    own, other = credential(), credential(f"ABRD:{AGENT_ABN}_Other", 5)
    hsm_token.hsm.put_key(hsm_token.label, own.private_key)
    store = private(tmp_path / "keystore.xml", write([own, other], "never-told", b"seed"))
    keyring = Keyring(KeyPlaces(store, None, hsm_token.opened()))
    assert [one.id for one in keyring.all()] == [own.id]
    assert isinstance(keyring.all()[0].private_key, Pkcs11Key)
    unusable = keyring.get(other.id)
    assert not isinstance(unusable, Credential)
    assert unusable.code == "pkcs11.key"
    assert "holds no private key for the certificate" in unusable.detail


def test_certificates_in_the_token_itself_become_credentials_with_their_chain(hsm_token: TokenOfATest) -> None:
    own = credential()
    hsm_token.hsm.put_key(hsm_token.label, own.private_key)
    for one in (*own.chain, own.certificate):
        hsm_token.hsm.put_certificate(hsm_token.label, one.public_bytes(Encoding.DER), one.subject.public_bytes())
    (found,) = Keyring(KeyPlaces(None, None, hsm_token.opened())).all()
    assert (found.id, found.abn, found.certificate) == (own.id, own.abn, own.certificate)
    assert set(found.chain) == set(own.chain)


def test_threads_sign_with_one_key_at_a_time_and_all_signatures_hold(hsm_token: TokenOfATest) -> None:
    own = credential()
    hsm_token.hsm.put_key(hsm_token.label, own.private_key)
    key = hsm_token.opened().key(own.certificate)
    start = threading.Barrier(8)

    def sign(number: int) -> bool:
        start.wait(30)
        return all(
            key.sign(data, Digest.SHA256) == own.private_key.sign(data, Digest.SHA256)
            for data in (f"{number}-{turn}".encode() for turn in range(20))
        )

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(sign, range(8)))


def test_a_forked_process_signs_with_a_session_of_its_own_and_the_parent_goes_on(hsm_token: TokenOfATest) -> None:
    own = credential()
    hsm_token.hsm.put_key(hsm_token.label, own.private_key)
    token = hsm_token.opened()
    key = token.key(own.certificate)
    expected = own.private_key.sign(b"synthetic", Digest.SHA256)
    reader, writer = os.pipe()
    with token._lock:  # as a thread of the parent may have it at that moment, which the child has not
        child = os.fork()
        if child == 0:
            os.write(writer, key.sign(b"synthetic", Digest.SHA256))
            os._exit(0)
    os.close(writer)
    if not select.select([reader], [], [], 60)[0]:
        os.kill(child, signal.SIGKILL)
    with os.fdopen(reader, "rb") as answer:
        assert answer.read() == expected
    assert os.waitpid(child, 0)[1] == 0
    assert key.sign(b"synthetic", Digest.SHA256) == expected


def test_a_lost_session_is_opened_anew(hsm_token: TokenOfATest) -> None:
    own = credential()
    hsm_token.hsm.put_key(hsm_token.label, own.private_key)
    key = hsm_token.opened().key(own.certificate)
    pkcs11.lib(str(hsm_token.hsm.module)).reinitialize()  # every session and login of this process is gone
    assert key.sign(b"synthetic", Digest.SHA256) == own.private_key.sign(b"synthetic", Digest.SHA256)


def test_a_token_that_is_gone_is_waited_for_and_serves_again_when_it_is_back(hsm_token: TokenOfATest) -> None:
    own = credential()
    hsm_token.hsm.put_key(hsm_token.label, own.private_key)
    key = hsm_token.opened().key(own.certificate)
    hsm_token.hsm.drop_token(hsm_token.label)
    pkcs11.lib(str(hsm_token.hsm.module)).reinitialize()
    with pytest.raises(DependencyDownError, match="no token has the label") as down:
        key.sign(b"synthetic", Digest.SHA256)
    assert down.value.code == "pkcs11.down"
    hsm_token.hsm.make_token(hsm_token.label)
    hsm_token.hsm.put_key(hsm_token.label, own.private_key)
    assert key.sign(b"synthetic", Digest.SHA256) == own.private_key.sign(b"synthetic", Digest.SHA256)


def test_a_wrong_pin_is_tried_once_and_again_only_when_its_file_changes(hsm_token: TokenOfATest) -> None:
    own = credential()
    hsm_token.hsm.put_key(hsm_token.label, own.private_key)
    right = hsm_token.pin_file.read_text()
    private(hsm_token.pin_file, b"wrong-and-secret")
    token = hsm_token.opened()
    for _ in range(2):
        with pytest.raises(KeystoreError, match="not tried again before that file changes") as refused:
            token.key(own.certificate)
        assert refused.value.code == "pkcs11.pin"
        assert "wrong-and-secret" not in f"{refused.value!r} {refused.value.__cause__!r}"
        # The PIN is now what the file says; only a second try could find out.
        command = ("softhsm2-util", "--init-token", "--token", hsm_token.label, "--label", hsm_token.label)
        subprocess.run((*command, "--so-pin", SO_PIN, "--pin", "wrong-and-secret"), check=True, capture_output=True)
        pkcs11.lib(str(hsm_token.hsm.module)).reinitialize()
    subprocess.run((*command, "--so-pin", SO_PIN, "--pin", right), check=True, capture_output=True)
    hsm_token.hsm.put_key(hsm_token.label, own.private_key)
    pkcs11.lib(str(hsm_token.hsm.module)).reinitialize()
    private(hsm_token.pin_file, right.encode())
    assert token.key(own.certificate).public_key() == own.private_key.public_key()


@pytest.mark.parametrize("module", ["absent.so", "text.so"])
def test_a_library_that_does_not_load_is_told_with_its_setting(
    hsm_token: TokenOfATest, tmp_path: Path, module: str
) -> None:
    (tmp_path / "text.so").write_text("no library")
    token = Pkcs11Token(tmp_path / module, "any", hsm_token.pin_file)
    with pytest.raises(KeystoreError, match=f"pkcs11_module: .*{module} is not a PKCS#11 library") as refused:
        token.key(credential().certificate)
    assert refused.value.code == "pkcs11.module"


def test_tokens_are_told_apart_by_label_or_refused(hsm_token: TokenOfATest) -> None:
    absent = Pkcs11Token(hsm_token.hsm.module, f"absent-{uuid4().hex[:8]}", hsm_token.pin_file)
    with pytest.raises(KeystoreError, match=f"no token has the label 'absent-.*{hsm_token.label}"):
        absent.key(credential().certificate)
    hsm_token.hsm.make_token(hsm_token.label)
    pkcs11.lib(str(hsm_token.hsm.module)).reinitialize()
    with pytest.raises(KeystoreError, match="2 tokens have the label") as ambiguous:
        hsm_token.opened().key(credential().certificate)
    assert ambiguous.value.code == "pkcs11.token"


def test_a_pin_file_that_others_can_read_is_refused_with_the_remedy(hsm_token: TokenOfATest) -> None:
    hsm_token.pin_file.chmod(0o644)
    with pytest.raises(KeystoreError, match="chmod 600") as refused:
        hsm_token.opened().key(credential().certificate)
    assert refused.value.code == "secret.permissions"


def test_without_the_optional_library_the_extra_to_install_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pkcs11", None)
    with pytest.raises(ConfigurationError, match=r"lodgment-pipeline\[pkcs11\]"):
        open_token(tmp_path / "any.so", "any", tmp_path / "pin")
