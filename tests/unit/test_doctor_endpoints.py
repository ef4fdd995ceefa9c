"""Addresses that the doctor knows, by the tables: each wrong form is told with the right one."""

import pytest

from pipeline.interfaces.cli.doctor.endpoints import (
    Stage,
    judge_agency,
    judge_applies_to,
    judge_stages,
    judge_sts,
    stage_of,
)
from pipeline.interfaces.cli.doctor.line import Role, Verdict

EVTE = "https://softwareauthorisations.evte.ato.gov.au/R3.0/S007v1.3/service.svc"
PRODUCTION = "https://softwareauthorisations.ato.gov.au/R3.0/S007v1.3/service.svc"


@pytest.mark.parametrize(
    ("url", "stage"),
    [
        (EVTE, Stage.TEST),
        (PRODUCTION, Stage.PRODUCTION),
        ("https://softwareauthorisations.acc.ato.gov.au/x", Stage.TEST),
        ("https://m2m.uat.asic.gov.au", Stage.TEST),
        ("https://M2M.ASIC.gov.au", Stage.PRODUCTION),
        ("https://3pt.portal.usi.gov.au/service/v5/usiservice.svc", Stage.TEST),
        ("https://portal.usi.gov.au/service/v5/usiservice.svc", Stage.PRODUCTION),
        ("https://test.sbr.gov.au/services", Stage.TEST),
        ("https://sbr.gov.au/services", Stage.PRODUCTION),
        ("https://localhost:8443", Stage.TEST),
        ("https://gateway.example", Stage.UNKNOWN),
        ("https://contest.sbr.gov.au", Stage.PRODUCTION),
        ("https://[broken", Stage.UNKNOWN),
    ],
)
def test_the_stage_is_told_from_the_labels_of_the_host(url: str, stage: Stage) -> None:
    assert stage_of(url) is stage


@pytest.mark.parametrize(
    ("url", "verdict", "words"),
    [
        (EVTE, Verdict.PASS, ""),
        (PRODUCTION, Verdict.PASS, ""),
        ("https://sts.example/token", Verdict.PASS, ""),
        ("https://softwareauthorisations.acc.ato.gov.au/R3.0/S007v1.3/service.svc", Verdict.FAIL, EVTE),
        ("https://SOFTWAREAUTHORISATIONS.ACC.ATO.GOV.AU/R3.0/S007v1.3/service.svc", Verdict.FAIL, EVTE),
        ("http://softwareauthorisations.acc.ato.gov.au", Verdict.FAIL, EVTE),
        (EVTE.replace("https", "http"), Verdict.FAIL, "https://host/path"),
        ("https://softwareauthorisations.evte.ato.gov.au/R3.0/S007v1.2/service.svc", Verdict.WARN, EVTE),
        ("https://softwareauthorisations.ato.gov.au", Verdict.WARN, PRODUCTION),
        ("https://thirdparty.authentication.business.gov.au", Verdict.PASS, ""),
        ("https://vanguard.business.gov.au/R3.0/S007v1.1/service.svc", Verdict.FAIL, EVTE),
        ("https://user:hunter2@sts.example/token", Verdict.FAIL, "https://host/path"),
        ("https://[broken", Verdict.FAIL, "https://host/path"),
    ],
)
def test_the_address_of_the_token_service_is_judged_and_the_right_one_is_said(
    url: str, verdict: Verdict, words: str
) -> None:
    line = judge_sts(url)
    assert line.verdict is verdict, line
    assert words in line.fix
    assert bool(line.fix) is (verdict is not Verdict.PASS)
    assert line.who == (() if verdict is Verdict.PASS else (Role.OPERATOR,))
    assert "hunter2" not in line.found + line.fix


@pytest.mark.parametrize(
    ("url", "verdict"),
    [
        ("https://m2m.uat.asic.gov.au", Verdict.PASS),
        ("https://m2m.uat.asic.gov.au/", Verdict.PASS),
        ("https://m2m.uat.asic.gov.au/gateway", Verdict.WARN),
        ("http://m2m.uat.asic.gov.au", Verdict.FAIL),
        ("https://:8443", Verdict.FAIL),
        ("https://m2m.uat.asic.gov.au:port", Verdict.FAIL),
    ],
)
def test_the_address_of_the_agency_is_https_and_a_host(url: str, verdict: Verdict) -> None:
    assert judge_agency(url).verdict is verdict


