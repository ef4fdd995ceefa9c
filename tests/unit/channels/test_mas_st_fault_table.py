"""Each fault of MAS-ST as its service definition prints it (4.2), read off the document, and what it leads to."""

from dataclasses import replace
from datetime import timedelta

import pytest

from pipeline.channels.mas_st import CLAIMS, StsProfile, StsRequest, read_reply, request
from pipeline.lodgment.decisions import RetryPolicy, Tally, decide
from pipeline.lodgment.failures import Blast, Failure, FailureClass, Party
from pipeline.lodgment.references import TokenKey
from pipeline.lodgment.states import State
from pipeline.protocol.namespaces import Ns
from tests.doubles.sts_replies import APPLIES_TO, MESSAGE_ID, NOW, fault, sts_fault_detail
from tests.doubles.synthetic_credentials import CLIENT_ABN, credential

KEY = TokenKey("test", "https://sts.invalid/service.svc", APPLIES_TO, credential().id, None, None, CLAIMS, 512)
FOR_CLIENT = replace(KEY, second_party=CLIENT_ABN, software_id="0000123400")

# side, sub code and event code of 4.2.1 and 4.2.2; whether it is tried again; how far it reaches; a word of the advice
TABLE = {
    "E2001": ("Sender", "wst:RequestFailed", "v:E2001", False, Blast.CHANNEL, "token type"),
    "E2003": ("Sender", "wst:RequestFailed", "v:E2003", False, Blast.CHANNEL, "applies_to"),
    "E2014": ("Sender", "wsse:FailedAuthentication", "v:E2014", False, Blast.CREDENTIAL, "revoked"),
    "E2015": ("Sender", "wsse:FailedAuthentication", "v:E2015", False, Blast.CREDENTIAL, "expired"),
    "E2017": ("Sender", "wsse:FailedAuthentication", "v:E2017", False, Blast.CREDENTIAL, "not valid yet"),
    "E2020": ("Sender", "wsse:FailedAuthentication", "v:E2020", False, Blast.CREDENTIAL, "authority"),
    "E2029": ("Sender", "wsse:FailedAuthentication", "v:E2029", False, Blast.CREDENTIAL, "corrupt"),
    "E2169": ("Sender", "wsse:FailedAuthentication", "v:E2169", False, Blast.CREDENTIAL, "does not recognise"),
    "E2180": ("Sender", "wsse:FailedAuthentication", "v:E2180", False, Blast.CREDENTIAL, "usage policy"),
    "E2182": ("Sender", "wst:RequestFailed", "v:E2182", False, Blast.CHANNEL, "mandatory"),
    "E2183": ("Sender", "InvalidRequest", "v:E2183", False, Blast.CHANNEL, "unknown"),
    "E9000": ("Sender", "wst:RequestFailed", "E9000", False, Blast.CHANNEL, "request type"),
    "E9001": ("Sender", "MissingAppliesTo", "E9001", False, Blast.CHANNEL, "applies_to"),
    "E9002": ("Sender", "UnsupportedSecurityToken", "E9002", False, Blast.CHANNEL, "token"),
    "E9003": ("Sender", "UnsupportedAlgorithm", "E9003", False, Blast.CHANNEL, "SHA-256"),
    "E9004": ("Sender", "InvalidSecurity", "E9004", False, Blast.CHANNEL, "clock"),
    "E9005": ("Sender", "InvalidSecurityToken", "E9005", False, Blast.CREDENTIAL, "certificate"),
    "E9006": ("Sender", "wsse:FailedAuthentication", "E9006", False, Blast.CREDENTIAL, "authenticate"),
    "E1001": ("Receiver", None, "v:E1001", True, Blast.CHANNEL, "internal error"),
    "E2190": ("Receiver", None, "v:E2190", True, Blast.EMPLOYER, "claims"),
    # not in 4.2: the official client's list of what is tried again, and example 2 of 4.2.3
    "E1003": ("Receiver", None, "v:E1003", True, Blast.CHANNEL, "not available"),
    "E1004": ("Receiver", None, "v:E1004", True, Blast.CHANNEL, "not available"),
    "E2192": ("Receiver", None, "v:E2192", True, Blast.EMPLOYER, "synchronised"),
}
every_code = pytest.mark.parametrize("code", TABLE)


def sent(key: TokenKey = KEY, skew: timedelta = timedelta(0)) -> StsRequest:
    return request(StsProfile(), credential(), key, MESSAGE_ID, NOW, "n1", skew)


def failure(body: bytes, asked: StsRequest | None = None, status: int = 500) -> Failure:
    read = read_reply(asked or sent(), status, body, NOW)
    assert isinstance(read, Failure)
    return read


def tried_again(read: Failure) -> bool:
    return decide(read, Tally(), RetryPolicy(), NOW, resume=State.RECEIVED).state is State.PARKED


def shapes(code: str) -> dict[str, bytes]:
    side, subcode, event, *_ = TABLE[code]
    codes = [f"soap:{side}", *([] if subcode is None else [subcode])]
    text = f"SYNTHETIC. Event Code: [{code}]. Event Severity: [Severe]. User Advice: []. Agency Reference: []."
    return {
        "as printed": fault([*codes, event], text, sts_fault_detail(code)),
        "detail alone": fault(codes, "", sts_fault_detail(code)),
        "subcode alone": fault([*codes, event]),
        "reason alone": fault(codes, text),
    }


@every_code
@pytest.mark.parametrize("shape", ["as printed", "detail alone", "subcode alone", "reason alone"])
def test_each_code_is_tried_again_or_not_and_reaches_as_far_as_its_cause(code: str, shape: str) -> None:
    *_, again, blast, word = TABLE[code]
    read = failure(shapes(code)[shape])
    assert (read.code, tried_again(read), read.blast, read.known) == (code, again, blast, True)
    assert word in read.advice
    assert read.who is (Party.AGENCY if again else Party.OPERATOR)


