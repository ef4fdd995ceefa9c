"""kombu connections for synchronous programs, with a bound on every wait."""

import ssl
from collections.abc import Sequence

from amqp import exceptions
from kombu.connection import Connection

from pipeline.broker.urls import parts_of
from pipeline.lodgment.errors import ConfigurationError, DependencyDownError

LOST = (exceptions.AMQPError, OSError)
"""Whatever py-amqp raises when a connection or channel is no more; an answer that takes too long among it."""


def connect(
    urls: Sequence[str],
    *,
    connect_timeout: float,
    answer_timeout: float,
    ca_file: str | None = None,
    heartbeat: int = 0,
) -> Connection:
    """A connection to the first broker that answers.

    Raises:
        DependencyDownError: none could be reached.
        ConfigurationError: a URL is none, or a broker refuses this user, password or virtual host.
    """
    if not urls:
        raise ConfigurationError("broker.url", "no broker URL is set")
    failures: list[str] = []
    for url in urls:
        connection = Connection(
            url,
            ssl=_tls(url, ca_file),
            connect_timeout=connect_timeout,
            heartbeat=heartbeat,
            login_method="PLAIN",
            transport_options={"write_timeout": answer_timeout},
        )
        try:
            connection.ensure_connection(max_retries=0, reraise_as_library_errors=False)
        except (exceptions.AccessRefused, exceptions.NotAllowed) as error:
            connection.release()
            raise ConfigurationError(
                "broker.access", f"{_name(url)} refuses this user, password or virtual host ({error.reply_text})"
            ) from error
        except LOST as error:
            connection.release()
            failures.append(f"{_name(url)} cannot be reached: {error}")
        else:
            # py-amqp goes back to a socket without time limit once it is connected.
            connection.connection.sock.settimeout(answer_timeout)
            return connection
    raise DependencyDownError("broker.down", "; ".join(failures))


def abandon(connection: Connection) -> None:
    """Leave without goodbye: for a peer that may not answer, and for a connection inherited from another process."""
    if connection.connected:
        transport = connection.connection.transport
        # Closed here, because py-amqp shuts the stream down first, and of an inherited one only our copy may end.
        transport.sock.close()
        transport.sock = None
    connection.collect()


def _tls(url: str, ca_file: str | None) -> dict[str, object] | None:
    """TLS as it must be; kombu's default for amqps checks nothing."""
    parts = parts_of(url)
    if parts.scheme == "amqp":
        return None
    return {
        "cert_reqs": ssl.CERT_REQUIRED,
        "ca_certs": ca_file,
        "server_hostname": parts.hostname,
        "tls_minimum_version": ssl.TLSVersion.TLSv1_2,
    }


def _name(url: str) -> str:
    parts = parts_of(url)
    return f"{parts.hostname}:{parts.port or 'default port'}{parts.path}"
