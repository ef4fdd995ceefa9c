"""Everything that varies from one sealed envelope to the next, as one Hypothesis strategy. All of it is synthetic."""

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from hypothesis import strategies as st

from pipeline.channels.asic_bn import AsicBusinessNames
from pipeline.channels.asic_profile import SERVICE, Software
from pipeline.channels.contract import SealOrder
from pipeline.lodgment.references import MessageReferenceNumber
from pipeline.protocol.credential import Credential
from pipeline.protocol.wsse import AssertionReference
from pipeline.protocol.wstrust import Claim, Relationship, TokenRequest
from tests.doubles.asic import NAMESPACE, NOW, make_assertion, make_credential, make_lodgment, make_profile, make_token
from tests.doubles.asic import on_the_wire as _on_the_wire
from tests.doubles.documents import prepared_by
from tests.doubles.odd_xml import odd_payloads
from tests.doubles.synthetic_credentials import AGENT_ABN, CLIENT_ABN

_NOT_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
_EMPLOYERS = ("Payroll", "Zoë & Söhne", "O'Brien")
_texts = st.text(st.characters(codec="utf-8"), min_size=1, max_size=40).map(lambda text: _NOT_XML.sub("-", text))
_moments = st.datetimes(datetime(2000, 1, 1), datetime(2099, 12, 31), timezones=st.just(UTC))  # noqa: DTZ001  - Hypothesis wants naive bounds
nonces = st.uuids().map(lambda one: one.hex)


class Sealed(NamedTuple):
    """An envelope, and what it is to be verified with."""

    envelope: bytes
    credential: Credential
    proof_key: bytes
    reference: AssertionReference
    nonce: str


@st.composite
def sealed_envelopes(draw: st.DrawFn) -> Sealed:
    """Odd payloads under any sender, software, reference, time, employer, session key and style of assertion."""
    reference = draw(st.sampled_from(AssertionReference))
    software = draw(st.none() | st.builds(Software, _texts, _texts, _texts))
    channel = AsicBusinessNames(replace(make_profile(reference), software=software))
    lodgment = replace(
        make_lodgment(id_=draw(st.uuids(version=4))),
        reference=MessageReferenceNumber(draw(st.uuids().map(str) | _texts)),
        sender_id=draw(_texts),
        sender_type=draw(_texts),
        received_at=draw(_moments),
    )
    credential = make_credential(draw(st.sampled_from(_EMPLOYERS)))
    proof_key = draw(st.binary(min_size=16, max_size=128))
    token = make_token(make_assertion(default_namespace=draw(st.booleans())), proof_key)
    nonce = draw(nonces)
    payload = prepared_by(channel, SERVICE, "bnLodgeApplication", draw(odd_payloads(NAMESPACE))).content
    order = SealOrder(lodgment, payload, credential, token, NOW, nonce)
    return Sealed(_on_the_wire(channel.seal(order), payload), credential, proof_key, reference, nonce)


@st.composite
def token_requests(draw: st.DrawFn) -> TokenRequest:
    """Any claims, context, lifetime and key size that the service may be asked for, for a client or not."""
    uris = st.from_regex(r"urn:claim:[!-~]{1,30}", fullmatch=True)
    relationship = st.builds(
        Relationship,
        st.from_regex(r"_[A-Za-z0-9._-]{1,20}", fullmatch=True),
        st.just(AGENT_ABN),
        st.just(CLIENT_ABN),
        st.from_regex(r"[0-9]{10}", fullmatch=True),
    )
    return TokenRequest(
        draw(st.from_regex(r"https://[!-~]{1,40}", fullmatch=True)),
        tuple(draw(st.lists(st.builds(Claim, uris, st.booleans()), max_size=16))),
        draw(st.timedeltas(timedelta(minutes=5, seconds=1), timedelta(hours=8))),
        draw(st.sampled_from((None, 128, 192, 256, 512))),
        relationship=draw(st.none() | relationship),
        context=draw(st.none() | st.from_regex(r"[A-Za-z0-9._~:/?#@!$'()*+,;=%-]{1,512}", fullmatch=True)),
    )