@every_code
def test_without_its_event_code_a_fault_is_still_tried_again_or_not_as_its_side_and_subcode_say(code: str) -> None:
    side, subcode, _, again, *_ = TABLE[code]
    read = failure(fault([f"soap:{side}", *([] if subcode is None else [subcode])], "Something else."))
    assert (tried_again(read), read.known) == (again, subcode is not None)


def test_the_examples_of_the_service_definition_are_read_in_their_own_prefixes() -> None:
    def example(side: str, inside: str, detail: str) -> bytes:
        return (
            f'<s:Envelope xmlns:s="{Ns.SOAP}"><s:Body><Fault xmlns="{Ns.SOAP}">'
            f"<Code><Value>{side}</Value>{inside}</Code>"
            f'<Reason><Text xml:lang="en-AU">SYNTHETIC</Text></Reason>{detail}</Fault></s:Body></s:Envelope>'
        ).encode()

    unqualified = "<Subcode><Value xmlns:a='urn:any'>a:FailedAuthentication</Value></Subcode>"
    assert failure(example("Sender", unqualified, "")).code == "FailedAuthentication"
    nested = unqualified.replace("</Subcode>", "<Subcode><Value xmlns:a='urn:b'>a:E2015</Value></Subcode></Subcode>")
    assert failure(example("Sender", nested, "")).code == "E2015"
    detail = f'<Detail xmlns:s="{Ns.SOAP}">{sts_fault_detail("E2192")}\n-\n</Detail>'
    other_code = "<Subcode><Value xmlns:a='urn:b'>a:E9999</Value></Subcode>"
    assert failure(example("Receiver", other_code, detail)).code == "E2192"
    table_path = "<SubCode><Value>E1001</Value></SubCode>"
    assert failure(example("Receiver", table_path, "")).code == "E1001"


@pytest.mark.parametrize(("side", "again"), [("Receiver", True), ("Sender", False)])
@pytest.mark.parametrize("code", ["E1999", "E2999", "E9999", None])
def test_an_unknown_code_is_decided_by_the_side_that_it_blames_and_marked_as_a_guess(
    side: str, again: bool, code: str | None
) -> None:
    read = failure(fault([f"soap:{side}"] if code is None else [f"soap:{side}", f"v:{code}"]))
    assert (read.code, tried_again(read), read.known) == (code or side, again, False)


@pytest.mark.parametrize("code", ["E2182", "wst:InvalidRequest", "wst:BadRequest", "wst:RequestFailed"])
def test_what_may_come_from_the_business_acted_for_does_not_stop_the_others(code: str) -> None:
    body = fault(["soap:Sender", code])
    assert failure(body, sent(FOR_CLIENT)).blast is Blast.EMPLOYER
    assert failure(body, sent()).blast is Blast.CHANNEL


@pytest.mark.parametrize("code", ["E2003", "E2014", "E9004"])
def test_what_is_wrong_for_everybody_stops_everybody_also_when_acting_for_a_business(code: str) -> None:
    assert failure(shapes(code)["as printed"], sent(FOR_CLIENT)).blast is TABLE[code][4]


def announced(text: str) -> bytes:
    inside = f'<d:FaultDetail xmlns:d="urn:any"><d:AvailableAfter>{text}</d:AvailableAfter></d:FaultDetail>'
    return fault(["soap:Receiver", "v:E1001"], detail=inside)


@pytest.mark.parametrize(
    "text", ["2026-11-23T05:00:00Z", "2026-11-23T15:00:00+10:00", " 2026-11-23T05:00:00.000 ", "2026-11-23T05:00:00"]
)
def test_a_service_that_says_when_it_is_back_is_asked_again_then(text: str) -> None:
    back = NOW.replace(hour=5, minute=0, second=0)
    read = failure(announced(text))
    assert read.available_after == back
    assert decide(read, Tally(), RetryPolicy(), NOW).due_at == back


def test_the_time_it_says_is_on_its_own_clock() -> None:
    skew = timedelta(minutes=10)
    back = NOW.replace(hour=5, minute=0, second=0)
    assert failure(announced("2026-11-23T05:00:00Z"), sent(skew=skew)).available_after == back - skew


@pytest.mark.parametrize(
    "text",
    [
        "",
        "soon",
        "2026-11-22T00:00:00Z",
        "2036-01-01T00:00:00Z",
        "9999-12-31T23:59:59Z",
        "0001-01-01T00:00:00Z",
        "0001-01-01T00:00:00+14:00",
    ],
)
def test_a_time_that_is_past_or_absurd_is_not_waited_for(text: str) -> None:
    for skew in (timedelta(0), timedelta(hours=-24), timedelta(hours=24)):
        due_at = decide(failure(announced(text), sent(skew=skew)), Tally(), RetryPolicy(), NOW).due_at
        assert due_at == NOW + RetryPolicy().unavailable.first


PAGES = (b"", b"<html><body>Sorry</body></html>", b'{"error":"down"}', b"\xff\xfe", b"<a><b></a>")
AGAIN = {401, 403, 404, 405, 408, 429, 500, 502, 503, 504}


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 408, 410, 429, 500, 502, 503, 504])
def test_a_page_in_place_of_a_fault_is_tried_again_or_not_by_its_status(status: int, page: bytes) -> None:
    read = failure(page, status=status)
    assert (read.code, tried_again(read), read.blast) == (f"http.{status}", status in AGAIN, Blast.CHANNEL)
    assert read.kind is (FailureClass.UNAVAILABLE if status in AGAIN else FailureClass.OUR_DOCUMENT)
    assert len(read.advice) > 20
