"""What the doctor says of settings and machine before any key or connection."""

from pathlib import Path

import pytest

from pipeline.interfaces.cli.doctor.line import Verdict
from pipeline.interfaces.cli.doctor.setup import (
    judge_disk,
    judge_libraries,
    judge_payload_roots,
    judge_proxies,
    judge_trust,
    judge_variables,
    settings_lines,
)
from pipeline.lodgment.errors import ConfigurationError
from pipeline.protocol.libraries import XmlLibraries, xml_libraries


@pytest.mark.parametrize(
    ("names", "verdict", "words"),
    [
        ((), Verdict.PASS, "no LODGE_… variable"),
        (("LODGE_HOME", "LODGE_ENVIRONMENTS__EVTE__AGENCY_URL", "PATH"), Verdict.PASS, "LODGE_HOME"),
        (("LODGE_SETTINGS_FILE", "lodge_home"), Verdict.PASS, "LODGE_HOME"),
        (("LODGE_BROKER_URL",), Verdict.WARN, "LODGE_BROKER_URL is no setting (meant: LODGE_BROKER_URLS?)"),
        (("LODGE_ENVIROMENT",), Verdict.WARN, "(meant: LODGE_ENVIRONMENT?)"),
        (("LODGE_XYZZY",), Verdict.WARN, "LODGE_XYZZY is no setting"),
    ],
)
def test_a_variable_that_is_no_setting_is_told_with_the_nearest(
    names: tuple[str, ...], verdict: Verdict, words: str
) -> None:
    line = judge_variables(names)
    assert line.verdict is verdict
    assert words in line.found


def test_settings_that_are_wrong_say_which_and_hide_no_other_line() -> None:
    wrong = ConfigurationError("settings.invalid", "settings: batch: must be at least 1")
    lines = {str(line.check): line for line in settings_lines(wrong, {"LODGE_BATCH": "0"})}
    assert lines["settings.fields"].verdict is Verdict.FAIL
    assert "batch" in lines["settings.fields"].found
    assert lines["settings.file"].verdict is Verdict.PASS


def test_a_settings_file_that_is_not_there_fails_and_its_fields_are_skipped() -> None:
    gone = ConfigurationError("settings.file", "LODGE_SETTINGS_FILE: there is no file /nowhere")
    lines = {str(line.check): line.verdict for line in settings_lines(gone, {"LODGE_SETTINGS_FILE": "/nowhere"})}
    assert lines == {
        "settings.file": Verdict.FAIL,
        "settings.variables": Verdict.PASS,
        "settings.fields": Verdict.SKIP,
    }


@pytest.mark.parametrize(
    ("libraries", "verdict", "words"),
    [
        (XmlLibraries((2, 14, 6), (2, 14, 6)), Verdict.PASS, "share libxml2 2.14.6"),
        (XmlLibraries((2, 14, 6), (2, 12, 9)), Verdict.FAIL, "lxml has libxml2 2.14.6, xmlsec has 2.12.9"),
        (XmlLibraries((2, 14, 6), None, "lxml & xmlsec libxml2 library version mismatch"), Verdict.FAIL, "mismatch"),
    ],
)
def test_two_libxml2_in_one_process_are_told(libraries: XmlLibraries, verdict: Verdict, words: str) -> None:
    line = judge_libraries(libraries)
    assert line.verdict is verdict
    assert words in line.found


def test_the_libraries_of_this_machine_are_one() -> None:
    assert judge_libraries(xml_libraries()).verdict is Verdict.PASS


def test_a_proxy_is_named_as_ignored_and_its_password_is_not_shown() -> None:
    line = judge_proxies({"HTTPS_PROXY": "http://user:hunter2@proxy.example", "no_proxy": "x", "PATH": "/bin"})
    assert line.verdict is Verdict.PASS
    assert "HTTPS_PROXY: ignored" in line.found
    assert "hunter2" not in line.found
    assert "no proxy" in judge_proxies({"PATH": "/bin"}).found


@pytest.mark.parametrize(
    ("variables", "ca_file", "verdict"),
    [
        ((), None, Verdict.PASS),
        (("SSL_CERT_FILE",), None, Verdict.WARN),
        (("SSL_CERT_DIR",), None, Verdict.WARN),
        (("SSL_CERT_FILE",), Path("/etc/lodge/ca.pem"), Verdict.PASS),
    ],
)
def test_authorities_that_the_environment_puts_in_are_told(
    variables: tuple[str, ...], ca_file: Path | None, verdict: Verdict
) -> None:
    assert judge_trust(variables, ca_file).verdict is verdict


@pytest.mark.parametrize(
    ("free", "verdict"),
    [(50_000_000_000, Verdict.PASS), (1_000_000_000, Verdict.WARN), (100_000_000, Verdict.FAIL), (0, Verdict.FAIL)],
)
def test_a_disk_that_runs_full_is_told_in_time(free: int, verdict: Verdict) -> None:
    line = judge_disk(Path("/var/lodge"), free, 100_000_000_000)
    assert line.verdict is verdict
    assert line.measured == {"free_bytes": free, "total_bytes": 100_000_000_000}


def test_payload_roots_are_told_one_by_one() -> None:
    assert judge_payload_roots({}).verdict is Verdict.PASS
    assert judge_payload_roots({Path("/in"): ""}).verdict is Verdict.PASS
    line = judge_payload_roots({Path("/in"): "", Path("/gone"): "is not there"})
    assert (line.verdict, line.found) == (Verdict.FAIL, "/gone is not there")
