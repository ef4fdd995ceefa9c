"""The JDK, and WSS4J with Santuario, as verifiers: nothing of them is in what seals, nor in libxml2 or xmlsec.

With Jakarta Mail they are an AS4 stack, which takes messages apart and composes some of its own.
"""

import base64
import subprocess
from dataclasses import dataclass, field
from datetime import datetime
from types import TracebackType
from typing import IO, Self

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.oracles.verdict import Verdict
from tests.services.java import CompiledJava


class _Process:
    """One Java process that answers any number of questions. Use it as a context manager."""

    def __init__(self, main: str, *, with_libraries: bool) -> None:
        self._java = CompiledJava(main, with_libraries=with_libraries)

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self._java.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate(timeout=60)
        self._java.remove()

    def ask(self, *fields: bytes) -> Verdict:
        into, out = self._process.stdin, self._process.stdout
        assert into is not None
        assert out is not None
        into.write(len(fields).to_bytes(4, "big"))
        for one in fields:
            into.write(len(one).to_bytes(4, "big"))
            into.write(one)
        into.flush()
        text = _exactly(out, int.from_bytes(_exactly(out, 4), "big")).decode()
        verdict, *lines = text.splitlines()
        return Verdict(verdict == "valid", tuple(line for line in lines if line))


def _exactly(stream: IO[bytes], size: int) -> bytes:
    content = stream.read(size)
    assert len(content) == size, "the Java process ended"
    return content


class Jdk(_Process):
    """The JDK's XML Signature in secure validation; it needs no library."""

    def __init__(self) -> None:
        super().__init__("JdkOracle", with_libraries=False)

    def check(self, document: bytes, certificate_der: bytes, session_key: bytes = b"") -> Verdict:
        return self.ask(document, certificate_der, session_key)


class Wss4j(_Process):
    """WSS4J under the WS-I Basic Security Profile, and Santuario for encryption."""

    def __init__(self) -> None:
        super().__init__("Wss4jOracle", with_libraries=True)

    def check(self, document: bytes, certificate_der: bytes, now: datetime, session_key: bytes = b"") -> Verdict:
        """`now` is when the certificate is judged; a Timestamp is judged by the machine's clock."""
        return self.ask(
            b"check", document, certificate_der, session_key, now.isoformat().replace("+00:00", "Z").encode()
        )

    def open(self, assertion: bytes, private_key: RSAPrivateKey, issuer_der: bytes) -> Verdict:
        """Decrypt an EncryptedAssertion, and check the signature of what is in it."""
        own = private_key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        return self.ask(b"open", assertion, own, issuer_der)


@dataclass(frozen=True, slots=True)
class Composed:
    """A message as the Java stack would post it."""

    content_type: str
    body: bytes = field(repr=False)


class As4(_Process):
    """Jakarta Mail for the package, Santuario for the signature and its attachment, WSS4J to sign."""

    def __init__(self) -> None:
        super().__init__("As4Oracle", with_libraries=True)

    def take_apart(self, content_type: str, body: bytes, certificate_der: bytes) -> Verdict:
        """A pushed message, or one without attachment, that must be signed by the certificate."""
        return self.ask(b"message", content_type.encode(), body, certificate_der)

    def acknowledged(self, receipt: bytes, content_type: str, body: bytes, certificate_der: bytes) -> Verdict:
        """Whether the receipt repeats every digest of the message, as this stack computes them, and no other."""
        return self.ask(b"receipt", receipt, content_type.encode(), body, certificate_der)

    def compose(
        self, envelope: bytes, key: RSAPrivateKey, certificate_der: bytes, attachment: tuple[str, bytes], encoding: str
    ) -> Composed:
        """Sign and pack an envelope whose Security has the assertion; `attachment` is a Content-ID and its content."""
        own = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        content_id, content = attachment
        verdict = self.ask(b"compose", encoding.encode(), envelope, own, certificate_der, content_id.encode(), content)
        assert verdict.valid, verdict.lines
        said = dict(line.split(" ", 1) for line in verdict.lines)
        return Composed(said["content-type"], base64.b64decode(said["body"]))
