"""SoftHSM: PKCS#11 tokens of the tests' own, in a folder of their own."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey, RSAPublicNumbers
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from pipeline.protocol.credential import SigningKey
from tests.doubles.synthetic_credentials import raw
from tests.services.processes import ServiceError

PIN = "synthetic-1234"
SO_PIN = "synthetic-5678"
_MODULES = (Path("/usr/lib/softhsm/libsofthsm2.so"), Path("/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so"))

# In a process of its own, so that the private key was never in that of the tests.
_GENERATE = """
import json, sys
import pkcs11
from pkcs11 import Attribute, KeyType
module, label, pin = sys.argv[1:]
with pkcs11.lib(module).get_token(token_label=label).open(user_pin=pin, rw=True) as session:
    wanted = {Attribute.SENSITIVE: True, Attribute.EXTRACTABLE: False}
    public, _ = session.generate_keypair(KeyType.RSA, 2048, store=True, label="signing", private_template=wanted)
    numbers = [int.from_bytes(public[name], "big") for name in (Attribute.PUBLIC_EXPONENT, Attribute.MODULUS)]
print(json.dumps(numbers))
"""
_STORE = """
import sys
import pkcs11
from pkcs11 import Attribute, CertificateType, ObjectClass
module, label, pin, value, subject = sys.argv[1:]
with pkcs11.lib(module).get_token(token_label=label).open(user_pin=pin, rw=True) as session:
    session.create_object({
        Attribute.CLASS: ObjectClass.CERTIFICATE,
        Attribute.CERTIFICATE_TYPE: CertificateType.X_509,
        Attribute.TOKEN: True,
        Attribute.SUBJECT: bytes.fromhex(subject),
        Attribute.VALUE: bytes.fromhex(value),
    })
"""


class SoftHsm:
    """A folder of tokens. The library finds it by an environment variable that is in force while this exists."""

    def __init__(self) -> None:
        self.module = _module()
        self._home = Path(tempfile.mkdtemp(prefix="lodge-softhsm-"))
        (self._home / "tokens").mkdir()
        configuration = self._home / "softhsm2.conf"
        configuration.write_text(
            f"directories.tokendir = {self._home}/tokens\nobjectstore.backend = file\nlog.level = ERROR\n"
        )
        self._before = os.environ.get("SOFTHSM2_CONF")
        os.environ["SOFTHSM2_CONF"] = str(configuration)

    def stop(self) -> None:
        os.environ.pop("SOFTHSM2_CONF")
        if self._before is not None:
            os.environ["SOFTHSM2_CONF"] = self._before
        shutil.rmtree(self._home, ignore_errors=True)

    def make_token(self, label: str) -> None:
        """An empty token. Labels may be used twice, as in life."""
        self._util("--init-token", "--free", "--label", label, "--so-pin", SO_PIN, "--pin", PIN)

    def drop_token(self, label: str) -> None:
        self._util("--delete-token", "--token", label)

    def put_key(self, label: str, key: SigningKey) -> None:
        """A private key into a token, as an operator imports the one of a keystore: from then on it stays there."""
        file = self._home / "key.pem"
        file.write_bytes(raw(key).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        self._util("--import", str(file), "--token", label, "--label", "imported", "--id", "01", "--pin", PIN)
        file.unlink()

    def generate(self, label: str) -> RSAPublicKey:
        """A key pair made inside a token; only the public half is ever seen here."""
        exponent, modulus = json.loads(self._python(_GENERATE, label, PIN))
        return RSAPublicNumbers(exponent, modulus).public_key()

    def put_certificate(self, label: str, der: bytes, subject: bytes) -> None:
        self._python(_STORE, label, PIN, der.hex(), subject.hex())

    def _python(self, script: str, *arguments: str) -> str:
        command = (sys.executable, "-c", script, str(self.module), *arguments)
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout

    def _util(self, *arguments: str) -> None:
        done = subprocess.run(("softhsm2-util", *arguments), capture_output=True, text=True, check=False, timeout=120)
        if done.returncode != 0:
            raise ServiceError(f"softhsm2-util {arguments[0]}: {done.stdout}{done.stderr}")


def _module() -> Path:
    found = [path for path in _MODULES if path.exists()]
    if not found and os.geteuid() == 0 and shutil.which("apt-get"):
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for command in (["apt-get", "update"], ["apt-get", "install", "-y", "softhsm2"]):
            subprocess.run(command, env=environment, check=False, timeout=600, stdout=subprocess.DEVNULL)
        found = [path for path in _MODULES if path.exists()]
    if not found:
        raise ServiceError(f"no SoftHSM: install softhsm2 (looked for {_MODULES[0]})")
    return found[0]
