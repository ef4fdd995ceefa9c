"""The channel as stages see it: what it takes, where it sends, and what it never shows."""

import base64
import re
from dataclasses import replace

import pytest

from pipeline.channels.asic_bn import AsicBusinessNames
from pipeline.channels.asic_header import RequestFacts
from pipeline.channels.asic_profile import SERVICE, BasicCredentials, ServiceEntry, business_names
from pipeline.channels.contract import Channel
from pipeline.lodgment.decisions import RetryPolicy
from pipeline.lodgment.errors import ConfigurationError
from pipeline.lodgment.job import JobRefusedError
from pipeline.protocol.namespaces import Ns
from pipeline.protocol.verify import Expectation, verify_envelope
from pipeline.protocol.xml import canonical, parse
from tests.doubles.asic import (
    NAMESPACE,
    NOW,
    PAYLOAD,
    TERMS,
    make_basic_channel,
    make_channel,
    make_credential,
    make_lodgment,
    make_profile,
    make_token,
)
from tests.doubles.documents import prepared_by

ACTION = "bnLodgeApplication"


def test_answers_the_contract() -> None:
    channel: Channel = make_channel()
    assert channel.name == "asic_bn"


def prepared(payload: bytes, action: str = ACTION) -> bytes:
    return prepared_by(make_channel(), SERVICE, action, payload).content


def refusal(payload: bytes, action: str = ACTION) -> tuple[str, str]:
    with pytest.raises(JobRefusedError) as caught:
        prepared(payload, action)
    (problem,) = caught.value.problems
    return caught.value.code, problem


@pytest.mark.parametrize(
    "payload",
    [
        PAYLOAD,
        b'<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n<!-- note -->\n' + PAYLOAD + b"\n",
        PAYLOAD.replace(b"b:", b"").replace(b":b=", b"="),
        PAYLOAD.decode().encode("utf-16"),
        ('<?xml version="1.0" encoding="UTF-16"?>' + PAYLOAD.decode()).encode("utf-16"),
        PAYLOAD.replace(b"Zo", b"<!-- x -->Zo").replace(b"&amp;", b"<![CDATA[&]]>"),
    ],
)
def test_takes_the_body_element_in_any_spelling(payload: bytes) -> None:
    result = prepared(payload)
    assert result == canonical(parse(payload))
    assert prepared(result) == result


def test_takes_a_value_whose_prefix_nothing_else_uses() -> None:
    payload = (
        f'<businessDocumentBody xmlns="{NAMESPACE}" xmlns:t="urn:t" xmlns:xsi="urn:xsi">'
        '<a xsi:type="t:Name"/></businessDocumentBody>'
    ).encode()
    result = prepared(payload)
    assert b"urn:t" in result
    assert prepared(result) == result


@pytest.mark.parametrize(
    ("payload", "code", "rule"),
    [
        (b"", "payload.xml.malformed", "not well-formed"),
        (b"<a", "payload.xml.malformed", r"line 1, column \d"),
        (b"<!DOCTYPE a><a/>", "payload.xml.doctype", "document type declaration"),
        (b"<!DOCTYPE a SYSTEM 'file:///etc/passwd'><a/>", "payload.xml.doctype", "document type declaration"),
        (b"<businessDocumentBody/>", "payload.root", re.escape(NAMESPACE)),
        (b'<businessDocumentBody xmlns="urn:other"/>', "payload.root", "must be businessDocumentBody"),
        (b'<request xmlns="' + NAMESPACE.encode() + b'"/>', "payload.root", "that element alone"),
        (PAYLOAD.replace(b"<b:name>", b"<?php secret?><b:name>"), "payload.instruction", "remove them"),
        (PAYLOAD.replace(b"<b:name>", b'<b:name xmlns:r="relative" r:a="">'), "payload.xml.canonical", "absolute URIs"),
        (PAYLOAD.replace(b"<b:name>", b'<b:name xmlns:r="urn:?a&amp;b">'), "payload.xml.canonical", "ampersand"),
        (PAYLOAD.replace(b"<b:name>", b"<b:name " + b" ".join(b'a%d=""' % n for n in range(1500)) + b">"),
         "payload.xml.width", "split it"),
    ],
)  # fmt: skip
def test_refuses_with_field_rule_and_fix(payload: bytes, code: str, rule: str) -> None:
    found, problem = refusal(payload)
    assert found == code
    assert problem.startswith("payload: ")
    assert re.search(rule, problem)
    assert "secret" not in problem


def test_refuses_an_action_that_the_channel_does_not_have() -> None:
    code, problem = refusal(PAYLOAD, "bnSomethingElse")
    assert code == "payload.action"
    assert "business-names/bnLodgeApplication" in problem


