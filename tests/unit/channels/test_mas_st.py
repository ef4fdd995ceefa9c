"""MAS-ST: what is asked for a token key, and what each answer means for what waits."""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from pipeline.channels import mas_st_faults as faults
from pipeline.channels.faults import TURNED_AWAY, FaultRule
from pipeline.channels.mas_st import (
    CLAIMS,
    LARGEST_SKEW,
    MANDATORY_CLAIMS,
    REPLY_LIMIT,
    StsProfile,
    StsRequest,
    blames_the_clock,
    clock_skew,
    measured_skew,
    read_reply,
    request,
    unreachable,
)
from pipeline.lodgment.errors import RefusedError
from pipeline.lodgment.failures import Blast, Failure, FailureClass, Party
from pipeline.lodgment.references import TokenKey
from pipeline.protocol.algorithms import TokenProfile
from pipeline.protocol.namespaces import Ns
from pipeline.protocol.wstrust import SecurityToken
from tests.doubles.sts_replies import (
    APPLIES_TO,
    MESSAGE_ID,
    NOW,
    PARTS,
    PROOF_KEY,
    fault,
    lifetime,
    sts_fault_detail,
    token_reply,
)
from tests.doubles.synthetic_credentials import AGENT_ABN, CLIENT_ABN, credential

STS = "https://sts.invalid/service.svc"
KEY = TokenKey("test", STS, APPLIES_TO, credential().id, None, None, CLAIMS, 512)
FOR_CLIENT = replace(KEY, second_party=CLIENT_ABN, software_id="0000123400")


def asked(key: TokenKey = KEY, profile: StsProfile | None = None, skew: timedelta = timedelta(0)) -> StsRequest:
    return request(profile or StsProfile(), credential(), key, MESSAGE_ID, NOW, "n1", skew)


def answer(body: bytes, status: int = 200, sent: StsRequest | None = None) -> SecurityToken | Failure:
    return read_reply(sent or asked(), status, body, NOW)


def failure(body: bytes, status: int = 500) -> Failure:
    read = answer(body, status)
    assert isinstance(read, Failure)
    return read


def test_asks_for_the_16_claims_of_which_five_are_mandatory() -> None:
    root = etree.fromstring(asked().body)
    claims = {one.get("Uri"): one.get("Optional") for one in root.iter(Ns.IDENTITY("ClaimType"))}
    assert tuple(claims) == CLAIMS
    assert len(CLAIMS) == 16
    assert {uri for uri, optional in claims.items() if optional == "false"} == set(MANDATORY_CLAIMS)
    assert {uri.rpartition("/")[2] for uri in CLAIMS if uri.startswith("http://schemas.")} == {
        "surname",
        "emailaddress",
    }


@pytest.mark.parametrize(("version", "kind"), [("2.0", TokenProfile.SAML20), ("1.1", TokenProfile.SAML11)])
def test_asks_for_the_kind_of_token_that_the_key_names(version: str, kind: TokenProfile) -> None:
    assert asked(replace(KEY, saml_version=version)).wanted.token_type is kind


def test_posts_soap_to_the_key_s_own_service() -> None:
    sent = asked()
    assert sent.url == STS
    assert sent.headers[0][1].startswith('application/soap+xml; charset=utf-8; action="http')
    assert etree.fromstring(sent.body).findtext(f".//{Ns.WSA('To')}") == STS


def test_acts_for_a_second_party_with_the_credential_s_abn_as_the_first() -> None:
    token = etree.fromstring(asked(FOR_CLIENT).body).find(f".//{Ns.VANGUARD_RELATIONSHIP('RelationshipToken')}")
    assert token is not None
    values = [element.get(Ns.VANGUARD_RELATIONSHIP("Value")) for element in token.iterdescendants("*")]
    assert values == [None, "0000123400", AGENT_ABN, CLIENT_ABN]


@pytest.mark.parametrize("key", [KEY, replace(FOR_CLIENT, second_party=AGENT_ABN)])
def test_acts_for_nobody_where_the_business_is_the_credential_s_own(key: TokenKey) -> None:
    assert b"RelationshipToken" not in asked(key).body


