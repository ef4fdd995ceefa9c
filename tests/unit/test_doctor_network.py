"""What the doctor says of ports, TLS, clocks, answers and servers, and whom it names."""

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pipeline.broker.inspection import BrokerView
from pipeline.gateway.probe import Fault, Handshake, Probe
from pipeline.interfaces.cli.doctor.catalogue import MEANING, Check
from pipeline.interfaces.cli.doctor.line import PERMITTERS, RENEWERS, Role, Verdict, failed, passed, roles_of
from pipeline.interfaces.cli.doctor.network import Endpoint, Reached, judge_clock, judge_reach, judge_tls
from pipeline.interfaces.cli.doctor.servers import judge_broker, judge_database, judge_environment, judge_sweeps
from pipeline.interfaces.cli.doctor.talks import judge_agency_answer, judge_sts_answer
from pipeline.ledger.inspection import DatabaseView
from pipeline.lodgment.failures import Failure, FailureClass, Party
from pipeline.lodgment.sweeping import SweepKind

NOW = datetime(2026, 11, 23, 2, 0, tzinfo=UTC)
MOMENT = timedelta(milliseconds=20)
AGENCY = Endpoint(Check.REACH_AGENCY, "m2m.example", 443, secure=True)
REACHED = Probe("m2m.example", 443, MOMENT, MOMENT, address="192.0.2.1")
AGREED = Handshake("TLSv1.3", "TLS_AES_256_GCM_SHA384", "Some Public CA", NOW + timedelta(days=90))


@pytest.mark.parametrize(
    ("check", "fault", "who"),
    [
        (Check.REACH_AGENCY, Fault.NAME, (Role.OPERATOR, Role.NETWORK)),
        (Check.REACH_STS, Fault.NAME_TIMEOUT, (Role.OPERATOR, Role.NETWORK)),
        (Check.REACH_AGENCY, Fault.REFUSED, (Role.OPERATOR, Role.AGENCY)),
        (Check.REACH_BROKER, Fault.REFUSED, (Role.OPERATOR, Role.BROKER)),
        (Check.REACH_DATABASE, Fault.REFUSED, (Role.OPERATOR, Role.DATABASE)),
        (Check.REACH_AGENCY, Fault.CONNECT_TIMEOUT, (Role.NETWORK,)),
        (Check.REACH_DATABASE, Fault.UNREACHABLE, (Role.NETWORK,)),
    ],
)
def test_a_port_that_is_not_reached_names_host_and_port_and_who_can_open_it(
    check: Check, fault: Fault, who: tuple[Role, ...]
) -> None:
    end = replace(AGENCY, check=check)
    line = judge_reach(end, Probe("m2m.example", 443, fault=fault, detail="told"))
    assert (line.verdict, line.who, line.subject) == (Verdict.FAIL, who, "m2m.example:443")
    assert "m2m.example" in line.fix or "443" in line.fix
    assert line.meaning


def test_a_port_that_is_reached_says_how_long_name_and_connection_took() -> None:
    line = judge_reach(AGENCY, REACHED)
    assert line.verdict is Verdict.PASS
    assert line.measured == {"name_seconds": 0.02, "tcp_seconds": 0.02}
    assert "name 20 ms, TCP 20 ms" in line.found


def test_a_sandbox_that_is_down_is_to_be_started() -> None:
    end = replace(AGENCY, sandbox=True)
    line = judge_reach(end, Probe("localhost", 8443, resolved=MOMENT, fault=Fault.REFUSED))
    assert line.fix == "Start it: lodge sandbox serve"


@pytest.mark.parametrize("fault", [fault for fault in Fault if fault not in set(list(Fault)[:5])])
def test_every_fault_of_tls_has_a_fix_and_somebody_who_does_it(fault: Fault) -> None:
    line = judge_tls(AGENCY, replace(REACHED, fault=fault, detail="told"), NOW)
    assert line.verdict is Verdict.FAIL
    assert line.fix
    assert line.who
    assert line.found.startswith(fault)


@pytest.mark.parametrize(("days", "verdict"), [(90, Verdict.PASS), (14, Verdict.PASS), (13, Verdict.WARN)])
def test_what_was_agreed_is_told_with_issuer_and_days_left(days: int, verdict: Verdict) -> None:
    agreed = replace(AGREED, not_after=NOW + timedelta(days=days))
    line = judge_tls(AGENCY, replace(REACHED, secured=MOMENT, handshake=agreed), NOW)
    assert line.verdict is verdict
    assert "TLSv1.3 (TLS_AES_256_GCM_SHA384)" in line.found
    assert "Some Public CA" in line.found
    assert line.measured == {"certificate_left_days": days}