def test_refuses_a_payload_that_would_not_fit_with_its_envelope() -> None:
    channel = AsicBusinessNames(replace(make_profile(), request_limit=256 * 1024 + 300))
    with pytest.raises(JobRefusedError, match="too large") as caught:
        prepared_by(channel, SERVICE, ACTION, PAYLOAD + b" " * 300)
    assert caught.value.code == "payload.xml.size"
    grows = PAYLOAD.replace(b"Zo", b"<![CDATA[" + b"<" * 100 + b"]]>")
    with pytest.raises(JobRefusedError, match="too large"):
        prepared_by(channel, SERVICE, ACTION, grows)


def test_refuses_51_megabytes() -> None:
    payload = f'<businessDocumentBody xmlns="{NAMESPACE}">{"x" * 51 * 1024 * 1024}</businessDocumentBody>'.encode()
    assert refusal(payload)[0] == "payload.xml.size"


def test_the_token_is_asked_for_the_credential_and_nobody_else() -> None:
    key = make_channel().token_key(make_lodgment())
    assert key is not None
    assert (key.sts, key.applies_to, key.claims, key.key_size) == (TERMS.sts, TERMS.applies_to, TERMS.claims, 512)
    assert (key.environment, key.credential, key.second_party) == ("sandbox", make_lodgment().credential, None)


def test_http_basic_needs_no_token_and_sends_its_login_unasked() -> None:
    channel = make_basic_channel()
    assert channel.token_key(make_lodgment()) is None
    content_type, (name, value) = channel.headers(make_lodgment())
    assert content_type == ("Content-Type", "application/soap+xml; charset=utf-8")
    assert name == "Authorization"
    assert base64.b64decode(value.removeprefix("Basic ")).decode() == "agent:pass:wörd"


def test_with_a_token_no_login_is_sent() -> None:
    assert [name for name, _ in make_channel().headers(make_lodgment())] == ["Content-Type"]


def test_a_password_shows_in_no_repr() -> None:
    profile = replace(make_profile(), authentication=BasicCredentials("agent", "hunter2"))
    assert "hunter2" not in repr(profile)
    request = AsicBusinessNames(profile).ping(RequestFacts("ping-1", "900001", "REGA", NOW), None, None, "n1")
    assert "Basic" not in repr(request)


def test_addresses_follow_the_services_table() -> None:
    channel = make_channel()
    base = "https://asic.example.test/gateway"
    assert channel.url(make_lodgment()) == f"{base}/ExternalBnLodgeApplicationPortV1"
    assert channel.url(make_lodgment("queryNameAvailability")) == f"{base}/ExternalQueryNameAvailabilityPortV2"
    assert channel.connectivity_url() == f"{base}/ExternalPingPort?wsdl"
    assert channel.connectivity_url(SERVICE, ACTION) == f"{base}/ExternalBnLodgeApplicationPortV1?wsdl"


def test_usual_namespaces_are_those_of_the_public_wsdls() -> None:
    table = business_names()
    assert table[SERVICE, "queryNameAvailability"].namespace == "uri:v2.external.query.name.availability.asic.gov.au"
    assert table[SERVICE, "searchNniName"].namespace == "uri:v3.external.search.nni.name.asic.gov.au"


def test_settings_replace_an_entry() -> None:
    policy = RetryPolicy(unknown_limit=3)
    entry = ServiceEntry(ACTION, 2, "urn:mine", "/x", policy)
    channel = AsicBusinessNames(replace(make_profile(), services={(SERVICE, ACTION): entry}))
    assert channel.policy(SERVICE, ACTION) == policy
    assert channel.url(make_lodgment()) == "https://asic.example.test/x"
    with pytest.raises(ConfigurationError, match="has no message"):
        channel.url(make_lodgment("queryNameAvailability"))


def test_a_ping_is_secured_like_any_lodgment() -> None:
    facts = RequestFacts("ping-1", "900001", "REGA", NOW)
    request = make_channel().ping(facts, make_credential(), make_token(), "n1")
    body = verify_envelope(request.body, Expectation(make_credential().certificate_der, make_token().proof_key))
    assert request.url == "https://asic.example.test/gateway/ExternalPingPort"
    assert body.findtext(f".//{Ns.ASIC_HEADER('messageType')}") == "ping"
    assert body.findtext(f".//{Ns.ASIC_HEADER('messageReferenceNumber')}") == "ping-1"
    assert [node.tag for node in body[0]][1] == "{uri:v1.external.ping.asic.gov.au}businessDocumentBody"
