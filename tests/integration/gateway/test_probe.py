"""How far one gets towards a server: real sockets, and nothing of ours on them but the handshake."""

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from pipeline.gateway.client import TlsSettings, tls_context
from pipeline.gateway.probe import Fault, probe
from tests.doubles.private_ca import PrivateCa
from tests.doubles.toxic_server import Conversation, ToxicServer, answer_everything, never_end

SOON = 1.5
PATIENT = 20.0


@pytest.fixture
def trusting(ca: PrivateCa) -> ssl.SSLContext:
    return tls_context(TlsSettings(ca.ca_file))


@pytest.fixture
def black_hole() -> Iterator[int]:
    """A port whose queue of connections is full, so that the kernel drops every further one, as a firewall does."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port: int = listener.getsockname()[1]
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                waiting.connect(("127.0.0.1", port))
        yield port


async def test_a_sound_server_is_reached_step_by_step_and_sees_no_request(
    ca: PrivateCa, trusting: ssl.SSLContext
) -> None:
    async with ToxicServer(answer_everything, ca.server()) as server:
        found = await probe("localhost", server.port, trusting, PATIENT)
    assert server.requests == []
    assert found.well
    assert found.address == "127.0.0.1"
    assert None not in {found.resolved, found.connected, found.secured}
    assert found.handshake is not None
    assert found.handshake.version == "TLSv1.3"
    assert found.handshake.issuer == "Synthetic test authority"
    assert timedelta(0) < found.handshake.not_after - datetime.now(UTC) <= timedelta(days=1)


async def test_a_server_that_stops_at_tls_1_2_is_told_as_such(ca: PrivateCa, trusting: ssl.SSLContext) -> None:
    identity = ca.server()
    identity.maximum_version = ssl.TLSVersion.TLSv1_2
    async with ToxicServer(answer_everything, identity) as server:
        found = await probe("localhost", server.port, trusting, PATIENT)
    assert found.handshake is not None
    assert found.handshake.version == "TLSv1.2"


async def test_each_unsound_identity_is_told_apart(ca: PrivateCa, trusting: ssl.SSLContext) -> None:
    wrong = {
        Fault.EXPIRED: ca.server(ended=timedelta(hours=1)),
        Fault.WRONG_HOST: ca.server("elsewhere.example"),
        Fault.SELF_SIGNED: ca.self_signed(),
    }
    for fault, identity in wrong.items():
        async with ToxicServer(answer_everything, identity) as server:
            found = await probe("localhost", server.port, trusting, PATIENT)
        assert found.fault is fault, found
        assert found.reached
        assert found.secured is None
        assert server.requests == []


async def test_a_server_that_offers_tls_1_1_at_most_is_told(ca: PrivateCa, trusting: ssl.SSLContext) -> None:
    identity = ca.server_up_to_tls_1_1()

    def refuse() -> None:
        # A blocking socket: asyncio's server drops the alert with which TLS refuses a version.
        connection, _ = listener.accept()
        with contextlib.closing(connection), contextlib.suppress(ssl.SSLError):
            identity.wrap_socket(connection, server_side=True)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        found, _ = await asyncio.gather(
            probe("localhost", listener.getsockname()[1], trusting, PATIENT), asyncio.to_thread(refuse)
        )
    assert found.fault is Fault.OLD_TLS, found
    assert found.reached


async def test_an_authority_that_is_not_trusted_is_told(ca: PrivateCa) -> None:
    async with ToxicServer(answer_everything, ca.server()) as server:
        found = await probe("localhost", server.port, tls_context(TlsSettings()), PATIENT)
    assert found.fault is Fault.UNKNOWN_ISSUER


async def test_a_port_that_speaks_plain_http_is_told(trusting: ssl.SSLContext) -> None:
    async def plain(conversation: Conversation) -> None:
        await conversation.reader.read(1)
        await conversation.send(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

    async with ToxicServer(plain, None) as server:
        found = await probe("localhost", server.port, trusting, PATIENT)
    assert found.fault is Fault.NOT_TLS


async def test_a_port_that_hangs_up_is_told(trusting: ssl.SSLContext) -> None:
    async def hang_up(conversation: Conversation) -> None:
        await conversation.reader.read(1)
        conversation.reset()

    async with ToxicServer(hang_up, None) as server:
        found = await probe("localhost", server.port, trusting, PATIENT)
    assert found.fault is Fault.HUNG_UP


async def test_a_port_that_is_open_and_silent_is_given_up(trusting: ssl.SSLContext) -> None:
    async with ToxicServer(never_end, None) as server:
        found = await probe("localhost", server.port, trusting, SOON)
    assert found.reached
    assert found.fault is Fault.TLS_TIMEOUT


async def test_a_closed_port_is_refused_and_not_waited_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    found = await probe("127.0.0.1", port, None, PATIENT)
    assert found.fault is Fault.REFUSED
    assert found.resolved is not None
    assert not found.reached


async def test_a_firewall_that_drops_is_given_up_in_time(black_hole: int) -> None:
    async with asyncio.timeout(PATIENT):
        found = await probe("127.0.0.1", black_hole, None, SOON)
    assert found.fault is Fault.CONNECT_TIMEOUT
    assert not found.reached


async def test_a_port_without_tls_is_only_connected_to(ca: PrivateCa) -> None:
    async with ToxicServer(answer_everything, ca.server()) as server:
        found = await probe("localhost", server.port, None, PATIENT)
    assert found.well
    assert found.reached
    assert found.handshake is None


@pytest.mark.parametrize("name", ["agency.invalid", f"{'a' * 64}.example", "bad name"])
async def test_a_name_that_nobody_has_is_told(name: str) -> None:
    found = await probe(name, 443, None, PATIENT)
    assert found.fault is Fault.NAME
    assert found.resolved is None


async def test_a_resolver_that_never_answers_is_given_up_and_holds_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    answered = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answered.wait(PATIENT) and [])
    found = await probe("agency.example", 443, None, SOON)
    assert found.fault is Fault.NAME_TIMEOUT
    looking = [thread for thread in threading.enumerate() if thread.name == "probe-name"]
    assert looking
    assert all(thread.daemon for thread in looking)
    answered.set()
    for thread in looking:
        thread.join(PATIENT)
