"""The agency that both contestants lodge with: it answers every POST at once and counts the references it saw.

Beside it, in the same process, the sandbox's token service, which is asked once a round. Run as
`python -m benchmarks.agency HOME`, it says on its first line where both listen.
"""

import asyncio
import json
import signal
import socket
import ssl
import sys
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import uvloop
from aiohttp import web

from pipeline.protocol.namespaces import Ns
from pipeline.protocol.xml import DOCUMENT_LIMIT
from pipeline.sandbox.home import Home, open_home
from pipeline.sandbox.server import Sandbox

_REPLY = (
    f'<s:Envelope xmlns:s="{Ns.SOAP}"><s:Body><reply xmlns="uri:benchmark">'
    f'<businessDocumentHeader xmlns="{Ns.ASIC_HEADER}"><messageReferenceNumber>%s</messageReferenceNumber>'
    "<messageEvents><messageEvent><errorCode>00000</errorCode><serverityCode>Information</serverityCode>"
    "<description>ok</description></messageEvent></messageEvents><result><accepted>true</accepted></result>"
    "</businessDocumentHeader></reply></s:Body></s:Envelope>"
)
_BEFORE = b"messageReferenceNumber>"


class Agency:
    """Knows how often it saw each reference; `GET /seen` tells and forgets."""

    def __init__(self) -> None:
        self._seen: Counter[str] = Counter()

    async def lodge(self, request: web.Request) -> web.Response:
        body = await request.read()
        start = body.find(_BEFORE) + len(_BEFORE)
        reference = body[start : body.index(b"<", start)].decode()
        self._seen[reference] += 1
        return web.Response(text=_REPLY % reference, content_type="application/soap+xml")

    async def seen(self, _: web.Request) -> web.Response:
        answer = {"requests": self._seen.total(), "references": len(self._seen)}
        self._seen.clear()
        return web.json_response(answer)


async def _serve(home: Home) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    agency = Agency()
    application = web.Application(client_max_size=DOCUMENT_LIMIT)
    application.add_routes([web.get("/seen", agency.seen), web.post("/{path:.*}", agency.lodge)])
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(home.tls_file)
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    await web.SockSite(runner, listener, ssl_context=context).start()
    async with Sandbox(home, host="127.0.0.1") as sandbox:
        url = f"https://127.0.0.1:{listener.getsockname()[1]}"
        print(json.dumps({"agency": url, "sts": sandbox.sts_url}), flush=True)
        await stop.wait()
    await runner.cleanup()


if __name__ == "__main__":
    uvloop.run(_serve(open_home(Path(sys.argv[1]), datetime.now(UTC))))
