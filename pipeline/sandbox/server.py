"""The sandbox on a TLS port: MAS-ST, ASIC's gateway, two SBR2 gateways, and a control door only a sandbox has."""

import asyncio
import json
import signal
import socket
import ssl
import struct
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Self

import structlog
from aiohttp import web
from pydantic import ValidationError

from pipeline.protocol.xml import DOCUMENT_LIMIT
from pipeline.sandbox import book, sbr2
from pipeline.sandbox.answer import Answer
from pipeline.sandbox.asic import Gateway, unavailable
from pipeline.sandbox.asic_book import AsicBook
from pipeline.sandbox.asic_messages import SERVICES, asic_fault, wsdl
from pipeline.sandbox.commits import Commits
from pipeline.sandbox.home import Home, open_home
from pipeline.sandbox.sbr2 import Door
from pipeline.sandbox.sbr2_book import Sbr2Book
from pipeline.sandbox.scenarios import Delivery
from pipeline.sandbox.soap import Reply, fault
from pipeline.sandbox.sts import LEGACY_STS_PATH, STS_PATH, TokenService, scripted_fault
from pipeline.sandbox.sts_record import Record
from pipeline.sandbox.sts_script import Variant
from pipeline.sandbox.sts_wsdl import sts_wsdl
from pipeline.sandbox.trouble import ServiceName, Trouble, Weather

