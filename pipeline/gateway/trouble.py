"""How an exchange went wrong: the library's exceptions translated, once, into a failure with a stable code."""

import ssl
from dataclasses import dataclass
from typing import Final

from aiohttp import (
    ClientConnectorCertificateError,
    ClientConnectorDNSError,
    ClientConnectorError,
    ClientError,
    ClientResponseError,
    ClientSSLError,
    InvalidURL,
    SocketTimeoutError,
)

from pipeline.gateway.reply import ReplyError
from pipeline.gateway.wire import Wire
from pipeline.lodgment.failures import Blast, Failure, FailureClass, Party

_DETAIL_LIMIT: Final = 1000


@dataclass(frozen=True, slots=True)
class _Trouble:
    who: Party
    blast: Blast
    advice: str


_REFUSED: Final = {
    "transport.request": _Trouble(
        Party.OPERATOR,
        Blast.CHANNEL,
        "We built a request that must not be sent: its URL or a header is not allowed. "
        "Nothing was sent. Correct the channel's endpoint or headers, then release.",
    ),
}

_NOT_SENT: Final = {
    "transport.pool-timeout": _Trouble(
        Party.NOBODY,
        Blast.LODGMENT,
        "All our connections were busy for too long. Nothing was sent; it is tried again. "
        "If this goes on, the agency answers slowly or the connection limit is too low.",
    ),
    "transport.closed": _Trouble(
        Party.NOBODY,
        Blast.LODGMENT,
        "Our transport worker was stopping. Nothing was sent; it is tried again by the next worker.",
    ),
    "transport.resolve": _Trouble(
        Party.OPERATOR,
        Blast.CHANNEL,
        "The agency's host name could not be found. Nothing was sent; it is tried again. "
        "Check the host name in the environment's endpoints, then our DNS.",
    ),
    "transport.connect": _Trouble(
        Party.AGENCY,
        Blast.CHANNEL,
        "No connection to the agency could be made. Nothing was sent; it is tried again. "
        "Check the agency's status page and our firewall.",
    ),
    "transport.connect-timeout": _Trouble(
        Party.AGENCY,
        Blast.CHANNEL,
        "The agency did not answer our attempt to connect in time. Nothing was sent; it is tried again. "
        "Check the agency's status page and our firewall.",
    ),
    "transport.tls": _Trouble(
        Party.OPERATOR,
        Blast.CHANNEL,
        "No secure connection could be agreed: the server speaks no TLS, or none of version 1.2 or later, or hung up. "
        "Nothing was sent; it is tried again. Check host and port in the environment's endpoints.",
    ),
    "transport.certificate": _Trouble(
        Party.OPERATOR,
        Blast.CHANNEL,
        "The server's certificate is not to be trusted: expired, for another host, or not from a known authority. "
        "Nothing was sent; it is tried again. Check the endpoint and the authority file; never work around it.",
    ),
}

_ASK_AGAIN: Final = "It may or may not have been lodged; it is settled by sending it again under the same reference."

_UNKNOWN: Final = {
    "transport.write": _Trouble(
        Party.NOBODY, Blast.LODGMENT, f"The connection broke while we were sending. {_ASK_AGAIN}"
    ),
    "transport.unread": _Trouble(
        Party.OPERATOR,
        Blast.LODGMENT,
        "The rest of the document could not be read from the ledger while we were sending it: look at the ledger. "
        + _ASK_AGAIN,
    ),
    "transport.write-timeout": _Trouble(
        Party.NOBODY, Blast.LODGMENT, f"The server stopped taking our bytes while we were sending. {_ASK_AGAIN}"
    ),
    "transport.reset": _Trouble(
        Party.NOBODY, Blast.LODGMENT, f"The connection broke after we had sent it and before an answer. {_ASK_AGAIN}"
    ),
    "transport.read-timeout": _Trouble(
        Party.NOBODY, Blast.LODGMENT, f"We sent it and the agency fell silent. {_ASK_AGAIN}"
    ),
    "transport.timeout": _Trouble(
        Party.NOBODY, Blast.LODGMENT, f"The whole exchange took longer than we wait. {_ASK_AGAIN}"
    ),
    "transport.truncated": _Trouble(
        Party.NOBODY, Blast.LODGMENT, f"The answer broke off before its end, so it is not believed. {_ASK_AGAIN}"
    ),
    "transport.protocol": _Trouble(
        Party.AGENCY, Blast.LODGMENT, f"The answer is not HTTP. Is something between us and the agency? {_ASK_AGAIN}"
    ),
    "transport.encoding": _Trouble(
        Party.AGENCY, Blast.LODGMENT, f"The answer is compressed in a way that we cannot read. {_ASK_AGAIN}"
    ),
    "transport.reply-too-big": _Trouble(
        Party.AGENCY, Blast.LODGMENT, f"The answer is larger than we accept, and reading was stopped. {_ASK_AGAIN}"
    ),
}


def refused(reason: str) -> Failure:
    """The request breaks a rule of ours. `reason` names it."""
    return _failure(FailureClass.OUR_DOCUMENT, "transport.request", _REFUSED["transport.request"], reason)


def pool_exhausted(seconds: float) -> Failure:
    """No connection came free in time."""
    code = "transport.pool-timeout"
    return _failure(FailureClass.NOT_SENT, code, _NOT_SENT[code], f"no free connection within {seconds:g} s")


def gateway_closed() -> Failure:
    """This process is stopping."""
    code = "transport.closed"
    return _failure(FailureClass.NOT_SENT, code, _NOT_SENT[code], "the gateway is closed")


def classify(error: ClientError | OSError | ReplyError, wire: Wire, *, out_of_time: bool) -> Failure:
    """Nothing on the wire is "not sent"; everything else is "unknown". `out_of_time`: the total time-out ended it."""
    if isinstance(error, InvalidURL):
        return refused("the URL cannot be read")
    if wire.started_at is None:
        code = _code_before(error)
        return _failure(FailureClass.NOT_SENT, code, _NOT_SENT[code], _told(error))
    code = "transport.timeout" if out_of_time else _code_after(error, wire)
    head = "no reply" if wire.status is None else f"HTTP {wire.status}, {wire.received} bytes of its body"
    return _failure(FailureClass.UNKNOWN, code, _UNKNOWN[code], f"{head}; {_told(error)}")


def _code_before(error: ClientError | OSError | ReplyError) -> str:
    match error:
        case ClientConnectorDNSError():
            return "transport.resolve"
        case ClientConnectorCertificateError():
            return "transport.certificate"
        case ClientSSLError() | ssl.SSLError() | ClientConnectorError(os_error=ConnectionResetError()):
            return "transport.tls"  # TCP alone is refused, not reset: a reset here cut the handshake
        case TimeoutError():
            return "transport.connect-timeout"
        case _:
            return "transport.connect"


def _code_after(error: ClientError | OSError | ReplyError, wire: Wire) -> str:
    match error:
        case ReplyError():
            code = error.code
        case SocketTimeoutError():
            code = "transport.read-timeout"
        case ClientResponseError():
            code = "transport.protocol"
        case _ if wire.status is not None:
            code = "transport.truncated"
        case _ if wire.written:
            code = "transport.reset"
        case _ if wire.unread:
            code = "transport.unread"
        case TimeoutError():
            code = "transport.write-timeout"
        case _:
            code = "transport.write"
    return code


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _failure(kind: FailureClass, code: str, trouble: _Trouble, detail: str) -> Failure:
    return Failure(kind, code, detail[:_DETAIL_LIMIT], trouble.advice, trouble.who, trouble.blast)