@pytest.mark.parametrize(
    ("value", "verdict", "right"),
    [
        ("https://test.sbr.gov.au/services", Verdict.PASS, ""),
        ("https://sbr.gov.au/services", Verdict.PASS, ""),
        ("https://m2m.uat.asic.gov.au", Verdict.PASS, ""),
        ("https://3pt.portal.usi.gov.au/service/v5/usiservice.svc", Verdict.PASS, ""),
        ("https://relying.example/party", Verdict.PASS, ""),
        ("https://test.sbr.gov.au/services/", Verdict.FAIL, "https://test.sbr.gov.au/services"),
        ("https://test.sbr.gov.au", Verdict.FAIL, "https://test.sbr.gov.au/services"),
        ("https://Test.SBR.gov.au/Services", Verdict.FAIL, "https://test.sbr.gov.au/services"),
        ("http://test.sbr.gov.au/services", Verdict.FAIL, "https://test.sbr.gov.au/services"),
        ("https://www.sbr.gov.au/services", Verdict.FAIL, "https://sbr.gov.au/services"),
        (" https://test.sbr.gov.au/services", Verdict.FAIL, "https://test.sbr.gov.au/services"),
        ("https://test.sbr.gov.au/services/lodge.02.service", Verdict.WARN, "https://test.sbr.gov.au/services"),
        ("https://m2m.asic.gov.au/", Verdict.FAIL, "https://m2m.asic.gov.au"),
        ("https://m2m.uat.asic.gov.au/gateway", Verdict.WARN, "https://m2m.uat.asic.gov.au"),
        (
            "https://3pt.portal.usi.gov.au/service/usiservice.svc",
            Verdict.FAIL,
            "https://3pt.portal.usi.gov.au/service/v5/usiservice.svc",
        ),
        (
            "https://portal.usi.gov.au/Service/v3/UsiCreateService.svc",
            Verdict.FAIL,
            "https://portal.usi.gov.au/service/v5/usiservice.svc",
        ),
        ("test.sbr.gov.au/services", Verdict.FAIL, "full address"),
    ],
)
def test_a_relying_party_is_spelt_as_the_token_service_knows_it(value: str, verdict: Verdict, right: str) -> None:
    line = judge_applies_to(value)
    assert line.verdict is verdict, line
    if verdict is not Verdict.PASS:
        assert line.fix.removesuffix(".").endswith(right) or right in line.fix


@pytest.mark.parametrize(
    ("sts", "applies_to", "agency", "verdict"),
    [
        (EVTE, "https://m2m.uat.asic.gov.au", "https://m2m.uat.asic.gov.au", Verdict.PASS),
        (PRODUCTION, "https://m2m.asic.gov.au", "https://m2m.asic.gov.au", Verdict.PASS),
        (EVTE, "https://sbr.gov.au/services", "https://m2m.uat.asic.gov.au", Verdict.FAIL),
        (PRODUCTION, "https://test.sbr.gov.au/services", "https://m2m.asic.gov.au", Verdict.FAIL),
        (EVTE, "https://m2m.uat.asic.gov.au", "https://m2m.asic.gov.au", Verdict.FAIL),
        ("https://sts.example", "urn:relying:party", "https://gateway.example", Verdict.PASS),
        ("https://sts.example", "https://m2m.asic.gov.au", "https://m2m.asic.gov.au", Verdict.PASS),
    ],
)
def test_test_and_production_do_not_mix(sts: str, applies_to: str, agency: str, verdict: Verdict) -> None:
    line = judge_stages({"sts_url": sts, "applies_to": applies_to, "agency_url": agency})
    assert line.verdict is verdict
    if verdict is Verdict.FAIL:
        assert "production" in line.found
        assert "test" in line.found