_STS_ROUTES = tuple(
    path.replace("service.svc", "{service:(?i:service)[.](?i:svc)}") for path in (STS_PATH, LEGACY_STS_PATH)
)
"""The service definition writes the file's name both ways (3.1 and 3.1.1)."""
_SHUTDOWN_SECONDS = 0.5
"""How long a stopping sandbox waits for replies that are slow on purpose."""
log = structlog.get_logger(__name__)


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Sandbox:
    """All services on one port; port 0 takes a free one. Use it as an asynchronous context manager."""

    def __init__(
        self,
        home: Home,
        *,
        host: str = "localhost",
        port: int = 0,
        variant: Variant = Variant.RECORDED,
        secret_bytes: int | None = None,
        clock: Callable[[], datetime] = _utc_now,
    ) -> None:
        self.home = home
        self._host = host
        self._port = port
        self._clock = clock
        self._sts = TokenService(home, variant, secret_bytes)
        self._commits = Commits(home.book_file, book.SCHEMA)
        self._gateway = Gateway(home, AsicBook(self._commits))
        self._sbr2 = sbr2.Sbr2Gateways(home, Sbr2Book(self._commits))
        self._asked = Record()
        self._weather: dict[ServiceName, Weather] = {}
        self.turned_away: Counter[ServiceName] = Counter()
        """How many requests met the scripted fault; no book has them."""
        self._running = AsyncExitStack()

    @property
    def url(self) -> str:
        """Scheme, host and port: the gateway's base address."""
        return f"https://{self._host}:{self._port}"

    def sbr2_url(self, gateway: str) -> str:
        """The base address of one of the SBR2 gateways."""
        return f"{self.url}/sbr2/{gateway}"

    @property
    def sts_url(self) -> str:
        """The token service, with its path."""
        return self.url + STS_PATH

    def script(self, trouble: Trouble) -> None:
        """Put one service in trouble, or out of it."""
        self._weather[trouble.service] = Weather(trouble, self._clock())

    async def __aenter__(self) -> Self:
        await self._running.enter_async_context(self._commits)
        application = web.Application(client_max_size=DOCUMENT_LIMIT)
        application.add_routes(
            [
                *(web.post(path, self._issue) for path in _STS_ROUTES),
                *(web.get(path, self._describe_sts) for path in _STS_ROUTES),
                web.post("/sbr2/{gateway}/services/{door}", self._message),
                web.get("/gateway/{port}", self._describe),
                web.post("/sandbox/script", self._set_trouble),
                web.get("/sandbox/book", self._show_book),
                web.get("/sandbox/sts", self._show_asked),
                web.get("/sandbox/health", self._health),
                web.post("/{anything:.*}", self._lodge),
            ]
        )
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=_SHUTDOWN_SECONDS)
        await runner.setup()
        self._running.push_async_callback(runner.cleanup)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(self.home.tls_file)
        listener = socket.create_server((self._host, self._port), backlog=1024)
        self._port = listener.getsockname()[1]
        await web.SockSite(runner, listener, ssl_context=context).start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._running.aclose()

    async def _issue(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        with self._asked.asking(body, self._clock()) as asked:
            struck = await self._struck("sts")
            reply = self._token_reply(body, request.path, struck=struck)
            if reply.status == 200:
                asked.issue(self._clock())
            return _response(reply)

    def _token_reply(self, body: bytes, path: str, *, struck: bool) -> Reply:
        now, weather = self._clock(), self._weather.get("sts")
        if weather is None:
            return self._sts.answer(body, path, now)
        trouble = weather.trouble
        if struck:
            back = None if trouble.available_in is None else now + timedelta(seconds=trouble.available_in)
            return scripted_fault(trouble.event, trouble.shape, trouble.status, now, back)
        return self._sts.answer(body, path, now, trouble.variant)

    async def _describe_sts(self, request: web.Request) -> web.Response:
        """The WSDL for whoever asks for it; a page, as from the real one, for who only looks whether it is there."""
        if _asks_for_wsdl(request):
            return web.Response(body=sts_wsdl(self.url + request.path), content_type="text/xml")
        return web.Response(text="<html><body>SYNTHETIC MAS-ST</body></html>", content_type="text/html")

    async def _lodge(self, request: web.Request) -> web.StreamResponse:
        try:
            body = await request.read()
        except web.HTTPRequestEntityTooLarge:
            return _response(fault(asic_fault("FAULT.TOOBIG", "Request size limit exceeded")))
        if await self._struck("asic"):
            return _response(fault(unavailable()))
        authorization = request.headers.get("Authorization")
        answer = await self._gateway.answer(body, request.path, authorization, self._clock())
        return await _deliver(request, answer)

    async def _message(self, request: web.Request) -> web.StreamResponse:
        gateway, path = request.match_info["gateway"], request.match_info["door"]
        if gateway not in sbr2.GATEWAYS or path not in set(Door):
            raise web.HTTPNotFound
        door = Door(path)
        body = await request.read()
        if door is Door.PUSH and await self._struck("sbr2-push"):
            return _response(sbr2.unavailable())
        closed = door is Door.PULL and await self._struck("sbr2-pull")
        content_type = request.headers.get("Content-Type", "")
        answer = await self._sbr2.answer(gateway, door, content_type, body, self._clock(), closed=closed)
        return await _deliver(request, answer)

    async def _struck(self, service: ServiceName) -> bool:
        weather = self._weather.get(service)
        if weather is None:
            return False
        await asyncio.sleep(weather.trouble.latency)
        struck = weather.strikes(self._clock())
        self.turned_away[service] += struck
        return struck

    async def _describe(self, request: web.Request) -> web.Response:
        service = next((one for one in SERVICES if one.path == request.path), None)
        if service is None or not _asks_for_wsdl(request):
            raise web.HTTPNotFound
        return web.Response(body=wsdl(service, self.url + service.path), content_type="text/xml")

    async def _set_trouble(self, request: web.Request) -> web.Response:
        try:
            self.script(Trouble.model_validate_json(await request.read()))
        except ValidationError as error:
            raise web.HTTPBadRequest(text=error.json(include_input=False, include_url=False)) from error
        return web.Response(status=204)

    async def _show_book(self, request: web.Request) -> web.Response:
        """JSON lines, all of them or those of one `reference`."""
        # In one look: a book that grows between two pages would show a line twice.
        lines = await book.lines(self.home.book_file, request.query.get("reference"))
        text = b"".join(json.dumps(asdict(line)).encode() + b"\n" for line in lines)
        return web.Response(body=text, content_type="application/jsonl")

    async def _show_asked(self, _request: web.Request) -> web.Response:
        """JSON lines: for whom tokens were asked, how often, and how many at a time."""
        text = b"".join(json.dumps(line).encode() + b"\n" for line in self._asked.lines())
        return web.Response(body=text, content_type="application/jsonl")

    async def _health(self, _request: web.Request) -> web.Response:
        return web.json_response({"status": "ok", "synthetic": True})


def _asks_for_wsdl(request: web.Request) -> bool:
    return "wsdl" in {name.casefold() for name in request.query}


def serve(home: Path, host: str, port: int, trouble: Trouble | None = None) -> None:
    """Run a sandbox, in `trouble` from the start, until SIGINT or SIGTERM. Blocks."""
    asyncio.run(_serve(home, host, port, trouble))


async def _serve(path: Path, host: str, port: int, trouble: Trouble | None) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with Sandbox(open_home(path, _utc_now()), host=host, port=port) as sandbox:
        if trouble is not None:
            sandbox.script(trouble)
        log.info("sandbox.started", url=sandbox.url, sts_url=sandbox.sts_url, home=str(path))
        await stop.wait()


def _response(reply: Reply) -> web.Response:
    return web.Response(status=reply.status, body=reply.body, headers={"Content-Type": reply.content_type})


async def _deliver(request: web.Request, answer: Answer) -> web.StreamResponse:
    """The reply as the script wants it to leave, or not to."""
    match answer.delivery:
        case Delivery.WHOLE:
            return _response(answer.reply)
        case Delivery.LATE:
            await asyncio.sleep(answer.seconds)
            return _response(answer.reply)
        case Delivery.HALF:
            response = web.StreamResponse(
                status=answer.reply.status, headers={"Content-Type": answer.reply.content_type}
            )
            response.content_length = len(answer.reply.body)
            await response.prepare(request)
            await response.write(answer.reply.body[: len(answer.reply.body) // 2])
            _close(request)
            return response
        case Delivery.LOST:
            _close(request)
        case Delivery.RESET:
            _reset(request)
    return web.Response()


def _close(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.close()


def _reset(request: web.Request) -> None:
    """Closing with a linger time of zero sends RST (socket(7))."""
    transport = request.transport
    if transport is not None:
        connection = transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
