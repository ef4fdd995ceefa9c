"""A second, naive client that talks to a sandbox: right unless it is told otherwise."""

import io
import ssl
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

import aiohttp
from lxml import etree

from pipeline.protocol.credential import Credential
from pipeline.sandbox.asic_messages import Service
from pipeline.sandbox.server import Sandbox
from tests.doubles.sandbox_messages import (
    Answer,
    Token,
    read_token,
    request,
    rsa_key,
    seal,
    sign,
    token_request,
    unsealed,
)


class SandboxClient:
    """Talks to one sandbox with one credential. Use it as an asynchronous context manager."""

    def __init__(self, sandbox: Sandbox, credential: Credential) -> None:
        self.sandbox = sandbox
        self.credential = credential
        self._tls = ssl.create_default_context(cafile=str(sandbox.home.ca_file))

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=self._tls))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def post(self, path: str, body: bytes, **headers: str) -> Answer:
        sent = {"Content-Type": "application/soap+xml; charset=utf-8", **headers}
        async with self._session.post(self.sandbox.url + path, data=io.BytesIO(body), headers=sent) as response:
            return Answer(response.status, await response.read())

    async def get(self, path: str) -> Answer:
        async with self._session.get(self.sandbox.url + path) as response:
            return Answer(response.status, await response.read())

    def token_request(self, now: datetime | None = None) -> etree._Element:
        """An unsigned request for a token."""
        moment = now or datetime.now(UTC)
        home = self.sandbox.home
        return token_request(self.credential.certificate_der, self.sandbox.sts_url, home.applies_to, moment)

    async def ask(self, root: etree._Element) -> Answer:
        """Sign a token request as it should be, and send it."""
        sign(root, rsa_key(self.credential.private_key), ("stamp", "to"), signature_id="signature")
        return await self.post("/R3.0/S007v1.3/service.svc", etree.tostring(root))

    async def token(self) -> Token:
        answer = await self.ask(self.token_request())
        assert answer.status == 200, answer.reason
        return read_token(answer)

    def message(self, service: Service, body: Sequence[etree._Element], reference: str | None = None) -> etree._Element:
        """A request to the gateway, under a fresh reference unless one is given."""
        return request(service, body, datetime.now(UTC), reference or str(uuid.uuid4()))

    async def lodge(self, service: Service, message: etree._Element, token: Token) -> Answer:
        """Seal a message as it should be, and send it."""
        root = unsealed(message, token, self.credential.certificate_der)
        return await self.post(service.path, seal(root, token, self.credential.private_key))