def test_refuses_to_act_for_a_second_party_without_a_software_id() -> None:
    with pytest.raises(RefusedError, match="software_id") as refused:
        asked(replace(FOR_CLIENT, software_id=None))
    assert refused.value.code == "sts.act-as"


@pytest.mark.parametrize(
    ("key", "profile", "code"),
    [
        (KEY, StsProfile(lifetime=timedelta(days=1)), "wstrust.lifetime"),
        (replace(KEY, applies_to="agency"), StsProfile(), "wstrust.uri"),
        (replace(KEY, key_size=13), StsProfile(), "wstrust.key-size"),
        (replace(FOR_CLIENT, second_party="1"), StsProfile(), "wstrust.abn"),
        (replace(KEY, sts="https://sts.invalid/\x00"), StsProfile(), "xml.character"),
    ],
)
def test_a_key_that_nothing_can_be_asked_for_with_is_refused_by_name(
    key: TokenKey, profile: StsProfile, code: str
) -> None:
    with pytest.raises(RefusedError) as refused:
        asked(key, profile)
    assert refused.value.code == code


def test_a_good_reply_is_the_token() -> None:
    read = answer(token_reply())
    assert isinstance(read, SecurityToken)
    assert (read.proof_key, read.expires_at) == (PROOF_KEY, NOW + timedelta(minutes=30))


@pytest.mark.parametrize("minutes", [-10, 10])
def test_a_clock_that_is_ten_minutes_off_is_corrected_both_ways(minutes: int) -> None:
    skew = timedelta(minutes=minutes)
    sent = asked(skew=skew)
    created = etree.fromstring(sent.body).findtext(f".//{Ns.WSU('Timestamp')}/{Ns.WSU('Created')}")
    theirs = NOW + skew
    assert created == theirs.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    times = (theirs.isoformat(), (theirs + timedelta(minutes=30)).isoformat())
    read = answer(token_reply(Lifetime=lifetime(*times)), sent=sent)
    assert isinstance(read, SecurityToken)
    assert (read.created_at, read.expires_at) == (NOW, NOW + timedelta(minutes=30))


@pytest.mark.parametrize(
    ("date", "sent", "received", "skew"),
    [
        (0, 0, 1, 0),
        (0, 0.9, 1.5, 0),
        (0, -5, 0, 0),
        (600, 0, 2, 598),
        (-600, 0, 2, -599),
    ],
)
def test_skew_is_measured_only_where_the_exchange_proves_it(
    date: float, sent: float, received: float, skew: float
) -> None:
    said, asked_at, answered_at = (NOW + timedelta(seconds=seconds) for seconds in (date, sent, received))
    assert clock_skew(said, asked_at, answered_at) == timedelta(seconds=skew)


