"""`lodge doctor` and `lodge ping` as they are typed: against a sandbox that runs, against nobody, and with flaws."""

import shutil
import socket
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import psycopg
import pytest

from pipeline.broker.topology import Topology
from pipeline.interfaces.cli.doctor.catalogue import Check
from tests.acceptance.cli.conftest import Left, Lodge, Sandbox
from tests.services.processes import free_port

NOBODY = "https://localhost:9"
FIELDS = {"check", "subject", "verdict", "found", "meaning", "fix", "who", "measured"}


def verdicts(left: Left) -> dict[str, str]:
    return {line["check"]: line["verdict"] for line in left.json()}


def failures(left: Left) -> set[str]:
    return {check for check, verdict in verdicts(left).items() if verdict == "fail"}


def line_of(left: Left, check: str) -> dict[str, object]:
    (found,) = [line for line in left.json() if line["check"] == check]
    return dict(found)


def content_of(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(one): (one.stat().st_mtime_ns, one.stat().st_size) for one in folder.rglob("*")}


@pytest.fixture
def own_sandbox_files(lodge: Lodge, sandbox: Sandbox) -> Path:
    """A copy of the sandbox's folder, to spoil."""
    home = lodge.folder / "var" / "sandbox"
    home.unlink()
    shutil.copytree(sandbox.home, home)
    return home


@pytest.fixture
def served(lodge: Lodge, amqp_url: str, topology: Topology, postgres_url: str) -> Iterator[Lodge]:
    """The command with RabbitMQ and a PostgreSQL database of its own in the settings; nothing is migrated yet."""
    name = f"lodge_test_{uuid4().hex}"
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    lodge.environment |= {
        "LODGE_BROKER_URLS": amqp_url,
        "LODGE_NAMESPACE": topology.namespace,
        "LODGE_LEDGER_URL": urlsplit(postgres_url)._replace(path=f"/{name}").geturl(),
        "LODGE_MASTER_KEY_FILE": str(lodge.folder / "master.key"),
    }
    assert lodge("master-key", "master.key").code == 0
    yield lodge
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def test_the_doctor_finds_nothing_wrong_with_the_sandbox_and_leaves_no_trace(lodge: Lodge) -> None:
    before = content_of(lodge.folder)
    left = lodge("doctor", "--json")
    assert left.code == 0, left.out
    assert set(verdicts(left).values()) == {"pass", "skip"}
    assert {"endpoint.applies_to", "keys.chain", "tls.sts", "sts.token", "agency.ping"} <= {
        check for check, verdict in verdicts(left).items() if verdict == "pass"
    }
    assert content_of(lodge.folder) == before


def test_every_check_is_told_once_with_the_fields_of_the_handbook(lodge: Lodge) -> None:
    lines = lodge("doctor", "--json").json()
    assert [line["check"] for line in lines if not line["subject"]].count("keys.expiry") == 1
    assert {line["check"] for line in lines} == {str(check) for check in Check}
    assert all(set(line) == FIELDS for line in lines)
    assert all(bool(line["meaning"]) is (line["verdict"] in {"warn", "fail"}) for line in lines)
    token = next(line for line in lines if line["check"] == "sts.token")
    assert set(token["measured"]) == {"name_seconds", "tcp_seconds", "tls_seconds", "answer_seconds"}


def test_a_sandbox_that_is_down_fails_at_its_port_and_hides_nothing_else(lodge: Lodge) -> None:
    left = lodge("doctor", "--json", LODGE_SANDBOX_URL=NOBODY)
    assert left.code == 1
    assert failures(left) == {"reach.sts", "reach.agency"}
    assert verdicts(left)["keys.chain"] == "pass"
    assert line_of(left, "sts.token")["found"] == "needs reach.sts"
    assert line_of(left, "reach.agency")["fix"] == "Start it: lodge sandbox serve"
    told = lodge("doctor", LODGE_SANDBOX_URL=NOBODY).out
    assert "→ Start it: lodge sandbox serve (acts: operator)" in told
    assert "= Nothing can be lodged: lodgments wait." in told


def test_the_doctor_opens_no_connection_when_told_not_to(lodge: Lodge) -> None:
    left = lodge("doctor", "--offline", "--json", LODGE_SANDBOX_URL=NOBODY)
    assert left.code == 0
    assert verdicts(left)["keys.unlock"] == "pass"
    online = {check for check in verdicts(left) if check.startswith(("reach.", "tls.", "sts.", "agency.", "clock."))}
    assert {verdicts(left)[check] for check in online} == {"skip"}


