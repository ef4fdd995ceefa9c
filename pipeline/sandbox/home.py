"""The folder that holds a sandbox: its authority, keys, credentials and book. Made once, reused afterwards."""

import hashlib
import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from stdnum.au import abn as abn_rules

from pipeline.protocol import synthetic_keystore
from pipeline.protocol.credential import Credential, RsaKey
from pipeline.sandbox import certificates
from pipeline.sandbox.certificates import KeyPair

APPLIES_TO = "https://m2m.sandbox.asic.invalid"
SBR2_APPLIES_TO = "https://sbr2.sandbox.ato.invalid/services"
"""The two relying parties that the sandbox's token service knows."""
SYNTHETIC_BUSINESSES = 9_000_000
_SBR2 = "sbr2"
_README = """SYNTHETIC. Keys, certificates, ABNs and lodgments in this folder were generated for a local sandbox.
Nothing in it is known to any agency. Delete the folder to start afresh.
"""


class Standing(StrEnum):
    """What the token service knows of a credential."""

    GOOD = "good"
    EXPIRED = "expired"
    REVOKED = "revoked"
    UNKNOWN = "unknown"
    """Issued by the right authority and on nobody's list."""


_CREDENTIALS = (
    ("SyntheticAgent", Standing.GOOD),
    ("SyntheticPayroll", Standing.GOOD),
    ("SyntheticBroker", Standing.GOOD),
    ("SyntheticExpired", Standing.EXPIRED),
    ("SyntheticRevoked", Standing.REVOKED),
    ("SyntheticUnknown", Standing.UNKNOWN),
)


@dataclass(frozen=True, slots=True)
class KnownCredential:
    """A machine credential as the services see it. `fingerprint` is the SHA-256 of its certificate in hex."""

    id: str
    abn: str
    name: str
    fingerprint: str
    standing: Standing


@dataclass(frozen=True, slots=True)
class Home:
    """A sandbox's folder, read. Everything in it is synthetic."""

    path: Path
    authority: x509.Certificate
    sts: KeyPair
    relying_party: KeyPair
    sbr2_relying_party: KeyPair
    """Tokens for SBR2 are encrypted to this one."""
    sbr2_agency: KeyPair
    """Signs the responses that are pulled."""
    credentials: tuple[KnownCredential, ...]

    @property
    def applies_to(self) -> str:
        return APPLIES_TO

    @property
    def ca_file(self) -> Path:
        """The root that a client must trust to talk to the sandbox over TLS."""
        return self.path / "ca.pem"

    @property
    def tls_file(self) -> Path:
        return self.path / "tls.pem"

    @property
    def keystore_file(self) -> Path:
        return self.path / "keystore.xml"

    @property
    def keystore_password_file(self) -> Path:
        return self.path / "keystore.password"

    @property
    def basic_user(self) -> str:
        return "synthetic-agent"

    @property
    def basic_password_file(self) -> Path:
        """For the gateway's user name and password variant (WIG 5.2)."""
        return self.path / "basic.password"

    @property
    def sbr2_certificate_file(self) -> Path:
        """The certificate that pulled responses are signed with, for `agency_certificates`."""
        return self.path / _SBR2 / "agency-certificate.pem"

    @property
    def book_file(self) -> Path:
        return self.path / "book.sqlite"

    def credential(self, standing: Standing = Standing.GOOD) -> KnownCredential:
        """The first credential of that standing; the first good one is the default of jobs that name none."""
        return next(one for one in self.credentials if one.standing is standing)

    def by_fingerprint(self) -> Mapping[str, KnownCredential]:
        """The credentials on the services' list."""
        return {one.fingerprint: one for one in self.credentials if one.standing is not Standing.UNKNOWN}


def synthetic_abn(number: int) -> str:
    """An ABN with right check digits in a range kept for synthetic businesses: `<check>9990<number>`, and for numbers
    of more than five digits `<check>99<number>`.

    Raises:
        ValueError: there are no more than `SYNTHETIC_BUSINESSES`.
    """
    if not 0 <= number < SYNTHETIC_BUSINESSES:
        raise ValueError(f"number: there are {SYNTHETIC_BUSINESSES} synthetic ABNs")
    digits = f"9990{number:05d}" if number < 100_000 else f"99{number:07d}"
    return f"{abn_rules.calc_check_digits(digits)}{digits}"


def credential_ids(standing: Standing) -> tuple[str, ...]:
    """The ids that every home gives to its credentials of that standing."""
    numbered = enumerate(_CREDENTIALS, start=1)
    return tuple(_credential_id(number, name) for number, (name, one) in numbered if one is standing)


