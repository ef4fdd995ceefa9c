"""The pipeline's own client, judged: what its channel and token request build passes, in every arrangement."""

import ssl
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime

import aiohttp
import pytest

from pipeline.channels import mas_st
from pipeline.channels.asic_bn import AsicBusinessNames
from pipeline.channels.asic_header import RequestFacts
from pipeline.channels.asic_profile import AsicProfile, Software, TokenTerms
from pipeline.channels.asic_replies import PingReply
from pipeline.channels.mas_st import CLAIMS, StsProfile
from pipeline.lodgment.references import TokenKey
from pipeline.protocol.credential import Credential
from pipeline.protocol.wsse import AssertionReference
from pipeline.protocol.wstrust import SecurityToken
from pipeline.sandbox.home import Home
from pipeline.sandbox.server import Sandbox
from pipeline.sandbox.sts_script import Variant


@pytest.fixture
async def session(home: Home) -> AsyncIterator[aiohttp.ClientSession]:
    tls = ssl.create_default_context(cafile=str(home.ca_file))
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=tls)) as talking:
        yield talking


def _profile(sandbox: Sandbox) -> AsicProfile:
    terms = TokenTerms(sandbox.sts_url, sandbox.home.applies_to, CLAIMS)
    return AsicProfile("sandbox", sandbox.url, terms, Software("Synthetic", "Pipeline", "1"))


async def _token(
    sandbox: Sandbox, session: aiohttp.ClientSession, credential: Credential, second_party: str | None = None
) -> SecurityToken:
    now = datetime.now(UTC)
    home = sandbox.home
    software_id = None if second_party is None else "0000123400"
    key = TokenKey(
        "sandbox", sandbox.sts_url, home.applies_to, credential.id, second_party, software_id, CLAIMS, key_size=512
    )
    message_id = f"urn:uuid:{uuid.uuid4()}"
    asked = mas_st.request(StsProfile(), credential, key, message_id, now, uuid.uuid4().hex)
    async with session.post(asked.url, data=asked.body, headers=dict(asked.headers)) as response:
        read = mas_st.read_reply(asked, response.status, await response.read(), now)
    assert isinstance(read, SecurityToken), read
    return read


@pytest.mark.parametrize("variant", Variant)
@pytest.mark.parametrize("reference", AssertionReference)
async def test_the_pipelines_ping_is_answered(
    home: Home,
    session: aiohttp.ClientSession,
    credential: Credential,
    variant: Variant,
    reference: AssertionReference,
) -> None:
    async with Sandbox(home, variant=variant) as sandbox:
        channel = AsicBusinessNames(replace(_profile(sandbox), assertion_reference=reference))
        token = await _token(sandbox, session, credential)
        facts = RequestFacts(str(uuid.uuid4()), "SYNTHETIC-1", "REGA", datetime.now(UTC))
        ping = channel.ping(facts, credential, token, uuid.uuid4().hex)
        async with session.post(ping.url, data=ping.body, headers=dict(ping.headers)) as response:
            read = channel.read_ping_reply(
                response.status, response.content_type, await response.read(), facts.reference
            )
    assert isinstance(read, PingReply), read


async def test_the_pipeline_gets_a_token_to_act_for_another_business(
    home: Home, session: aiohttp.ClientSession, credential: Credential, other: Credential
) -> None:
    async with Sandbox(home) as sandbox:
        token = await _token(sandbox, session, credential, second_party=other.abn)
    assert token.expires_at > datetime.now(UTC)