def test_tls_is_skipped_where_the_port_is_not_reached() -> None:
    line = judge_tls(AGENCY, Probe("m2m.example", 443, fault=Fault.REFUSED), NOW)
    assert (line.verdict, line.found) == (Verdict.SKIP, "needs reach.agency")


def test_what_a_conversation_needs_is_named() -> None:
    closed, open_, secure = Probe("a", 1, fault=Fault.REFUSED), replace(REACHED, fault=Fault.EXPIRED), REACHED
    wanted = [(closed, "needs reach.agency"), (open_, "needs tls.agency"), (secure, None)]
    assert [(one, Reached({AGENCY: one}).needs(Check.REACH_AGENCY)) for one, _ in wanted] == wanted
    assert Reached({}).needs(Check.REACH_AGENCY) == "needs reach.agency"


@pytest.mark.parametrize(
    ("seconds", "verdict", "words"),
    [
        (0, Verdict.PASS, "as the agency's"),
        (30, Verdict.WARN, "30 s behind the agency's"),
        (-30, Verdict.WARN, "30 s ahead of the agency's"),
        (600, Verdict.FAIL, "10 min behind the agency's"),
    ],
)
def test_a_clock_that_is_wrong_is_told_with_its_direction(seconds: int, verdict: Verdict, words: str) -> None:
    line = judge_clock(Check.CLOCK_AGENCY, timedelta(seconds=seconds), "the agency")
    assert line.verdict is verdict
    assert words in line.found
    assert line.measured == {"skew_seconds": seconds}
    assert ("NTP" in line.fix) is (verdict is not Verdict.PASS)


@pytest.mark.parametrize(
    ("status", "verdict"), [(200, Verdict.PASS), (405, Verdict.PASS), (410, Verdict.FAIL), (503, Verdict.WARN)]
)
def test_any_answer_but_gone_shows_that_the_token_service_is_there(status: int, verdict: Verdict) -> None:
    assert judge_sts_answer("https://sts.example", status, MOMENT).verdict is verdict


@pytest.mark.parametrize(("status", "verdict"), [(200, Verdict.PASS), (403, Verdict.WARN), (404, Verdict.WARN)])
def test_an_agency_that_does_not_describe_its_service_is_a_warning(status: int, verdict: Verdict) -> None:
    assert judge_agency_answer("https://m2m.example/x?wsdl", status, MOMENT).verdict is verdict


def test_sweeps_that_nobody_runs_are_a_warning() -> None:
    ran = dict.fromkeys(SweepKind, NOW - timedelta(minutes=1))
    assert judge_sweeps(ran, NOW - timedelta(days=9), NOW).verdict is Verdict.PASS
    assert judge_sweeps({}, NOW - timedelta(minutes=1), NOW).verdict is Verdict.PASS
    line = judge_sweeps({}, NOW - timedelta(days=9), NOW)
    assert line.verdict is Verdict.WARN
    assert "for 9 d 0 h nobody has looked for: attempt.open" in line.found


DATABASE = DatabaseView("PostgreSQL", "17.2 (Debian)", "0001", (), (), timedelta(0), MOMENT)


@pytest.mark.parametrize(
    ("view", "check", "verdict", "words"),
    [
        (DATABASE, Check.MIGRATIONS, Verdict.PASS, "0001"),
        (DATABASE, Check.PARTITIONS, Verdict.PASS, "are there"),
        (replace(DATABASE, version="9.6.24"), Check.DATABASE, Verdict.FAIL, "9.6.24"),
        (replace(DATABASE, lacking=("0002", "0003")), Check.MIGRATIONS, Verdict.FAIL, "0002, 0003"),
        (replace(DATABASE, revision=None, lacking=("0001",)), Check.PARTITIONS, Verdict.SKIP, "database.migrations"),
        (replace(DATABASE, unpartitioned=("attempt_202612",)), Check.PARTITIONS, Verdict.WARN, "attempt_202612"),
        (replace(DATABASE, skew=timedelta(seconds=40)), Check.DATABASE_CLOCK, Verdict.WARN, "40 s ahead of"),
        (replace(DATABASE, skew=timedelta(seconds=-40)), Check.DATABASE_CLOCK, Verdict.WARN, "40 s behind"),
        (replace(DATABASE, server="SQLite", version="3.46.1", skew=None), Check.PARTITIONS, Verdict.SKIP, "SQLite"),
    ],
)
def test_the_database_is_judged_by_what_it_shows(
    view: DatabaseView, check: Check, verdict: Verdict, words: str
) -> None:
    line = next(line for line in judge_database(view) if line.check is check)
    assert line.verdict is verdict, line
    assert words in line.found


