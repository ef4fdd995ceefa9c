"""`lodge doctor` and `lodge ping` against a sandbox that runs, and against nobody."""

from pathlib import Path

from tests.acceptance.cli.conftest import Lodge

NOBODY = "https://localhost:9"


def test_the_doctor_finds_nothing_wrong_with_the_sandbox(lodge: Lodge) -> None:
    left = lodge("doctor", "--json")
    assert left.code == 0, left.out
    checks = {line["check"]: line["verdict"] for line in left.json()}
    wanted = ["settings", "ledger", "broker", "keystore", "credential", "agency", "clock", "token", "ping"]
    assert checks == dict.fromkeys([*wanted, "token service"], "pass")


def test_the_doctor_says_what_to_do_when_nobody_answers(lodge: Lodge) -> None:
    left = lodge("doctor", LODGE_SANDBOX_URL=NOBODY)
    assert left.code == 1
    assert "FAIL agency         transport.connect" in left.out
    assert "→ Start it: lodge sandbox serve (acts: operator)" in left.out


def test_the_doctor_asks_nobody_when_told_not_to(lodge: Lodge) -> None:
    left = lodge("doctor", "--offline", LODGE_SANDBOX_URL=NOBODY)
    assert left.code == 0
    assert "SKIP network" in left.out


def test_the_doctor_tells_a_wrong_authority_from_a_dead_host(lodge: Lodge, sandbox_settings: Path) -> None:
    left = lodge("doctor", LODGE_SETTINGS_FILE=str(sandbox_settings))
    assert left.code == 1
    assert "FAIL agency         transport.certificate" in left.out


def test_the_doctor_names_a_setting_that_is_wrong(lodge: Lodge) -> None:
    left = lodge("doctor", LODGE_ENVIRONMENT="evte")
    assert left.code == 1
    assert "environment: 'evte' is not described in [environments]" in left.out


def test_a_ping_comes_back(lodge: Lodge) -> None:
    left = lodge("ping")
    assert left.code == 0, left.err
    assert "echoed under" in left.out


def test_a_ping_to_nobody_says_who_must_act(lodge: Lodge) -> None:
    left = lodge("ping", LODGE_SANDBOX_URL=NOBODY)
    assert left.code == 1
    assert left.err.startswith("lodge: token: ")
    assert left.err.count("\n") == 1
