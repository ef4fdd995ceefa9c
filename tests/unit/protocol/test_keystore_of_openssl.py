"""A keystore whose chain and key openssl wrote: definite-length PKCS#7, root first, and an 8-byte salt."""

import base64
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509

from pipeline.protocol.key_files import read_credentials

PASSWORD = "Synthetic-Pässword1!"
SERIAL = 0x1F3B5D7C9E0A1B2C3D4E5F60718293A4B5C6D7E8
"""Of 157 bits: no number of a machine."""
IDENTITY = "ABRD:34999000001_OpensslMachine"
STORE = """<?xml version="1.0" encoding="utf-8" standalone="yes"?>
<credentialStore xmlns="http://auth.abr.gov.au/credential/xsd/SBRCredentialStore"><salt>MTIzNDU2Nzg=</salt><credentials>
<credential integrityValue="-" credentialType="D" id="{identity}" credentialSalt="MTIzNDU2Nzg=">
<name1>OpensslMachine</name1><name2/><abn>34999000001</abn><legalName>OpensslMachine</legalName><personId/><serialNumber>{serial}</serialNumber>
<publicCertificate>{chain}</publicCertificate><protectedPrivateKey>{key}</protectedPrivateKey></credential>
</credentials></credentialStore>"""


def openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, timeout=60, stderr=subprocess.DEVNULL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("openssl") is None:
        pytest.skip("no openssl: install it to let it write keys")
    made = tmp_path_factory.mktemp("openssl")
    root, leaf = "/C=AU/O=Synthetic/CN=Synthetic Root", "/C=AU/O=34999000001/CN=OpensslMachine/dnQualifier=ABR"
    openssl(made, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca.key", "-out", "ca.pem", "-subj", root)
    openssl(made, "req", "-newkey", "rsa:2048", "-nodes", "-keyout", "key.pem", "-out", "request.pem", "-subj", leaf)
    signed = ("-CA", "ca.pem", "-CAkey", "ca.key", "-set_serial", hex(SERIAL), "-days", "700", "-sha256")
    openssl(made, "x509", "-req", "-in", "request.pem", "-out", "leaf.pem", *signed)
    openssl(
        made, "crl2pkcs7", "-nocrl", "-certfile", "ca.pem", "-certfile", "leaf.pem", "-outform", "DER", "-out", "chain"
    )
    sealed = ("-v1", "PBE-SHA1-3DES", "-iter", "1024", "-passout", f"pass:{PASSWORD}", "-outform", "DER", "-out", "key")
    openssl(made, "pkcs8", "-topk8", "-in", "key.pem", *sealed)
    return made


@pytest.mark.parametrize("encode", [base64.b64encode, base64.encodebytes], ids=["one line", "many lines"])
def test_unlocks_what_openssl_wrote_and_finds_the_leaf_by_its_serial(
    folder: Path, encode: Callable[[bytes], bytes]
) -> None:
    chain, key = (encode((folder / name).read_bytes()).decode() for name in ("chain", "key"))
    store = STORE.format(identity=IDENTITY, serial=SERIAL, chain=chain, key=key).encode()
    (credential,) = read_credentials(store, PASSWORD)
    leaf = x509.load_pem_x509_certificate((folder / "leaf.pem").read_bytes())
    assert (credential.id, credential.certificate) == (IDENTITY, leaf)
    assert credential.private_key.public_key() == leaf.public_key()
