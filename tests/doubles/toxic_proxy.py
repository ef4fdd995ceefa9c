"""A TCP proxy that hurts what passes through it: slows, cuts or swallows bytes in either direction at an exact byte."""

import asyncio
import contextlib
from dataclasses import dataclass
from enum import Enum, auto
from types import TracebackType
from typing import Self

from tests.doubles.toxic_server import reset

_CHUNK = 64 * 1024


class Way(Enum):
    """A direction through the proxy."""

    TO_SERVER = auto()
    TO_CLIENT = auto()


class Harm(Enum):
    """What happens at the place."""

    RESET = auto()
    """Both connections are reset."""
    CLOSE = auto()
    """Both connections are closed in order, after what already passed."""
    SWALLOW = auto()
    """Bytes from there on vanish; the connections stay open."""


@dataclass(frozen=True, slots=True)
class Toxic:
    """`after` bytes have passed in this direction on this connection, `harm` strikes: 0 is before the first byte.

    The bytes are TCP's, so TLS handshake and records count. `delay` seconds go by before each chunk that passes.
    """

    way: Way
    harm: Harm | None = None
    after: int = 0
    delay: float = 0


class ToxicProxy:
    """Stands before `target` on a free port. Set `toxics` at any time; they hold for open connections too.

    `passed` counts the bytes that went through in each direction, over all connections.
    """

    def __init__(self, target_port: int, target_host: str = "127.0.0.1") -> None:
        self.toxics: tuple[Toxic, ...] = ()
        self.passed = {Way.TO_SERVER: 0, Way.TO_CLIENT: 0}
        self.accepted = 0
        self._target = (target_host, target_port)
        self._connections: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, backlog=1000)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.close()
        await self.drop_everything()

    async def drop_everything(self) -> None:
        """Cut all open connections, as a failing network would."""
        for connection in tuple(self._connections):
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        task = asyncio.create_task(self._carry(reader, writer))
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def _carry(self, from_client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        ends = [to_client]
        try:
            with contextlib.suppress(ConnectionError):
                from_server, to_server = await asyncio.open_connection(*self._target)
                ends.append(to_server)
                there = asyncio.create_task(self._pump(from_client, to_server, Way.TO_SERVER))
                back = asyncio.create_task(self._pump(from_server, to_client, Way.TO_CLIENT))
                await self._until_one_ends(there, back)
                for end in ends:
                    end.close()
                    await end.wait_closed()
        except _ResetError:
            for end in ends:
                reset(end)
        finally:
            for end in ends:
                end.transport.abort()

    @staticmethod
    async def _until_one_ends(*pumps: asyncio.Task[None]) -> None:
        try:
            done, _ = await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
        for pump in done:
            pump.result()

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, way: Way) -> None:
        passed = 0
        while True:
            chunk = await source.read(_CHUNK)
            toxics = [toxic for toxic in self.toxics if toxic.way is way]
            await asyncio.sleep(sum(toxic.delay for toxic in toxics))
            strikes = [toxic for toxic in toxics if toxic.harm and toxic.after <= passed + len(chunk)]
            healthy = chunk[: max(0, min(toxic.after for toxic in strikes) - passed)] if strikes else chunk
            # Counted first: whoever has received it may ask at once how much has passed.
            passed += len(healthy)
            self.passed[way] += len(healthy)
            sink.write(healthy)
            await sink.drain()
            if not chunk or any(toxic.harm is Harm.CLOSE for toxic in strikes):
                return
            if any(toxic.harm is Harm.RESET for toxic in strikes):
                raise _ResetError


class _ResetError(Exception):
    """A toxic strikes."""