def test_a_refused_timestamp_or_an_expired_token_may_be_our_clock_and_an_expired_credential_is_not() -> None:
    assert blames_the_clock(failure(fault(["soap:Sender", "InvalidSecurity", "E9004"])))
    assert blames_the_clock(failure(fault(["soap:Sender", "wsse:MessageExpired"])))
    assert blames_the_clock(failure(token_reply(Lifetime=lifetime(None, "2026-11-23T04:00:00Z")), 200))
    assert not blames_the_clock(failure(fault(["soap:Sender", "v:E2015"])))


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (token_reply(header=""), "wstrust.relates-to"),
        (token_reply(Lifetime=lifetime(None, "2026-11-23T04:00:00Z")), "wstrust.lifetime"),
        (token_reply(RequestedProofToken=""), "wstrust.proof-key"),
        (token_reply(RequestedSecurityToken=""), "wstrust.assertion"),
        (token_reply(TokenType=PARTS["TokenType"] * 2), "wstrust.shape"),
        (b"<html/>", "soap.envelope"),
        (token_reply().replace(b"soap:Body", b"soap:Moved"), "soap.body"),
        (b"<!DOCTYPE html>" + token_reply(), "xml.doctype"),
        (b" " * (REPLY_LIMIT + 1), "sts.size"),
    ],
)
def test_an_answer_that_is_not_to_be_believed_is_a_reason_to_wait(body: bytes, code: str) -> None:
    read = failure(body, 200)
    assert (read.code, read.kind, read.blast) == (code, FailureClass.UNAVAILABLE, Blast.CHANNEL)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (204, FailureClass.UNAVAILABLE),
        (301, FailureClass.OUR_DOCUMENT),
        (400, FailureClass.OUR_DOCUMENT),
        (401, FailureClass.UNAVAILABLE),
        (403, FailureClass.UNAVAILABLE),
        (404, FailureClass.UNAVAILABLE),
        (405, FailureClass.UNAVAILABLE),
        (408, FailureClass.UNAVAILABLE),
        (410, FailureClass.OUR_DOCUMENT),
        (418, FailureClass.OUR_DOCUMENT),
        (429, FailureClass.UNAVAILABLE),
        (500, FailureClass.UNAVAILABLE),
        (503, FailureClass.UNAVAILABLE),
        (599, FailureClass.UNAVAILABLE),
    ],
)
@pytest.mark.parametrize("page", [b"", b"<html><body>Sorry</body></html>", b"\x1f\x8b\x00", b"<?xml?>"])
def test_a_page_in_place_of_an_answer_is_judged_by_its_status(status: int, kind: FailureClass, page: bytes) -> None:
    read = failure(page, status)
    assert (read.code, read.kind, read.blast) == (f"http.{status}", kind, Blast.CHANNEL)
    # Those of `TURNED_AWAY` are said by what stands before the service.
    agency_acts = kind is FailureClass.UNAVAILABLE and status not in TURNED_AWAY
    assert read.who is (Party.AGENCY if agency_acts else Party.OPERATOR)


def test_a_conversation_that_failed_is_only_ever_a_reason_to_wait() -> None:
    for kind in (FailureClass.UNKNOWN, FailureClass.NOT_SENT):
        lost = Failure(kind, "transport.reset", "", "", Party.AGENCY)
        assert unreachable(lost).kind is FailureClass.UNAVAILABLE
        assert unreachable(lost).code == "transport.reset"


@settings(deadline=None)
@given(body=st.one_of(st.binary(max_size=200), st.text(max_size=100).map(lambda text: fault([text[:1] or "a"]))))
def test_nothing_that_a_server_sends_makes_it_raise(body: bytes) -> None:
    assert isinstance(answer(body), Failure)


@settings(deadline=None)
@given(data=st.data())
def test_no_damaged_token_makes_it_raise(data: st.DataObject) -> None:
    whole = bytearray(token_reply())
    for place in data.draw(st.lists(st.integers(0, len(whole) - 1), min_size=1, max_size=5)):
        whole[place] = data.draw(st.integers(0, 255))
    assert isinstance(answer(bytes(whole)), SecurityToken | Failure)


PERMANENT = (FailureClass.OUR_CREDENTIAL, FailureClass.OUR_DOCUMENT)