def test_a_sandbox_that_was_never_started_is_told_and_not_made(tmp_path: Path) -> None:
    fresh = Lodge(tmp_path, {})
    left = fresh("doctor", "--json")
    assert left.code == 1
    assert failures(left) == {"settings.environment"}
    assert line_of(left, "settings.environment")["fix"] == "lodge sandbox serve"
    assert list(tmp_path.iterdir()) == []


def test_the_doctor_tells_a_wrong_authority_from_a_dead_host(lodge: Lodge, sandbox_settings: Path) -> None:
    left = lodge("doctor", "--json", LODGE_SETTINGS_FILE=str(sandbox_settings))
    assert left.code == 1
    assert failures(left) == {"tls.sts", "tls.agency"}
    assert str(line_of(left, "tls.sts")["found"]).startswith("unknown-issuer")
    assert line_of(left, "agency.answer")["found"] == "needs tls.agency"


def test_the_doctor_names_an_environment_that_is_not_described(lodge: Lodge) -> None:
    left = lodge("doctor", "--json", LODGE_ENVIRONMENT="evte")
    assert left.code == 1
    assert "'evte' is not described in [environments]" in str(line_of(left, "settings.environment")["found"])
    assert verdicts(left)["machine.libraries"] == "pass"


def test_the_doctor_names_a_field_that_is_wrong_and_still_looks_at_the_machine(lodge: Lodge) -> None:
    left = lodge("doctor", "--json", LODGE_BATCH="0", LODGE_BROKER_URL="amqp://guest:hunter2@localhost/")
    assert left.code == 1
    assert failures(left) == {"settings.fields"}
    assert "batch" in str(line_of(left, "settings.fields")["found"])
    assert verdicts(left)["settings.variables"] == "warn"
    assert verdicts(left)["machine.libraries"] == "pass"
    assert "hunter2" not in left.out + left.err


def test_an_address_without_tls_is_refused_by_its_name(lodge: Lodge, sandbox_settings: Path) -> None:
    text = sandbox_settings.read_text().replace('sts_url = "https://', 'sts_url = "http://')
    sandbox_settings.write_text(text)
    left = lodge("doctor", "--json", LODGE_SETTINGS_FILE=str(sandbox_settings))
    assert failures(left) == {"settings.fields"}
    assert "sts_url" in str(line_of(left, "settings.fields")["found"])


def test_the_dead_host_is_told_with_the_one_in_its_place_and_nobody_is_asked(
    lodge: Lodge, sandbox_settings: Path
) -> None:
    text = sandbox_settings.read_text().replace("https://m2m.sandbox.asic.invalid", "https://sbr.gov.au/services/")
    lines = [line for line in text.splitlines() if not line.startswith("sts_url")]
    dead = 'sts_url = "https://softwareauthorisations.acc.ato.gov.au/R3.0/S007v1.3/service.svc"'
    sandbox_settings.write_text("\n".join([*lines, dead]))
    left = lodge("doctor", "--offline", "--json", LODGE_SETTINGS_FILE=str(sandbox_settings))
    assert failures(left) == {"endpoint.sts", "endpoint.applies_to", "endpoint.stages"}
    assert "softwareauthorisations.evte.ato.gov.au/R3.0/S007v1.3/service.svc" in str(
        line_of(left, "endpoint.sts")["fix"]
    )


def test_a_wrong_password_is_told_once_and_the_network_is_still_looked_at(
    lodge: Lodge, own_sandbox_files: Path
) -> None:
    (own_sandbox_files / "keystore.password").write_text("swordfish")
    left = lodge("doctor", "--json")
    assert left.code == 1
    assert failures(left) == {"keys.unlock"}
    assert line_of(left, "keys.unlock")["who"] == [
        "operator",
        "principal_authority",
        "machine_credential_administrator",
    ]
    assert (verdicts(left)["tls.agency"], verdicts(left)["agency.answer"]) == ("pass", "pass")
    assert line_of(left, "sts.token")["found"] == "needs keys.credential"
    assert "swordfish" not in left.out + left.err


def test_key_files_that_others_can_read_are_told_with_the_command_that_mends_them(
    lodge: Lodge, own_sandbox_files: Path
) -> None:
    password, keystore = own_sandbox_files / "keystore.password", own_sandbox_files / "keystore.xml"
    password.chmod(0o644)
    keystore.chmod(0o666)
    left = lodge("doctor", "--json")
    assert failures(left) == {"keys.password_file", "keys.keystore_file"}
    assert f"chmod 600 {password}" in str(line_of(left, "keys.password_file")["found"])
    assert line_of(left, "keys.keystore_file")["fix"] == f"Run chmod 600 {keystore}"


