"""Keys: the files that hold them, whether they open, how long they last and who vouches for them."""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.x509.oid import NameOID

from pipeline.bootstrap import keyring_of, read_master_keys
from pipeline.interfaces.cli.doctor.catalogue import Check
from pipeline.interfaces.cli.doctor.endpoints import Stage
from pipeline.interfaces.cli.doctor.line import RENEWERS, Line, Role, failed, of_failure, passed, skipped, warned
from pipeline.interfaces.cli.screen import span, when
from pipeline.lodgment.errors import ConfigurationError
from pipeline.lodgment.failures import Failure
from pipeline.protocol.chain import chain_of, issuer_of
from pipeline.protocol.credential import EXPIRY_WARNING, Credential
from pipeline.protocol.keystore import KeystoreError
from pipeline.secret_files import read_secret
from pipeline.settings import EnvironmentSettings, Settings

_DAY = timedelta(days=1)
_RENEW = (
    "Create a machine credential with the same name in RAM, which keeps its permissions, and put the new keystore in "
    "place; no restart is needed."
)
_TEST_ISSUER = re.compile(r"preprod|offline|test|evte|sandbox|synthetic", re.IGNORECASE)
_LOOSE_KEY = b"-----BEGIN"


@dataclass(frozen=True, slots=True)
class FileState:
    """What can be seen of a key file from outside."""

    mode: int
    encrypted: bool = True


def master_key_line(settings: Settings) -> tuple[Line, tuple[bytes, ...]]:
    """The master key's file, and the keys in it; the embedded profile makes one when it first needs it, not now."""
    path = settings.master_key_file
    if path is None and settings.ledger_url is None:
        path = settings.home / "master.key"
        if not path.exists():
            return skipped(Check.MASTER_KEY, f"none yet; the first `lodge submit` makes {path}"), ()
    if path is None:
        fix = "Make one with `lodge master-key FILE` and name it in master_key_file."
        return failed(Check.MASTER_KEY, "master_key_file: is not set", fix, Role.OPERATOR), ()
    try:
        keys = read_master_keys(path)
    except ConfigurationError as error:
        return _of_secret(Check.MASTER_KEY, error), ()
    if not keys:
        return failed(
            Check.MASTER_KEY, f"{path}: holds no key", "`lodge master-key FILE` makes one.", Role.OPERATOR
        ), ()
    return passed(Check.MASTER_KEY, f"{path}: {len(keys)} key(s), for this user alone"), keys


def password_line(environment: EnvironmentSettings) -> tuple[Line, bool]:
    """What opens the keys: a keystore's password, a token's PIN, or the password of the agency's user. And whether it
    can be read.
    """
    files = (
        (environment.keystore_password_file, "keystore password"),
        (environment.pkcs11_pin_file, "PIN of the PKCS#11 token"),
        (environment.password_file, "agency password"),
    )
    given = [(path, what) for path, what in files if path is not None]
    try:
        for path, what in given:
            read_secret(path, what)
    except ConfigurationError as error:
        return _of_secret(Check.PASSWORD_FILE, error), False
    return passed(Check.PASSWORD_FILE, f"{', '.join(str(path) for path, _ in given)}: for this user alone"), True


def keystore_lines(
    environment: EnvironmentSettings, stage: Stage, moment: datetime, *, readable: bool
) -> tuple[list[Line], Credential | None]:
    """The keystore and the credential of jobs that name none; `readable` says whether what opens it is."""
    if environment.keystore is None and environment.pkcs11_module is None:
        why = "user name and password; no keystore in this environment"
        return [skipped(one, why) for one in _OF_KEYSTORE], None
    line = keystore_file_line(environment.keystore)
    if not readable:
        return [line, *(skipped(one, "needs keys.password_file") for one in _OF_KEYSTORE[1:])], None
    try:
        keyring = keyring_of(environment)
        assert keyring is not None  # noqa: S101  - there is a keystore or a token
        credentials = keyring.all()
    except (KeystoreError, ConfigurationError) as error:
        return [line, _locked(error), *(skipped(one, "needs keys.unlock") for one in _OF_KEYSTORE[2:])], None
    names = ", ".join(one.id + (" (expired)" if one.not_after <= moment else "") for one in credentials)
    lines = [line, passed(Check.UNLOCK, f"{len(credentials)} credential(s): {names}")]
    chosen = keyring.get(environment.credential)
    if isinstance(chosen, Failure):
        lines += [of_failure(Check.CREDENTIAL, chosen), *(skipped(one, "needs keys.credential") for one in _DATED)]
        return lines, None
    lines.append(passed(Check.CREDENTIAL, f"{chosen.id} (ABN {chosen.abn}) for jobs that name none"))
    lines.append(judge_expiry(chosen.id, chosen.not_after, moment))
    # One that has expired may have been replaced, or is no longer used; one that is about to expire is still in use.
    others = (one for one in credentials if one.id != chosen.id and one.not_after > moment)
    lines += [line for line in (judge_expiry(one.id, one.not_after, moment) for one in others) if line.fix]
    lines.append(judge_chain(chosen, stage, moment))
    return lines, chosen


