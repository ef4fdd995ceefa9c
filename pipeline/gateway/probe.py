"""How far one gets towards a server: its name, its port, its TLS, each timed on its own. No byte of HTTP is sent."""

import asyncio
import contextlib
import socket
import ssl
import threading
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from time import monotonic
from typing import Final

from cryptography import x509
from cryptography.x509.oid import NameOID

_ADDRESSES: Final = 4
"""Of a name with more, the others are left out: each has its share of the time."""

_VERIFY: Final = {
    10: "expired",
    18: "self-signed",
    19: "unknown-issuer",
    20: "unknown-issuer",
    62: "wrong-host",
    64: "wrong-host",
}
"""OpenSSL's verification results (openssl-verification-options(1), X509_V_ERR_*)."""

_PROTOCOL: Final = frozenset({"TLSV1_ALERT_PROTOCOL_VERSION", "UNSUPPORTED_PROTOCOL", "NO_PROTOCOLS_AVAILABLE"})
_NOT_TLS: Final = frozenset({"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG"})


class Fault(StrEnum):
    """Where it ended."""

    NAME = "name"
    NAME_TIMEOUT = "name-timeout"
    REFUSED = "refused"
    UNREACHABLE = "unreachable"
    CONNECT_TIMEOUT = "connect-timeout"
    NOT_TLS = "not-tls"
    OLD_TLS = "old-tls"
    HUNG_UP = "hung-up"
    TLS_TIMEOUT = "tls-timeout"
    TLS = "tls"
    EXPIRED = "expired"
    WRONG_HOST = "wrong-host"
    SELF_SIGNED = "self-signed"
    UNKNOWN_ISSUER = "unknown-issuer"
    CERTIFICATE = "certificate"
    """Refused for another reason; `detail` has OpenSSL's words."""


@dataclass(frozen=True, slots=True)
class Handshake:
    """What was agreed, and the server's certificate, verified."""

    version: str
    """As OpenSSL names it, `TLSv1.3`."""
    cipher: str
    issuer: str
    not_after: datetime


@dataclass(frozen=True, slots=True)
class Probe:
    """How far it went: a step that was done has its time. `fault` is why the next one was not."""

    host: str
    port: int
    resolved: timedelta | None = None
    connected: timedelta | None = None
    secured: timedelta | None = None
    address: str = ""
    handshake: Handshake | None = None
    fault: Fault | None = None
    detail: str = ""

    @property
    def reached(self) -> bool:
        """The port took a TCP connection."""
        return self.connected is not None

    @property
    def well(self) -> bool:
        return self.fault is None


async def probe(host: str, port: int, tls: ssl.SSLContext | None, patience: float) -> Probe:
    """Look for `host`, connect to `port` and, with `tls`, shake hands; each step within `patience` seconds."""
    result = Probe(host, port)
    begun = monotonic()
    try:
        async with asyncio.timeout(patience):
            addresses = await _addresses(host, port)
    except TimeoutError:
        return replace(result, fault=Fault.NAME_TIMEOUT, detail=f"no answer about the name within {patience:g} s")
    except (OSError, UnicodeError) as error:
        return replace(result, fault=Fault.NAME, detail=_told(error))
    result = replace(result, resolved=_since(begun))
    connected = await _connect(result, addresses, patience)
    if not isinstance(connected, tuple):
        return connected
    result, reached = connected
    with contextlib.closing(reached):
        return result if tls is None else await _secure(result, reached, tls, patience)


_Address = tuple[socket.AddressFamily, tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]]


async def _addresses(host: str, port: int) -> list[_Address]:
    # A thread of its own, and a daemon: the loop's executor would be waited for at the end of the program, and a
    # resolver that is cut off answers only after minutes.
    loop = asyncio.get_running_loop()
    found: asyncio.Future[list[_Address]] = loop.create_future()

    def tell(result: "list[_Address] | Exception") -> None:
        if found.done():
            return
        if isinstance(result, list):
            found.set_result(result)
        else:
            found.set_exception(result)

    def look() -> None:
        result: list[_Address] | Exception
        try:
            answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            result = [(family, address) for family, _kind, _protocol, _name, address in answers]
        except (OSError, UnicodeError) as error:
            result = error
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any longer
            loop.call_soon_threadsafe(tell, result)

    threading.Thread(target=look, name="probe-name", daemon=True).start()
    return await found


async def _connect(result: Probe, addresses: list[_Address], patience: float) -> tuple[Probe, socket.socket] | Probe:
    chosen = addresses[:_ADDRESSES]
    for family, address in chosen:
        begun = monotonic()
        trying = socket.socket(family, socket.SOCK_STREAM)
        trying.setblocking(False)
        result = replace(result, address=str(address[0]))
        try:
            async with asyncio.timeout(patience / len(chosen)):
                await asyncio.get_running_loop().sock_connect(trying, address)
        except TimeoutError:
            result = replace(result, fault=Fault.CONNECT_TIMEOUT, detail=f"no answer within {patience:g} s")
        except OSError as error:
            fault = Fault.REFUSED if isinstance(error, ConnectionRefusedError) else Fault.UNREACHABLE
            result = replace(result, fault=fault, detail=_told(error))
        else:
            return replace(result, connected=_since(begun), fault=None, detail=""), trying
        trying.close()
    return result


async def _secure(result: Probe, reached: socket.socket, tls: ssl.SSLContext, patience: float) -> Probe:
    begun = monotonic()
    try:
        async with asyncio.timeout(patience):
            _reader, writer = await asyncio.open_connection(sock=reached, ssl=tls, server_hostname=result.host)
    except TimeoutError:
        return replace(result, fault=Fault.TLS_TIMEOUT, detail=f"no TLS answer within {patience:g} s")
    except ssl.SSLCertVerificationError as error:
        return replace(result, fault=Fault(_VERIFY.get(error.verify_code, "certificate")), detail=error.verify_message)
    except ssl.SSLError as error:
        return replace(result, fault=_tls_fault(error), detail=error.reason or _told(error))
    except OSError as error:
        return replace(result, fault=Fault.HUNG_UP, detail=_told(error))
    secured = _since(begun)
    try:
        return replace(result, secured=secured, handshake=_handshake(writer.get_extra_info("ssl_object")))
    finally:
        writer.transport.abort()


def _handshake(secure: ssl.SSLObject) -> Handshake:
    encoded = secure.getpeercert(binary_form=True)
    assert encoded is not None  # noqa: S101  - the context demands a certificate
    certificate = x509.load_der_x509_certificate(encoded)
    cipher = secure.cipher()
    return Handshake(
        version=secure.version() or "",
        cipher=cipher[0] if cipher else "",
        issuer=_name(certificate.issuer),
        not_after=certificate.not_valid_after_utc,
    )


def _name(name: x509.Name) -> str:
    common = name.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(common[0].value) if common else name.rfc4514_string()


def _tls_fault(error: ssl.SSLError) -> Fault:
    if error.reason in _PROTOCOL:
        return Fault.OLD_TLS
    if error.reason in _NOT_TLS:
        return Fault.NOT_TLS
    return Fault.HUNG_UP if isinstance(error, ssl.SSLEOFError) else Fault.TLS


def _since(begun: float) -> timedelta:
    return timedelta(seconds=monotonic() - begun)


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