@pytest.mark.parametrize(
    ("found", "verdict"), [(None, Verdict.PASS), ("evte", Verdict.PASS), ("production", Verdict.FAIL)]
)
def test_a_ledger_of_another_environment_is_told(found: str | None, verdict: Verdict) -> None:
    assert judge_environment(found, "evte").verdict is verdict


BROKER = BrokerView("RabbitMQ", "4.1.0", {"lodge.seal": 3, "lodge.quarantine": 0}, 0, (), {}, None, 0.1)


@pytest.mark.parametrize(
    ("view", "check", "verdict", "words"),
    [
        (BROKER, Check.BROKER, Verdict.PASS, "RabbitMQ 4.1.0"),
        (replace(BROKER, version="3.10.8"), Check.BROKER, Verdict.PASS, "3.10.8"),
        (replace(BROKER, version="3.9.29"), Check.BROKER, Verdict.FAIL, "3.9.29"),
        (replace(BROKER, product="LavinMQ", version="5.0"), Check.BROKER, Verdict.FAIL, "LavinMQ"),
        (replace(BROKER, absent=("lodge.seal",)), Check.TOPOLOGY, Verdict.WARN, "lodge.seal"),
        (replace(BROKER, different={"lodge.seal": "406"}), Check.TOPOLOGY, Verdict.FAIL, "lodge.seal: 406"),
        (BROKER, Check.QUEUES, Verdict.PASS, "seal 3, quarantine 0"),
        (replace(BROKER, quarantined=2), Check.QUEUES, Verdict.WARN, "2 message(s) in quarantine"),
        (replace(BROKER, depths={"lodge.seal": 200_000}), Check.QUEUES, Verdict.WARN, "seal 200000"),
        (replace(BROKER, alarm="low on memory"), Check.ALARM, Verdict.FAIL, "low on memory"),
    ],
)
def test_the_broker_is_judged_by_what_it_shows(view: BrokerView, check: Check, verdict: Verdict, words: str) -> None:
    line = next(line for line in judge_broker(view, "broker:5672", "lodge.") if line.check is check)
    assert line.verdict is verdict, line
    assert words in line.found
    assert line.subject == "broker:5672"


@pytest.mark.parametrize(
    ("kind", "code", "who", "roles"),
    [
        (FailureClass.OUR_CREDENTIAL, "E2003", Party.OPERATOR, (Role.OPERATOR, *PERMITTERS)),
        (FailureClass.OUR_CREDENTIAL, "E2015", Party.OPERATOR, (Role.OPERATOR, *RENEWERS)),
        (FailureClass.OUR_CREDENTIAL, "E2169", Party.OPERATOR, (Role.OPERATOR, *RENEWERS)),
        (FailureClass.OUR_CREDENTIAL, "keystore.not-found", Party.OPERATOR, (Role.OPERATOR,)),
        (FailureClass.THEIR_PERMISSION, "SBR.GEN.AUTH.006", Party.EMPLOYER, (*PERMITTERS, Role.EMPLOYER)),
        (FailureClass.UNAVAILABLE, "http.503", Party.AGENCY, (Role.AGENCY,)),
        (FailureClass.UNKNOWN, "transport.reset", Party.NOBODY, ()),
    ],
)
def test_a_failure_names_the_roles_that_can_mend_it(
    kind: FailureClass, code: str, who: Party, roles: tuple[Role, ...]
) -> None:
    assert roles_of(Failure(kind, code, "", "advice", who)) == roles


def test_only_what_is_not_well_says_why_it_matters() -> None:
    assert passed(Check.PING, "echoed").meaning == ""
    assert failed(Check.PING, "refused", "fix", Role.AGENCY).meaning == MEANING[Check.PING]
    assert set(MEANING) == set(Check)


def test_the_handbook_lists_every_check_and_no_other() -> None:
    handbook = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
    section = handbook.partition("\n## The doctor\n")[2].partition("\n## ")[0]
    listed = re.findall(r"^\| `([a-z_]+\.[a-z_]+)` \|", section, re.MULTILINE)
    assert listed == [str(check) for check in Check]
    assert all(f"`{role}`" in section for role in Role)
