"""Private keys that stay in a PKCS#11 token (OASIS PKCS #11 2.40): this process hands in bytes and gets signatures."""

import contextlib
import os
import threading
import weakref
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from pipeline.lodgment.errors import ConfigurationError, DependencyDownError
from pipeline.protocol.certificates import CertificateError, read_der
from pipeline.protocol.credential import Digest
from pipeline.protocol.keystore import KeystoreError
from pipeline.secret_files import read_secret

if TYPE_CHECKING:
    import pkcs11

log = structlog.get_logger(__name__)

_Stamp = tuple[int, int, int]


class Pkcs11Key:
    """A key in a token. It has no private part here, and so nothing to leak."""

    def __init__(self, token: "Pkcs11Token", public: RSAPublicKey) -> None:
        self._token = token
        self._public = public

    @property
    def kept_in(self) -> str:
        return f"PKCS#11 token {self._token.label!r}"

    def public_key(self) -> RSAPublicKey:
        return self._public

    def sign(self, data: bytes, digest: Digest) -> bytes:
        return self._token.sign(self._public, data, digest)


class Pkcs11Token:
    """One token, logged in to when it is first needed and again when its session is lost or the process has forked.

    Any thread may use it. A PIN that was refused is not tried again until its file changes: tokens lock themselves
    after a few wrong ones.
    """

    def __init__(self, module: Path, label: str, pin_file: Path) -> None:
        self.label = label
        self.pin_file = pin_file
        self._module = module
        self._lock = threading.Lock()
        self._session: pkcs11.Session | None = None
        self._keys: dict[int, pkcs11.SignMixin] = {}
        self._lost = False
        self._refused_pin: _Stamp | None = None
        os.register_at_fork(after_in_child=partial(_forked, weakref.ref(self)))

    def key(self, certificate: x509.Certificate) -> Pkcs11Key:
        """The private key of `certificate`, found by its modulus: labels are free text, and say nothing.

        Raises:
            KeystoreError: `pkcs11.key` when the token has no such key; `pkcs11.module`, `pkcs11.token`, `pkcs11.pin` or
                `pkcs11.locked` when the token cannot be used; `pkcs11.down` when it cannot be reached.
        """
        with self._lock, _told(self.label):
            public = _rsa_public(certificate)
            if public is None:
                raise KeystoreError("pkcs11.key", f"the certificate {_subject(certificate)} has no RSA key")
            if self._private(public) is None:
                text = f"the token {self.label!r} holds no private key for the certificate {_subject(certificate)}"
                raise KeystoreError("pkcs11.key", text)
            return Pkcs11Key(self, public)

    def certificates(self) -> list[x509.Certificate]:
        """The X.509 certificates that are stored in the token.

        Raises:
            KeystoreError: the token cannot be used, see `key`; or one of them is damaged.
        """
        import pkcs11

        wanted = {
            pkcs11.Attribute.CLASS: pkcs11.ObjectClass.CERTIFICATE,
            pkcs11.Attribute.CERTIFICATE_TYPE: pkcs11.CertificateType.X_509,
        }
        with self._lock, _told(self.label):
            found = [bytes(one[pkcs11.Attribute.VALUE]) for one in self._opened().get_objects(wanted)]
        try:
            return [read_der(one) for one in found]
        except CertificateError as error:
            text = f"a certificate in the token {self.label!r} cannot be read: {error}"
            raise KeystoreError("keystore.malformed", text) from error

    def sign(self, public: RSAPublicKey, data: bytes, digest: Digest) -> bytes:
        """RSASSA-PKCS1-v1_5 by the token. A lost session is opened anew, once; a signature may be made twice.

        Raises:
            DependencyDownError: `pkcs11.down`: it cannot be reached, lets nobody in, or no longer has the key.
        """
        import pkcs11

        mechanism = {Digest.SHA256: pkcs11.Mechanism.SHA256_RSA_PKCS, Digest.SHA1: pkcs11.Mechanism.SHA1_RSA_PKCS}
        with self._lock:
            try:
                with _told(self.label):
                    return self._signed(public, data, mechanism[digest])
            except KeystoreError as error:
                log.warning("pkcs11.session_lost", token=self.label, code=error.code, reason=str(error))
                self._forget()
            try:
                with _told(self.label):
                    return self._signed(public, data, mechanism[digest])
            except KeystoreError as error:
                raise DependencyDownError("pkcs11.down", str(error)) from error

    def _signed(self, public: RSAPublicKey, data: bytes, mechanism: "pkcs11.Mechanism") -> bytes:
        key = self._private(public)
        if key is None:
            raise KeystoreError("pkcs11.key", f"the token {self.label!r} no longer holds the private key")
        return bytes(key.sign(data, mechanism=mechanism))

    def _private(self, public: RSAPublicKey) -> "pkcs11.SignMixin | None":
        import pkcs11

        modulus = public.public_numbers().n
        session = self._opened()
        if modulus not in self._keys:
            wanted = {
                pkcs11.Attribute.CLASS: pkcs11.ObjectClass.PRIVATE_KEY,
                pkcs11.Attribute.KEY_TYPE: pkcs11.KeyType.RSA,
                pkcs11.Attribute.MODULUS: modulus.to_bytes(-(-public.key_size // 8), "big"),
            }
            # Two objects with one modulus are one key: either signs the same. One that may not sign is passed over.
            self._keys.update(
                (modulus, one) for one in session.get_objects(wanted) if isinstance(one, pkcs11.SignMixin)
            )
        return self._keys.get(modulus)

    def _opened(self) -> "pkcs11.Session":
        if self._session is None:
            self._session = self._log_in(self._found())
        return self._session

    def _found(self) -> "pkcs11.Token":
        import pkcs11

        try:
            library = pkcs11.lib(str(self._module))
        except pkcs11.PKCS11Error as error:
            text = f"pkcs11_module: {self._module} is not a PKCS#11 library that loads here; name its .so file"
            raise KeystoreError("pkcs11.module", text) from error
        if not self._lost:
            try:
                return self._labelled(list(library.get_tokens()))
            except KeystoreError as error:
                log.info("pkcs11.restarted", token=self.label, reason=str(error))
        # What a library remembers of tokens that have come and gone, or of the process it was forked from, is stale.
        with contextlib.suppress(pkcs11.PKCS11Error):
            library.finalize()
        library.initialize()
        self._lost = False
        return self._labelled(list(library.get_tokens()))

    def _labelled(self, tokens: "Sequence[pkcs11.Token]") -> "pkcs11.Token":
        same = [one for one in tokens if one.label == self.label]
        if len(same) == 1:
            return same[0]
        if same:
            text = f"pkcs11_token: {len(same)} tokens have the label {self.label!r}; give each its own"
            raise KeystoreError("pkcs11.token", text)
        names = ", ".join(repr(one.label) for one in tokens if one.label) or "none"
        text = f"pkcs11_token: no token has the label {self.label!r}; there are: {names}"
        raise KeystoreError("pkcs11.token", text)

    def _log_in(self, token: "pkcs11.Token") -> "pkcs11.Session":
        import pkcs11

        if token.flags & (pkcs11.TokenFlag.USER_PIN_LOCKED | pkcs11.TokenFlag.USER_PIN_FINAL_TRY):
            text = f"the PIN of the token {self.label!r} is locked, or one wrong try away from it: log in by hand first"
            raise KeystoreError("pkcs11.locked", text)
        stamp = _stamp(self.pin_file)
        if stamp is not None and stamp == self._refused_pin:
            raise KeystoreError("pkcs11.pin", self._wrong_pin())
        try:
            return token.open(user_pin=read_secret(self.pin_file, "PKCS#11 PIN"))
        except pkcs11.UserAlreadyLoggedIn:
            return token.open()  # a login is the process's, not the session's (PKCS #11 2.40, 5.6)
        except (pkcs11.PinIncorrect, pkcs11.PinInvalid, pkcs11.PinLenRange) as error:
            self._refused_pin = stamp
            raise KeystoreError("pkcs11.pin", self._wrong_pin()) from error
        except (pkcs11.PinLocked, pkcs11.PinExpired, pkcs11.UserPinNotInitialized) as error:
            text = f"the PIN of the token {self.label!r} is locked, expired or not set"
            raise KeystoreError("pkcs11.locked", text) from error

    def _wrong_pin(self) -> str:
        return (
            f"the token {self.label!r} refuses the PIN in {self.pin_file}; it is not tried again before that file "
            "changes, because tokens lock themselves"
        )

    def _forget(self) -> None:
        import pkcs11

        if self._session is not None:
            with contextlib.suppress(pkcs11.PKCS11Error):
                self._session.close()
        self._session = None
        self._keys.clear()
        self._lost = True

    def _start_over(self) -> None:
        """In a forked process: the lock may be held by a thread that is not here, the session is the parent's."""
        self._lock = threading.Lock()
        self._session = None
        self._keys = {}
        self._lost = True


def open_token(module: Path, label: str, pin_file: Path) -> Pkcs11Token:
    """A token, not yet looked for.

    Raises:
        ConfigurationError: `pkcs11.package`: the Python library for it is not installed.
    """
    try:
        import pkcs11  # noqa: F401  - said here once, rather than at the first signature
    except ImportError as error:
        text = "pkcs11_module: the library for it is missing; install lodgment-pipeline[pkcs11]"
        raise ConfigurationError("pkcs11.package", text) from error
    return Pkcs11Token(module, label, pin_file)


@contextlib.contextmanager
def _told(label: str) -> Iterator[None]:
    """The library's errors, which carry no text, in words."""
    import pkcs11

    try:
        yield
    except pkcs11.PKCS11Error as error:
        text = f"the token {label!r} cannot be used now: {type(error).__name__}"
        raise KeystoreError("pkcs11.down", text) from error
    except ConfigurationError as error:
        raise KeystoreError(error.code, str(error)) from error


def _forked(reference: "weakref.ref[Pkcs11Token]") -> None:
    token = reference()
    if token is not None:
        token._start_over()  # noqa: SLF001  - this module's own


def _stamp(path: Path) -> _Stamp | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ctime_ns, status.st_size


def _rsa_public(certificate: x509.Certificate) -> RSAPublicKey | None:
    try:
        key = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        return None
    return key if isinstance(key, RSAPublicKey) else None


def _subject(certificate: x509.Certificate) -> str:
    return repr(certificate.subject.rfc4514_string())
