"""Our conversation with a token service, over TLS: fresh requests, skewed clocks, scripted trouble, what is counted."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from lxml import etree
from structlog.testing import capture_logs

from pipeline.channels.mas_st import CLAIMS, StsProfile
from pipeline.gateway.client import Gateway, Timeouts, TlsSettings
from pipeline.gateway.exchange import Exchange, Request
from pipeline.ledger.session import Ledger
from pipeline.ledger.vault import Vault
from pipeline.lodgment.failures import Failure, FailureClass
from pipeline.lodgment.references import Ids, TokenKey
from pipeline.protocol.credential import Credential
from pipeline.protocol.suites import V1_2_LEGACY
from pipeline.protocol.wstrust import RelationshipId, SecurityToken
from pipeline.sandbox.home import Home
from pipeline.sandbox.server import Sandbox
from pipeline.sandbox.sts import LEGACY_STS_PATH
from pipeline.sandbox.sts_script import Event, FaultShape
from pipeline.sandbox.trouble import Trouble
from pipeline.stages.contract import Context, Timing
from pipeline.stages.token_service import TokenService
from tests.doubles.request_heads import head_of
from tests.doubles.sandbox_messages import WSA, WSU, WSU_ID

Clock = Callable[[], datetime]


class Wiretap:
    """Carries requests over real connections and remembers what was sent."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self.sent: list[etree._Element] = []

    async def exchange(self, request: Request) -> Exchange:
        self.sent.append(etree.fromstring(head_of(request)))
        return await self._gateway.exchange(request)


class Talk:
    """A token service of ours, talking to a sandbox."""

    def __init__(self, service: TokenService, context: Context, wire: Wiretap, key: TokenKey) -> None:
        self.service, self.context, self.wire, self.key = service, context, wire, key

    async def ask(self) -> SecurityToken | Failure:
        return await self.service.ask(self.key)

    def metric(self, name: str, **labels: str) -> float | None:
        return self.context.metrics.registry.get_sample_value(name, labels)


Talking = Callable[..., AbstractAsyncContextManager[Talk]]


class OneCredential:
    def __init__(self, credential: Credential) -> None:
        self._credential = credential

    def get(self, _credential_id: str) -> Credential:
        return self._credential


@pytest.fixture
def talking(home: Home, credential: Credential, tmp_path: Path) -> Talking:
    @asynccontextmanager
    async def talk(
        sandbox: Sandbox, ours: Clock = lambda: datetime.now(UTC), profile: StsProfile | None = None, path: str = ""
    ) -> AsyncIterator[Talk]:
        ledger = Ledger(f"sqlite:///{tmp_path / 'unused.db'}", Vault([b"synthetic master key, 32 bytes!!"]))
        context = Context(ledger, {}, "sandbox", ours, Timing(), "worker-1", Ids())
        gateway = Gateway(TlsSettings(home.ca_file), Timeouts(), ours, pool_size=300)
        wire = Wiretap(gateway)
        url = sandbox.url + path if path else sandbox.sts_url
        key = TokenKey("sandbox", url, home.applies_to, credential.id, None, None, CLAIMS, 512)
        service = TokenService(context, profile or StsProfile(), OneCredential(credential), wire)
        try:
            yield Talk(service, context, wire, key)
        finally:
            await gateway.close()
            await ledger.close()

    return talk


@pytest.mark.parametrize("minutes", [-10, 10])
async def test_a_clock_that_is_off_is_told_made_up_for_and_shown(home: Home, talking: Talking, minutes: int) -> None:
    def theirs() -> datetime:
        return datetime.now(UTC) + timedelta(minutes=minutes)

    with capture_logs() as logs:
        async with Sandbox(home, clock=theirs) as sandbox, talking(sandbox) as talk:
            assert isinstance(await talk.ask(), SecurityToken)
            assert len(talk.wire.sent) == 2
            assert isinstance(await talk.ask(), SecurityToken)
            assert len(talk.wire.sent) == 3
            shown = talk.metric("lodge_sts_clock_skew_seconds")
    assert shown is not None
    assert abs(shown - minutes * 60) < 30
    told = [entry["seconds"] for entry in logs if entry["event"] == "sts.clock_skew"]
    assert len(told) == 1
    # The HTTP Date of this sandbox is right: only the Timestamp in its replies tells that its clock is not.
    assert abs(told[0] - minutes * 60) < 30


async def test_a_clock_that_is_absurdly_off_is_not_made_up_for(home: Home, talking: Talking) -> None:
    def theirs() -> datetime:
        return datetime.now(UTC) + timedelta(days=3)

    with capture_logs() as logs:
        async with Sandbox(home, clock=theirs) as sandbox, talking(sandbox) as talk:
            refused = await talk.ask()
            assert len(talk.wire.sent) == 1
    assert isinstance(refused, Failure)
    assert refused.code == "E9004"
    assert [entry["event"] for entry in logs if entry["event"].startswith("sts.")] == ["sts.clock_skew_absurd"]