_DATED = (Check.EXPIRY, Check.CHAIN)
_OF_KEYSTORE = (Check.KEYSTORE_FILE, Check.UNLOCK, Check.CREDENTIAL, *_DATED)


def keystore_file_line(path: Path | None) -> Line:
    """Whether it is there and whose it is. In a folder each file is judged when it is read."""
    if path is None:
        return skipped(Check.KEYSTORE_FILE, "certificates and keys are in the PKCS#11 token")
    if path.is_dir():
        return passed(Check.KEYSTORE_FILE, f"{path}: a folder of key files")
    try:
        mode = path.stat().st_mode
        with path.open("rb") as file:
            head = file.read(4096)
    except OSError as error:
        fix = "Name the file in `keystore`; it is downloaded from RAM when the machine credential is created."
        return failed(Check.KEYSTORE_FILE, f"{path}: {error.strerror}", fix, Role.OPERATOR, *RENEWERS)
    loose = head.lstrip().startswith(_LOOSE_KEY) and b"ENCRYPTED" not in path.read_bytes()
    return judge_keystore_file(path, FileState(mode, encrypted=not loose))


def judge_keystore_file(path: Path, state: FileState) -> Line:
    """Others must not write a keystore, and must not read one whose keys are not encrypted (security case 43)."""
    check, fix = Check.KEYSTORE_FILE, f"Run chmod 600 {path}"
    if state.mode & 0o022:
        return failed(check, f"{path} can be written by others", fix, Role.OPERATOR)
    if state.mode & 0o044 and not state.encrypted:
        return failed(check, f"{path} holds a key without a password and is readable by others", fix, Role.OPERATOR)
    if state.mode & 0o044:
        found = f"{path} is readable by others; its keys are behind its password alone"
        return warned(check, found, fix, Role.OPERATOR)
    return passed(check, f"{path}: for this user alone")


def judge_expiry(credential: str, not_after: datetime, moment: datetime) -> Line:
    """How long a machine credential lasts, by its certificate."""
    left = not_after - moment
    until = f"{credential} until {when(not_after)}"
    days = round(left / _DAY, 2)
    if left <= timedelta(0):
        return failed(Check.EXPIRY, f"EXPIRED: {until}", _RENEW, *RENEWERS, measured={"left_days": days})
    if left < EXPIRY_WARNING:
        return warned(Check.EXPIRY, f"{until}: {span(left)} left", _RENEW, *RENEWERS, measured={"left_days": days})
    return passed(Check.EXPIRY, f"{until}: {span(left)} left", measured={"left_days": days})


def judge_chain(credential: Credential, stage: Stage, moment: datetime) -> Line:
    """From the leaf to a root that signed itself, and of the right world."""
    chain = chain_of(credential, moment)
    names = " ← ".join((_common_name(credential.certificate.subject), *chain.issuers))
    if not chain.complete:
        fix = "Download the keystore from RAM again, whole; the authorities' certificates belong into it."
        return warned(Check.CHAIN, f"{names}: {chain.problem}", fix, Role.OPERATOR, *RENEWERS)
    return _judge_issuer(names, issuer_of(credential), stage)


def _judge_issuer(chain: str, issuer: str, stage: Stage) -> Line:
    of_test = _TEST_ISSUER.search(issuer) is not None
    if of_test and stage is Stage.PRODUCTION:
        found = f"{issuer} issues test credentials, and this environment is production"
        return warned(Check.CHAIN, found, "Create a machine credential for production in RAM.", *RENEWERS)
    if not of_test and stage is Stage.TEST:
        found = f"{issuer} issues no test credentials, and this environment is a test"
        fix = "Use the credential for testing that the agency's partnership office hands out."
        return warned(Check.CHAIN, found, fix, Role.PROVIDER)
    return passed(Check.CHAIN, f"{chain}, complete")


def _common_name(name: x509.Name) -> str:
    common = name.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(common[0].value) if common else name.rfc4514_string()


def _locked(error: KeystoreError | ConfigurationError) -> Line:
    found = f"{error} [{error.code}]"
    if error.code == "keystore.file":
        return failed(Check.UNLOCK, found, "Name the file in `keystore`.", Role.OPERATOR)
    fix = "Put the password that the keystore was downloaded with into keystore_password_file, or download it again."
    return failed(Check.UNLOCK, found, fix, Role.OPERATOR, *RENEWERS)


def _of_secret(check: Check, error: ConfigurationError) -> Line:
    return failed(check, f"{error} [{error.code}]", "Mend what this line names.", Role.OPERATOR)
