"""The sandbox as a process of its own, to be killed."""

import asyncio
import os
import signal
import socket
import ssl
import subprocess
import sys

import aiohttp

from pipeline.sandbox.home import Home
from pipeline.sandbox.server import Sandbox


class SandboxProcess:
    """A sandbox in a process of its own, on one port for all its lives."""

    def __init__(self, home: Home) -> None:
        with socket.create_server(("localhost", 0)) as free:
            self.port = free.getsockname()[1]
        self.address = Sandbox(home, port=self.port)
        self._home = home
        self._process: subprocess.Popen[bytes] | None = None

    def launch(self) -> None:
        code = "import sys; from pathlib import Path; from pipeline.sandbox.server import serve; "
        code += "serve(Path(sys.argv[1]), 'localhost', int(sys.argv[2]))"
        self._process = subprocess.Popen([sys.executable, "-c", code, str(self._home.path), str(self.port)])

    async def start(self) -> None:
        """Launch it and wait until it answers."""
        self.launch()
        tls = ssl.create_default_context(cafile=str(self._home.ca_file))
        deadline = asyncio.get_running_loop().time() + 30
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=tls)) as session:
            while True:
                try:
                    async with session.get(f"{self.address.url}/sandbox/health") as answer:
                        assert (await answer.json())["synthetic"] is True
                        return
                except aiohttp.ClientConnectorError:
                    assert asyncio.get_running_loop().time() < deadline
                    await asyncio.sleep(0.05)

    def end(self, number: signal.Signals) -> int:
        assert self._process is not None
        os.kill(self._process.pid, number)
        return self._process.wait(timeout=30)

    def close(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self.end(signal.SIGKILL)
