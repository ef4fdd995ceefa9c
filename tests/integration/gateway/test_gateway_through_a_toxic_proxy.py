"""The network fails between a sound gateway and a sound agency, in one direction, at a chosen byte."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from pipeline.gateway.client import Gateway, Timeouts
from pipeline.gateway.exchange import Request
from tests.doubles.private_ca import PrivateCa
from tests.doubles.toxic_proxy import Harm, Toxic, ToxicProxy, Way
from tests.doubles.toxic_server import ToxicServer, answer_everything
from tests.integration.gateway.meeting import PATIENT, new_gateway


@asynccontextmanager
async def network(
    ca: PrivateCa, timeouts: Timeouts = PATIENT
) -> AsyncIterator[tuple[Gateway, ToxicProxy, ToxicServer, Request]]:
    async with (
        ToxicServer(answer_everything, ca.server()) as server,
        ToxicProxy(server.port) as proxy,
        new_gateway(ca.ca_file, timeouts) as gateway,
    ):
        yield gateway, proxy, server, Request(f"https://localhost:{proxy.port}/", (b"x" * 1_000_000,), ())


async def test_carries_everything_when_nothing_is_wrong(ca: PrivateCa) -> None:
    async with network(ca) as (gateway, proxy, server, request):
        exchange = await gateway.exchange(request)
    assert exchange.body == b"ok"
    assert len(server.requests[0].body) == 1_000_000
    assert proxy.passed[Way.TO_SERVER] > 1_000_000


@pytest.mark.parametrize("way", list(Way))
@pytest.mark.parametrize("harm", [Harm.RESET, Harm.CLOSE])
async def test_cut_before_the_first_byte_is_not_sent(ca: PrivateCa, way: Way, harm: Harm) -> None:
    async with network(ca) as (gateway, proxy, server, request):
        proxy.toxics = (Toxic(way, harm),)
        exchange = await gateway.exchange(request)
    assert exchange.failure is not None
    assert (exchange.failure.kind, exchange.wire_started_at) == ("not_sent", None)
    assert server.requests == []


@pytest.mark.parametrize("harm", [Harm.RESET, Harm.CLOSE])
async def test_cut_in_the_middle_of_the_request_is_unknown(ca: PrivateCa, harm: Harm) -> None:
    async with network(ca) as (gateway, proxy, server, request):
        proxy.toxics = (Toxic(Way.TO_SERVER, harm, after=500_000),)
        exchange = await gateway.exchange(request)
    assert exchange.failure is not None
    assert exchange.failure.kind == "unknown"
    assert exchange.wire_started_at is not None
    assert server.requests == []


@pytest.mark.parametrize("harm", [Harm.RESET, Harm.CLOSE])
async def test_cut_of_the_reply_is_unknown_although_the_agency_has_it(ca: PrivateCa, harm: Harm) -> None:
    async with network(ca) as (gateway, proxy, server, request):
        await gateway.exchange(request)
        proxy.toxics = (Toxic(Way.TO_CLIENT, harm, after=proxy.passed[Way.TO_CLIENT] + 10),)
        exchange = await gateway.exchange(request)
    assert exchange.failure is not None
    assert exchange.failure.kind == "unknown"
    assert len(server.requests) == 2


async def test_swallowed_reply_is_unknown_although_the_agency_has_it(ca: PrivateCa) -> None:
    timeouts = Timeouts(pool=60, connect=60, write=60, read=0.5, total=60)
    async with network(ca, timeouts) as (gateway, proxy, server, request):
        await gateway.exchange(request)
        proxy.toxics = (Toxic(Way.TO_CLIENT, Harm.SWALLOW, after=proxy.passed[Way.TO_CLIENT]),)
        exchange = await gateway.exchange(request)
    assert exchange.failure is not None
    assert (exchange.failure.kind, exchange.failure.code) == ("unknown", "transport.read-timeout")
    assert len(server.requests) == 2


async def test_slow_network_is_only_slow(ca: PrivateCa) -> None:
    async with network(ca) as (gateway, proxy, _server, request):
        proxy.toxics = (Toxic(Way.TO_SERVER, delay=0.01), Toxic(Way.TO_CLIENT, delay=0.01))
        exchange = await gateway.exchange(request)
    assert exchange.body == b"ok"


async def test_dropped_connections_are_replaced(ca: PrivateCa) -> None:
    async with network(ca) as (gateway, proxy, server, request):
        await gateway.exchange(request)
        await proxy.drop_everything()
        exchanges = [await gateway.exchange(request) for _ in range(2)]
    assert exchanges[-1].body == b"ok"
    assert proxy.accepted == 2
    assert len(server.requests) in {2, 3}