class TestFaults:
    @pytest.mark.parametrize("event", faults.EVENT_RULES)
    def test_every_event_code_is_read_from_detail_or_subcode_or_reason(self, event: str) -> None:
        rule = faults.EVENT_RULES[event]
        reason = f"Synthetic. Event Code: [{event}]. Event Severity: [Severe]. Agency Reference: []."
        for body in (
            fault(["soap:Sender", "wst:RequestFailed"], detail=sts_fault_detail(event)),
            fault(["soap:Sender", "wst:RequestFailed", f"v:{event}"]),
            fault(["soap:Receiver", f"v:{event}"]),
            fault(["soap:Sender", "wsse:FailedAuthentication"], reason),
        ):
            read = failure(body)
            assert (read.code, read.kind, read.who, read.blast) == (event, rule.kind, rule.who, rule.blast)
            assert read.advice == rule.advice

    def test_the_detail_is_believed_before_the_subcode_and_the_subcode_before_the_reason(self) -> None:
        body = fault(["soap:Sender", "v:E2015"], "Event Code: [E2003].", sts_fault_detail("E2014"))
        assert failure(body).code == "E2014"
        assert failure(fault(["soap:Sender", "v:E2015"], "Event Code: [E2003].")).code == "E2015"

    def test_only_what_mends_itself_is_waited_for(self) -> None:
        waited = {code for code, rule in faults.EVENT_RULES.items() if rule.kind is FailureClass.UNAVAILABLE}
        assert waited == {"E1001", "E1003", "E1004", "E2190", "E2192"}
        assert all(rule.kind in PERMANENT for code, rule in faults.EVENT_RULES.items() if code not in waited)

    @pytest.mark.parametrize("event", ["E2014", "E2015", "E2017", "E2020", "E2029", "E2169", "E2180", "E9006"])
    def test_a_credential_that_is_not_accepted_stops_everything_sent_with_it(self, event: str) -> None:
        read = failure(fault(["soap:Sender", "wsse:FailedAuthentication", f"v:{event}"]))
        assert (read.kind, read.blast, read.who) == (FailureClass.OUR_CREDENTIAL, Blast.CREDENTIAL, Party.OPERATOR)

    @pytest.mark.parametrize("event", ["E2001", "E2003", "E2182", "E2183", "E9000", "E9001", "E9003", "E9004"])
    def test_a_setting_that_is_wrong_stops_the_channel_until_an_operator_mends_it(self, event: str) -> None:
        read = failure(fault(["soap:Sender", "wst:RequestFailed", event]))
        assert (read.blast, read.who) == (Blast.CHANNEL, Party.OPERATOR)
        assert read.kind in PERMANENT

    @pytest.mark.parametrize(
        ("codes", "code", "kind"),
        [
            (["soap:Sender", "wsse:FailedAuthentication"], "FailedAuthentication", FailureClass.OUR_CREDENTIAL),
            (["soap:Sender", "MissingAppliesTo"], "MissingAppliesTo", FailureClass.OUR_DOCUMENT),
            (["soap:Sender", "wsse:InvalidSecurity"], "InvalidSecurity", FailureClass.OUR_DOCUMENT),
            (["soap:Sender", "wst:InvalidRequest"], "InvalidRequest", FailureClass.OUR_DOCUMENT),
            (["soap:MustUnderstand"], "MustUnderstand", FailureClass.OUR_DOCUMENT),
            (["soap:VersionMismatch"], "VersionMismatch", FailureClass.OUR_DOCUMENT),
        ],
    )
    def test_without_an_event_code_decide_by_their_finest_known_code(
        self, codes: list[str], code: str, kind: FailureClass
    ) -> None:
        read = failure(fault(codes, "ID3242: The security token could not be authenticated or authorized."))
        assert (read.code, read.kind) == (code, kind)
        assert read.detail.startswith("ID3242")

    @pytest.mark.parametrize(
        ("codes", "code", "rule"),
        [
            (["soap:Sender", "v:E2999"], "E2999", faults.UNKNOWN_SENDER),
            (["soap:Sender", "wsse:FailedAuthentication", "v:E2999"], "E2999", faults.UNKNOWN_SENDER),
            (["soap:Receiver", "v:E1999"], "E1999", faults.UNKNOWN_RECEIVER),
            (["soap:Receiver"], "Receiver", faults.UNKNOWN_RECEIVER),
            (["soap:Sender", "x:Strange"], "Sender.Strange", faults.UNKNOWN_SENDER),
            ([""], "sts.fault", faults.UNKNOWN_SENDER),
        ],
    )
    def test_with_an_unknown_code_decide_by_whose_side_they_blame(
        self, codes: list[str], code: str, rule: FaultRule
    ) -> None:
        read = failure(fault(codes))
        assert (read.code, read.kind, read.blast) == (code, rule.kind, rule.blast)

    @pytest.mark.parametrize("status", [200, 400, 500, 503])
    def test_are_read_under_any_http_status(self, status: int) -> None:
        assert failure(fault(["soap:Sender", "v:E2015"]), status).code == "E2015"

    def test_a_hostile_text_is_cut_and_cannot_forge_a_log_line(self) -> None:
        hostile = f"ok\r\n2026-11-23 level=info forged \u202e{'x' * 5000}"
        read = failure(fault(["soap:Sender", "v:E2015"], hostile))
        assert len(read.detail) <= 1000
        assert read.detail.isprintable()

    @pytest.mark.parametrize("code", ["E2015\n", "E20 15", "e2015", "E20155", "E\N{ARABIC-INDIC DIGIT TWO}015"])
    def test_what_only_resembles_an_event_code_is_none(self, code: str) -> None:
        read = failure(fault(["soap:Sender"], detail=sts_fault_detail(code)))
        assert read.code == ("E2015" if code == "E2015\n" else "Sender")

    def test_every_advice_says_in_a_sentence_what_to_do(self) -> None:
        rules = (*faults.EVENT_RULES.values(), *faults.SUBCODE_RULES.values(), *faults.STATUS_RULES.values())
        for rule in rules:
            assert rule.advice.endswith(".")
            assert "  " not in rule.advice


