"""Conversations with the agencies for diagnosis: the pipeline's own messages, outside of any lodgment."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Generic, TypeVar

from pipeline.channels import mas_st
from pipeline.channels.asic_bn import AsicBusinessNames
from pipeline.channels.asic_header import RequestFacts
from pipeline.channels.asic_profile import AsicProfile, TokenTerms
from pipeline.channels.asic_replies import PingReply
from pipeline.gateway.client import Gateway, TlsSettings
from pipeline.gateway.exchange import Exchange, Request
from pipeline.interfaces.cli.session import now
from pipeline.lodgment.errors import RefusedError
from pipeline.lodgment.failures import Failure, FailureClass, Party
from pipeline.lodgment.references import uuid7
from pipeline.profiles import asic_profile, sts_profile, timeouts
from pipeline.protocol.credential import Credential
from pipeline.protocol.wstrust import SecurityToken
from pipeline.settings import EnvironmentSettings, Settings

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Sender:
    """Who a ping is from, as the agency knows them."""

    id: str
    type: str


@dataclass(frozen=True, slots=True)
class Heard(Generic[Answer]):
    """What came back, how long it took, and how far the other side's clock is ahead where that was measured."""

    answer: Answer | Failure
    took: timedelta
    skew: timedelta = timedelta(0)


class Agencies:
    """The agency and its token service, one conversation at a time."""

    def __init__(self, environment: EnvironmentSettings, profile: AsicProfile, gateway: Gateway) -> None:
        self._environment = environment
        self._profile = profile
        self._gateway = gateway
        self._channel = AsicBusinessNames(profile)

    @property
    def wsdl_url(self) -> str:
        return self._channel.connectivity_url()

    async def wsdl(self) -> Heard[int]:
        """Ask for the description of the ping service; the HTTP status. No authentication is sent (WIG 6.2)."""
        return await self.get(self.wsdl_url)

    async def get(self, url: str) -> Heard[int]:
        """A GET of `url`: any answer shows that name, route, port and TLS are right."""
        exchange = await self._gateway.exchange(Request(url, (), (), method="GET"))
        return Heard(exchange.failure or exchange.status or 0, _took(exchange), _skew(exchange))

    async def token(self, credential: Credential, skew: timedelta) -> Heard[SecurityToken]:
        """A token on the pipeline's own terms; `skew` is how far the other side's clock is ahead."""
        terms = self._profile.authentication
        assert isinstance(terms, TokenTerms)  # noqa: S101  - only such environments have credentials
        key = terms.key(self._profile.environment, credential.id)
        nonce = uuid7(now(), os.urandom(10))
        try:
            asked = mas_st.request(
                sts_profile(self._environment), credential, key, f"urn:uuid:{nonce}", now(), nonce.hex, skew
            )
        except RefusedError as error:
            return Heard(_refused(error), timedelta(0))
        exchange = await self._gateway.exchange(Request(asked.url, (asked.body,), asked.headers))
        if exchange.failure is not None:
            return Heard(exchange.failure, _took(exchange))
        answer = mas_st.read_reply(asked, exchange.status or 0, exchange.body or b"", now())
        return Heard(answer, _took(exchange))

    async def ping(
        self, sender: Sender, credential: Credential | None, token: SecurityToken | None
    ) -> Heard[PingReply]:
        """A ping, authenticated like any lodgment (WIG 6.3), and its echo."""
        nonce = uuid7(now(), os.urandom(10))
        facts = RequestFacts(str(nonce), sender.id, sender.type, now())
        try:
            sealed = self._channel.ping(facts, credential, token, nonce.hex)
        except RefusedError as error:
            return Heard(_refused(error), timedelta(0))
        exchange = await self._gateway.exchange(Request(sealed.url, (sealed.body,), sealed.headers))
        if exchange.failure is not None:
            return Heard(exchange.failure, _took(exchange))
        answer = self._channel.read_ping_reply(
            exchange.status or 0, exchange.content_type, exchange.body or b"", facts.reference
        )
        return Heard(answer, _took(exchange))


@asynccontextmanager
async def agencies(
    settings: Settings, environment: EnvironmentSettings, patience: timedelta
) -> AsyncIterator[Agencies]:
    """The agencies of one environment, each conversation within `patience`.

    Raises:
        ConfigurationError: the trusted authorities or the password cannot be read.
    """
    profile = asic_profile(settings, environment)
    async with Gateway(TlsSettings(environment.ca_file), timeouts(patience), now) as gateway:
        yield Agencies(environment, profile, gateway)


def _took(exchange: Exchange) -> timedelta:
    return exchange.finished_at - exchange.started_at


def _skew(exchange: Exchange) -> timedelta:
    if exchange.server_date is None:
        return timedelta(0)
    return mas_st.clock_skew(exchange.server_date, exchange.started_at, exchange.finished_at)


def _refused(error: RefusedError) -> Failure:
    return Failure(FailureClass.OUR_DOCUMENT, error.code, str(error), "This cannot even be asked.", Party.OPERATOR)
