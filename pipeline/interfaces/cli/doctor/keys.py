"""Keys: the files that hold them, whether they open, how long they last and who vouches for them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.x509.oid import NameOID

from pipeline.bootstrap import read_master_keys
from pipeline.interfaces.cli.doctor.catalogue import Check
from pipeline.interfaces.cli.doctor.endpoints import Stage
from pipeline.interfaces.cli.doctor.line import RENEWERS, Line, Role, failed, of_failure, passed, skipped, warned
from pipeline.interfaces.cli.screen import span, when
from pipeline.keyring import Keyring
from pipeline.lodgment.errors import ConfigurationError
from pipeline.lodgment.failures import Failure
from pipeline.protocol.credential import Credential
from pipeline.protocol.keystore import KeystoreError
from pipeline.settings import EnvironmentSettings, Settings, read_secret

EXPIRY_WARNING = timedelta(days=60)
"""A machine credential is replaced in RAM before it ends, and a new one needs people and days."""

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


def password_line(environment: EnvironmentSettings) -> tuple[Line, str | None]:
    """The password of the keystore, or of the agency's user where there is no keystore."""
    token = environment.authentication == "token"
    path, what = (
        (environment.keystore_password_file, "keystore password")
        if token
        else (environment.password_file, "agency password")
    )
    assert path is not None  # noqa: S101  - the settings' own rule
    try:
        password = read_secret(path, what)
    except ConfigurationError as error:
        return _of_secret(Check.PASSWORD_FILE, error), None
    return passed(Check.PASSWORD_FILE, f"{path}: for this user alone"), password


def keystore_lines(
    environment: EnvironmentSettings, password: str | None, stage: Stage, moment: datetime
) -> tuple[list[Line], Credential | None]:
    """The keystore and the credential of jobs that name none."""
    if environment.keystore is None:
        why = "user name and password; no keystore in this environment"
        return [skipped(one, why) for one in _OF_KEYSTORE], None
    line = keystore_file_line(environment.keystore)
    if password is None:
        return [line, *(skipped(one, "needs keys.password_file") for one in _OF_KEYSTORE[1:])], None
    keyring = Keyring(environment.keystore, password)
    try:
        credentials = keyring.all()
    except KeystoreError as error:
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
    lines.append(judge_chain((chosen.certificate, *chosen.chain), stage, moment))
    return lines, chosen


_DATED = (Check.EXPIRY, Check.CHAIN)
_OF_KEYSTORE = (Check.KEYSTORE_FILE, Check.UNLOCK, Check.CREDENTIAL, *_DATED)


def keystore_file_line(path: Path) -> Line:
    """Whether it is there and whose it is."""
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


def judge_chain(certificates: Sequence[x509.Certificate], stage: Stage, moment: datetime) -> Line:
    """From the leaf (first) to a root that signed itself, each link's signature checked, and of the right world."""
    names, complete = [_common_name(certificates[0].subject)], False
    current = certificates[0]
    for _ in certificates:
        if _issued(current, current):
            complete = True
            break
        above = next((one for one in certificates if one != current and _issued(current, one)), None)
        if above is None:
            break
        current = above
        names.append(_common_name(current.subject))
        if current.not_valid_after_utc <= moment:
            found = f"{names[-1]}: this authority's certificate ended {when(current.not_valid_after_utc)}"
            return warned(Check.CHAIN, found, _RENEW, *RENEWERS)
    chain = " ← ".join(names)
    if not complete:
        missing = _common_name(current.issuer)
        fix = "Download the keystore from RAM again, whole; the authorities' certificates belong into it."
        return warned(Check.CHAIN, f"{chain}: the keystore does not hold {missing}", fix, Role.OPERATOR, *RENEWERS)
    return _judge_issuer(chain, _common_name(certificates[0].issuer), stage)


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


def _issued(certificate: x509.Certificate, by: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(by)
    except (InvalidSignature, ValueError, TypeError):
        return False
    return True


def _common_name(name: x509.Name) -> str:
    common = name.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(common[0].value) if common else name.rfc4514_string()


def _locked(error: KeystoreError) -> Line:
    found = f"{error} [{error.code}]"
    if error.code == "keystore.file":
        return failed(Check.UNLOCK, found, "Name the file in `keystore`.", Role.OPERATOR)
    fix = "Put the password that the keystore was downloaded with into keystore_password_file, or download it again."
    return failed(Check.UNLOCK, found, fix, Role.OPERATOR, *RENEWERS)


def _of_secret(check: Check, error: ConfigurationError) -> Line:
    return failed(check, f"{error} [{error.code}]", "Mend what this line names.", Role.OPERATOR)