class TestOptions:
    def test_acting_for_a_client_may_say_what_the_claims_must_be(self) -> None:
        profile = StsProfile(claim_values=True)
        for key, expected in ((FOR_CLIENT, {"abn": CLIENT_ABN, "credentialtype": "ABR_Device"}), (KEY, {})):
            root = etree.fromstring(asked(key, profile).body)
            values = {
                (claim.get("Uri") or "").rpartition("/")[2]: claim.findtext(Ns.IDENTITY("Value"))
                for claim in root.iter(Ns.IDENTITY("ClaimType"))
                if len(claim)
            }
            assert values == expected

    def test_a_context_is_the_message_id_and_must_come_back(self) -> None:
        sent = asked(profile=StsProfile(with_context=True))
        assert sent.wanted.context == MESSAGE_ID
        other = token_reply().replace(
            b"<wst:RequestSecurityTokenResponse>", b'<wst:RequestSecurityTokenResponse Context="x">'
        )
        assert isinstance(answer(token_reply(), sent=sent), SecurityToken)
        refused = answer(other, sent=sent)
        assert isinstance(refused, Failure)
        assert refused.code == "wstrust.context"

    def test_entropy_is_sent_only_where_the_profile_has_it_and_is_fresh_in_every_request(self) -> None:
        def entropy(profile: StsProfile, ours: bytes) -> str | None:
            sent = request(profile, credential(), KEY, MESSAGE_ID, NOW, "n1", timedelta(0), ours)
            return etree.fromstring(sent.body).findtext(f".//{Ns.WST('BinarySecret')}")

        assert entropy(StsProfile(), bytes(64)) is None
        with_entropy = StsProfile(client_entropy=True)
        assert entropy(with_entropy, bytes(64)) != entropy(with_entropy, bytes(63) + b"1")


class TestTheServicesClock:
    def test_is_read_from_the_reply_s_own_timestamp_before_the_date_header(self) -> None:
        stamp = (
            f'<wsse:Security xmlns:wsse="{Ns.WSSE}" xmlns:wsu="{Ns.WSU}"><wsu:Timestamp>'
            "<wsu:Created>2026-11-23T04:15:06.250Z</wsu:Created></wsu:Timestamp></wsse:Security>"
        )
        sent, received = NOW, NOW + timedelta(seconds=1)
        date = NOW + timedelta(hours=3)
        skew = timedelta(minutes=9, seconds=59, milliseconds=250)
        assert measured_skew(token_reply(header=stamp), date, sent, received) == skew
        assert measured_skew(token_reply(), date, sent, received) == timedelta(hours=3) - timedelta(seconds=1)
        assert measured_skew(b"<html/>", date, sent, received) == timedelta(hours=3) - timedelta(seconds=1)
        assert measured_skew(None, None, sent, received) is None
        for absurd in ("9999-12-31T23:59:59.999Z", "0001-01-01T00:00:00Z"):
            told = measured_skew(token_reply(header=stamp.replace("2026-11-23T04:15:06.250Z", absurd)), None, sent, NOW)
            assert told is not None
            assert abs(told) > LARGEST_SKEW
        assert measured_skew(token_reply(header=stamp.replace("250Z", "250")), None, sent, received) is None