async def test_every_attempt_is_signed_anew_with_fresh_ids_and_times(sandbox: Sandbox, talking: Talking) -> None:
    async with talking(sandbox) as talk:
        for _ in range(3):
            assert isinstance(await talk.ask(), SecurityToken)
        sent = talk.wire.sent
    assert len({one.findtext(f".//{{{WSA}}}MessageID") for one in sent}) == 3
    ids = [element.get(WSU_ID, "") for one in sent for element in one.iter("*") if element.get(WSU_ID)]
    # The certificate's is made of the certificate.
    fresh = [value for value in ids if not value.startswith("X509-")]
    assert len(ids) == 9
    assert len(fresh) == len(set(fresh)) == 6
    times = [one.findtext(f".//{{{WSU}}}Created") or "" for one in sent]
    assert times == sorted(times)


@pytest.mark.parametrize(
    ("profile", "saml_version", "path"),
    [
        (StsProfile(client_entropy=True), "2.0", ""),
        (StsProfile(with_context=True, back_date=timedelta(seconds=9)), "2.0", ""),
        (StsProfile(), "1.1", ""),
        (StsProfile(relationship_id=RelationshipId.UNQUALIFIED, claim_values=True), "2.0", ""),
        (StsProfile(suite=V1_2_LEGACY), "1.1", LEGACY_STS_PATH),
    ],
)
async def test_every_kind_of_request_gets_a_token(
    sandbox: Sandbox, talking: Talking, other: Credential, profile: StsProfile, saml_version: str, path: str
) -> None:
    async with talking(sandbox, profile=profile, path=path) as talk:
        talk.key = replace(talk.key, saml_version=saml_version)
        own = await talk.ask()
        talk.key = replace(talk.key, second_party=other.abn, software_id="0000123400")
        for_client = await talk.ask()
    for token in (own, for_client):
        assert isinstance(token, SecurityToken), token
        assert len(token.proof_key) == 64


async def test_the_legacy_contract_is_refused_where_sha_256_is_spoken(sandbox: Sandbox, talking: Talking) -> None:
    async with talking(sandbox, profile=StsProfile(suite=V1_2_LEGACY)) as talk:
        refused = await talk.ask()
    assert isinstance(refused, Failure)
    assert refused.code == "E9003"


@pytest.mark.parametrize("shape", [FaultShape.DETAIL, FaultShape.SUBCODE, FaultShape.REASON])
async def test_a_scripted_fault_is_read_in_every_shape_and_waited_for_as_long_as_it_says(
    sandbox: Sandbox, talking: Talking, shape: FaultShape
) -> None:
    trouble = Trouble(service="sts", outage=True, event=Event.NOT_SYNCHRONISED, shape=shape, available_in=120)
    sandbox.script(trouble)
    async with talking(sandbox) as talk:
        refused = await talk.ask()
        unknown = talk.metric("lodge_unknown_fault_total", channel="mas-st", code="Receiver")
    assert isinstance(refused, Failure)
    assert (refused.code, refused.kind, unknown) == ("E2192", FailureClass.UNAVAILABLE, None)
    assert refused.available_after is not None
    assert timedelta(seconds=60) < refused.available_after - datetime.now(UTC) <= timedelta(seconds=120)


async def test_a_fault_without_a_known_code_is_counted_and_told(sandbox: Sandbox, talking: Talking) -> None:
    sandbox.script(Trouble(service="sts", outage=True, shape=FaultShape.BARE))
    with capture_logs() as logs:
        async with talking(sandbox) as talk:
            for _ in range(2):
                assert isinstance(await talk.ask(), Failure)
            counted = talk.metric("lodge_unknown_fault_total", channel="mas-st", code="Receiver")
    assert counted == 2
    assert [entry["code"] for entry in logs if entry["event"] == "fault.unknown"] == ["Receiver", "Receiver"]


async def test_a_service_that_takes_a_second_serves_hundreds_at_a_time(sandbox: Sandbox, talking: Talking) -> None:
    sandbox.script(Trouble(service="sts", latency=1, fault_rate=0.1, seed=3))
    loop = asyncio.get_running_loop()
    async with talking(sandbox) as talk:
        started = loop.time()
        answers = await asyncio.gather(*(talk.ask() for _ in range(200)))
        took = loop.time() - started
    failed = [answer for answer in answers if isinstance(answer, Failure)]
    assert {answer.code for answer in failed} == {"E1001"}
    assert 5 <= len(failed) <= 40
    # One after the other they would take 200 seconds.
    assert took < 100