def test_a_credential_that_the_token_service_refuses_is_told_with_who_renews_it(lodge: Lodge, sandbox: Sandbox) -> None:
    text = (sandbox.home / "credentials.json").read_text()
    assert "SyntheticRevoked" in text
    settings = lodge.folder / "revoked.toml"
    settings.write_text(
        f"""
environment = "elsewhere"
[environments.elsewhere]
agency_url = "{sandbox.url}"
sts_url = "{sandbox.url}/R3.0/S007v1.3/service.svc"
applies_to = "https://m2m.sandbox.asic.invalid"
ca_file = "{sandbox.home}/ca.pem"
keystore = "{sandbox.home}/keystore.xml"
keystore_password_file = "{sandbox.home}/keystore.password"
credential = "47999000005"
"""
    )
    left = lodge("doctor", "--json", LODGE_SETTINGS_FILE=str(settings))
    assert failures(left) == {"sts.token"}
    assert "principal_authority" in str(line_of(left, "sts.token")["who"])
    assert verdicts(left)["agency.answer"] == "pass"


def test_the_doctor_looks_at_broker_and_database_and_changes_neither(served: Lodge) -> None:
    left = served("doctor", "--json")
    assert failures(left) == {"database.migrations"}
    assert "0001" in str(line_of(left, "database.migrations")["found"])
    assert verdicts(left)["broker.topology"] == "warn"
    again = served("doctor", "--json")
    assert verdicts(again) == verdicts(left)
    assert served("db", "upgrade").code == 0
    migrated = served("doctor", "--json")
    assert migrated.code == 0, migrated.out
    assert {verdicts(migrated)[check] for check in ("database.migrations", "database.partitions")} == {"pass"}
    assert verdicts(migrated)["database.master_key"] == "pass"


def test_servers_that_are_away_cost_their_own_lines_alone_and_no_time(served: Lodge) -> None:
    begun = time.monotonic()
    left = served(
        "doctor",
        "--json",
        LODGE_BROKER_URLS=f"amqp://guest:hunter2@127.0.0.1:{free_port()}/",
        LODGE_LEDGER_URL=f"postgresql://lodge:hunter2@127.0.0.1:{free_port()}/lodge",
    )
    assert failures(left) == {"reach.broker", "reach.database"}
    assert verdicts(left)["agency.ping"] == "pass"
    assert line_of(left, "reach.database")["who"] == ["operator", "database_administrator"]
    assert "hunter2" not in left.out + left.err
    assert time.monotonic() - begun < 60


def test_a_ledger_sealed_under_another_master_key_is_told(lodge: Lodge) -> None:
    assert lodge("example").code == 0
    sound = lodge("doctor", "--json")
    assert sound.code == 0, sound.out
    assert verdicts(sound)["database.master_key"] == "pass"
    with sqlite3.connect(lodge.folder / "var" / "ledger.sqlite3") as ledger:
        assert ledger.execute("SELECT count(*) FROM artifact").fetchone()[0] > 0
    (lodge.folder / "var" / "master.key").unlink()
    assert lodge("master-key", "var/master.key").code == 0
    left = lodge("doctor", "--json")
    assert failures(left) == {"database.master_key"}


def test_a_ping_comes_back(lodge: Lodge) -> None:
    left = lodge("ping")
    assert left.code == 0, left.err
    assert "echoed under" in left.out


def test_a_ping_to_nobody_says_who_must_act(lodge: Lodge) -> None:
    left = lodge("ping", LODGE_SANDBOX_URL=NOBODY)
    assert left.code == 1
    assert left.err.startswith("lodge: token: ")
    assert left.err.count("\n") == 1


def test_servers_that_take_connections_and_say_nothing_are_given_up_one_by_one(served: Lodge) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=50) as mute:
        port = mute.getsockname()[1]
        begun = time.monotonic()
        left = served(
            "doctor",
            "--json",
            LODGE_SANDBOX_URL=f"https://127.0.0.1:{port}",
            LODGE_BROKER_URLS=f"amqp://guest:hunter2@127.0.0.1:{port}/",
            LODGE_LEDGER_URL=f"postgresql://lodge:hunter2@127.0.0.1:{port}/lodge",
        )
        assert time.monotonic() - begun < 100
    assert failures(left) == {"tls.sts", "tls.agency", "database.connect", "broker.connect"}
    assert len(verdicts(left)) == len(Check)
    assert "hunter2" not in left.out + left.err