def open_home(path: Path, now: datetime) -> Home:
    """The sandbox's folder at `path`, created whole when it is not there yet."""
    _make_whole(path, _create, now)
    # On its own: a home from before SBR2 gets it, too.
    _make_whole(path / _SBR2, _create_sbr2, now)
    return _read(path)


def _make_whole(path: Path, create: Callable[[Path, datetime], None], now: datetime) -> None:
    """The folder at `path`, with everything in it or not at all."""
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    making = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    try:
        create(making, now)
        making.rename(path)
    except OSError:
        # Two processes started at once, and the other one was first: its folder is as good.
        if not path.exists():
            raise
    finally:
        shutil.rmtree(making, ignore_errors=True)


def _create(path: Path, now: datetime) -> None:
    root = certificates.root_authority(now)
    authority = certificates.credential_authority(root, now)
    known, credentials = _machine_credentials(root, authority, now)
    password = secrets.token_urlsafe(18)
    _write(path / "README.txt", _README.encode())
    _write(path / "ca.pem", root.certificate.public_bytes(Encoding.PEM))
    _write(path / "authority.pem", authority.certificate.public_bytes(Encoding.PEM))
    _write(path / "tls.pem", _pem(certificates.server_certificate(root, now)))
    _write(path / "sts.pem", _pem(certificates.service_certificate(root, "Sandbox Security Token Service", now)))
    _write(path / "relying-party.pem", _pem(certificates.service_certificate(root, "Sandbox ASIC Gateway", now)))
    _write(path / "keystore.password", password.encode())
    _write(path / "basic.password", secrets.token_urlsafe(18).encode())
    _write(path / "keystore.xml", synthetic_keystore.write(credentials, password, secrets.token_bytes(32)))
    _write(path / "credentials.json", json.dumps([asdict(one) for one in known], indent=2).encode())


def _create_sbr2(path: Path, now: datetime) -> None:
    """Under an authority of its own, whose key is forgotten: clients are told the very certificate to believe."""
    root = certificates.root_authority(now)
    agency = certificates.service_certificate(root, "Sandbox SBR2 Agency", now)
    _write(path / "relying-party.pem", _pem(certificates.service_certificate(root, "Sandbox SBR2 Gateway", now)))
    _write(path / "agency.pem", _pem(agency))
    _write(path / "agency-certificate.pem", agency.certificate.public_bytes(Encoding.PEM))


def _credential_id(number: int, name: str) -> str:
    return f"ABRD:{synthetic_abn(number)}_{name}"


def _machine_credentials(
    root: KeyPair, authority: KeyPair, now: datetime
) -> tuple[list[KnownCredential], list[Credential]]:
    known: list[KnownCredential] = []
    credentials: list[Credential] = []
    for number, (name, standing) in enumerate(_CREDENTIALS, start=1):
        abn = synthetic_abn(number)
        start = now - timedelta(days=731 if standing is Standing.EXPIRED else 1)
        pair = certificates.machine_credential(authority, abn, name, start, start + timedelta(days=730))
        der = pair.certificate.public_bytes(Encoding.DER)
        identity = _credential_id(number, name)
        known.append(KnownCredential(identity, abn, name, hashlib.sha256(der).hexdigest(), standing))
        chain = (authority.certificate, root.certificate)
        credentials.append(Credential(identity, abn, name, pair.certificate, der, RsaKey(pair.key), chain))
    return known, credentials


def _read(path: Path) -> Home:
    fields = json.loads((path / "credentials.json").read_bytes())
    return Home(
        path=path,
        authority=x509.load_pem_x509_certificate((path / "authority.pem").read_bytes()),
        sts=_key_pair(path / "sts.pem"),
        relying_party=_key_pair(path / "relying-party.pem"),
        sbr2_relying_party=_key_pair(path / _SBR2 / "relying-party.pem"),
        sbr2_agency=_key_pair(path / _SBR2 / "agency.pem"),
        credentials=tuple(KnownCredential(**{**one, "standing": Standing(one["standing"])}) for one in fields),
    )


def _pem(pair: KeyPair) -> bytes:
    key = pair.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return pair.certificate.public_bytes(Encoding.PEM) + key


def _key_pair(path: Path) -> KeyPair:
    content = path.read_bytes()
    key = load_pem_private_key(content, password=None)
    if not isinstance(key, RSAPrivateKey):
        raise TypeError(f"{path} does not hold an RSA key")
    return KeyPair(x509.load_pem_x509_certificate(content), key)


def _write(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
