"""A TCP proxy on the way to a real server, which can cut, freeze and refuse connections."""

import asyncio
import contextlib
import ssl
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit


class TcpProxy:
    """Forwards to `port` on this machine. With `tls` it is the server's end of TLS, for a server that speaks none."""

    def __init__(self, port: int, tls: ssl.SSLContext | None = None) -> None:
        self._target = port
        self._tls = tls
        self._server: asyncio.Server | None = None
        self._pumps: set[asyncio.Task[None]] = set()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self.port = 0
        self._accepted = asyncio.Semaphore(0)

    async def __aenter__(self) -> Self:
        await self.listen()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.refuse()
        self.thaw()
        await self.cut()

    def on_the_way_to(self, url: str) -> str:
        """The URL of a broker, by way of this proxy."""
        parts = urlsplit(url)
        scheme, host = ("amqp", "127.0.0.1") if self._tls is None else ("amqps", "localhost")
        return f"{scheme}://{parts.username}:{parts.password}@{host}:{self.port}{parts.path}"

    async def listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]

    async def refuse(self) -> None:
        """No new connections; those that are open stay."""
        if self._server is not None:
            self._server.close()
            self._server = None

    async def cut(self) -> None:
        """End every connection, as a network does: without a word of the protocol."""
        for pump in self._pumps:
            pump.cancel()
        if self._pumps:
            await asyncio.wait(self._pumps)

    def freeze(self) -> None:
        """Hold back both directions while the sockets stay open."""
        self._flowing.clear()

    def thaw(self) -> None:
        self._flowing.set()

    async def accept_more(self, count: int) -> None:
        """Wait for so many connections more than there were until now."""
        while not self._accepted.locked():
            await self._accepted.acquire()
        for _ in range(count):
            await self._accepted.acquire()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._accepted.release()
        pump = asyncio.current_task()
        if pump is not None:
            self._pumps.add(pump)
            pump.add_done_callback(self._pumps.discard)
        # Python 3.11 reports a cancelled connection handler as an error of the loop, and a cut is none.
        with contextlib.suppress(asyncio.CancelledError):
            onward, back = await asyncio.open_connection("127.0.0.1", self._target)
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pump(reader, back))
                both.create_task(self._pump(onward, writer))

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(ConnectionError):
                while chunk := await reader.read(65536):
                    await self._flowing.wait()
                    writer.write(chunk)
                    await writer.drain()
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
