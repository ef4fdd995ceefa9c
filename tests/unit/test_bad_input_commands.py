"""Bad input to commands, in settings and files: told with field and rule, without a traceback; nothing is touched."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pipeline.interfaces.cli import main
from pipeline.profiles import environment_of
from pipeline.settings import Settings
from tests.doubles.jobs import ABN, document, job
from tests.doubles.lodgments import NOW

TERMS = ("--sender-id", "SYNTHETIC-1", "--sender-type", "REGA", "--abn", ABN)
HEADER = "job_id,channel,service,action,sender.id,sender.type,employer.abn,payload.file"
ROW = f"m-1,asic_bn,business-names,bnLodgeApplication,SYNTHETIC-1,REGA,{ABN}"


def submit(*arguments: str) -> tuple[str, ...]:
    return ("submit", *arguments, *TERMS)


def manifest(file: str) -> Mapping[str, str | bytes]:
    return {"in.csv": f"{HEADER}\n{ROW},{file}\n"}


@dataclass(frozen=True)
class Case:
    """A command, the files and variables that it finds, and what it must say."""

    name: str
    arguments: tuple[str, ...]
    words: tuple[str, ...]
    code: int = 2
    files: Mapping[str, str | bytes] = field(default_factory=dict)
    variables: Mapping[str, str] = field(default_factory=dict)


def setting(name: str, variable: str, value: str, *words: str, command: tuple[str, ...] = ("status",)) -> Case:
    return Case(f"{name}-{value[:20]}", command, words, variables={variable: value})


def toml(name: str, content: str | bytes, *words: str) -> Case:
    variables = {"LODGE_SETTINGS_FILE": "lodge.toml"}
    return Case(f"toml-{name}", ("status",), words, files={"lodge.toml": content}, variables=variables)


PUSH = submit("one.xml")
SETTINGS = (
    setting("batch", "LODGE_BATCH", "many", "settings: batch:", "integer", "[settings.invalid]"),
    setting("rate", "LODGE_STS_RATE", "nan", "sts_rate:", "1000"),
    setting("stuck", "LODGE_STUCK_AFTER", "PT0S", "stuck_after:", "greater than 0"),
    setting("stuck", "LODGE_STUCK_AFTER", "soon", "stuck_after:", "timedelta"),
    setting("sweep", "LODGE_SWEEP_EVERY", "-PT1S", "sweep_every:", "greater than 0"),
    setting("port", "LODGE_METRICS_PORT", "99999", "metrics_port:", "65535"),
    setting("namespace", "LODGE_NAMESPACE", "A B", "namespace:", "pattern"),
    setting("level", "LODGE_LOG_LEVEL", "loud", "log_level:", "'warning'"),
    setting("json", "LODGE_ENVIRONMENTS", "{bad", "LODGE_ENVIRONMENTS:", "must be JSON"),
    setting("json-deep", "LODGE_ENVIRONMENTS", "[" * 100_000, "settings:", "nested too deep"),
    setting("section", "LODGE_SOFTWARE", "{}", "software.organisation: Field required"),
    setting("sandbox", "LODGE_SANDBOX_URL", "ftp://x", "sandbox_url:", "^https://"),
    setting("sandbox", "LODGE_SANDBOX_URL", "https://h:port", "sandbox_url:", "https://host:port", "65535"),
    setting("sandbox", "LODGE_SANDBOX_URL", "https://[x", "sandbox_url:", "https://host"),
    setting("sandbox", "LODGE_SANDBOX_URL", "https://", "sandbox_url:", "https://host"),
    setting("ledger", "LODGE_LEDGER_URL", "mysql://x/y", "ledger_url:", "postgresql://", command=("db", "current")),
    setting("ledger", "LODGE_LEDGER_URL", "nonsense", "ledger_url:", "sqlite:///", command=("db", "current")),
    setting("ledger", "LODGE_LEDGER_URL", "postgresql://u:p@h:port/x", "ledger_url:", command=("db", "current")),
    setting("home", "LODGE_HOME", "/dev/null", "/dev/null", "LODGE_HOME", "[file.os]", command=("db", "upgrade")),
    setting("home", "LODGE_HOME", "/proc/none", "/proc/none", "[file.os]", command=("db", "upgrade")),
    setting("environment", "LODGE_ENVIRONMENT", "evte", "environment: 'evte' is not described", command=PUSH),
    toml("latin-1", b"\xff\xfe", "LODGE_SETTINGS_FILE: lodge.toml", "not UTF-8", "[settings.file]"),
    toml("half", "a = [", "lodge.toml is no TOML"),
    toml("deep", "a = " + "[" * 100_000, "nested too deep"),
    toml("unknown", "colour = 1", "settings: colour:", "not permitted"),
    toml("types", "batch = 'many'\nin_flight = []", "in_flight:", "batch:"),
    toml("http", "[environments.evte]\nagency_url = 'http://x'", "environments.evte.agency_url:", "^https://"),
    toml("no-host", "[environments.evte]\nagency_url = 'https://'", "agency_url: must be https://host"),
    toml("too-long", "[environments.evte]\nagency_timeout = 601", "agency_timeout:", "less than or equal to"),
)
ARGUMENTS = (
    Case("no-command", ("nonsense",), ("No such command",)),
    Case("label", submit("one.xml", "--label", "=x"), ("--label: must be NAME=VALUE",)),
    Case("label-long", submit("one.xml", "--label", f"a={'x' * 201}"), ("labels.a:", "200")),
    Case("due-date", submit("one.xml", "--due-date", "tomorrow"), ("--due-date:", "date")),
    Case("order-key", submit("one.xml", "--order-key", "a\tb"), ("--order-key:", "control characters")),
    Case("credential", submit("one.xml", "--credential", "x" * 201), ("--credential:", "200")),
    Case("channel", submit("one.xml", "--channel", "a b"), ("--channel:", "letter or digit")),
    Case("timeout", submit("one.xml", "--timeout", "nan"), ("--timeout", "greater than or equal to 0")),
    Case("path-nul", submit("a\0b.xml"), ("PATH:", "NUL")),
    Case("expiring", ("tokens", "--expiring", "9" * 14), ("--expiring", "525600")),
    Case("days", ("status", "--days", "9" * 11), ("--days", "36500")),
    Case("due-within", ("status", "--due-within", "9" * 11), ("--due-within", "36500")),
    Case("keystore-days", ("sandbox", "keystore", "k.xml", "--days", "9" * 11), ("--days", "36500")),
    Case("keystore-abn", ("sandbox", "keystore", "k.xml", "--abn", "1"), ("--abn: '1' is no ABN",)),
    Case("serve-port", ("sandbox", "serve", "--port", "99999"), ("--port", "65535")),
    Case("metrics-port", ("worker", "intake", "--metrics-port", "-4"), ("--metrics-port", "1")),
    Case("patience", ("example", "--patience", "nan"), ("--patience", "86400")),
    Case("revision", ("db", "upgrade", "nope"), ("revision: there is no 'nope'", "0001", "[db.revision]")),
    Case("revision-empty", ("db", "upgrade", ""), ("revision: there is no ''",)),
    Case("software-id", ("software-ids", "check", "\0"), ("ID: must be exactly 10 digits",)),
    Case("warm-at", ("tokens", "warm", "x", "--at", "never"), ("--at", "%Y-%m-%dT")),
    Case("warm-file", ("tokens", "warm", "nofile"), ("nofile cannot be read: No such file",)),
    Case("warm-latin", ("tokens", "warm", "a.csv"), ("a.csv", "not CSV in UTF-8"), files={"a.csv": b"\xff"}),
    Case("master-key", ("master-key", "none/x"), ("none/x cannot be written: No such file",)),
)
INPUTS = (
    Case("nothing-there", submit("no.xml"), ("no.xml: cannot be read: No such file",), 1),
    Case("device", submit("/dev/zero"), ("/dev/zero: cannot be read: it is not a regular file",), 1),
    Case("memory", submit("/proc/self/mem"), ("/proc/self/mem: cannot be read:",), 1),
    Case("empty", submit("a.xml"), ("a.xml: payload: the payload is empty",), 1, {"a.xml": ""}),
    Case("no-xml", submit("a.xml"), ("a.xml: payload:", "well-formed", "line 1"), 1, {"a.xml": b"\0" * 9}),
    Case("doctype", submit("a.xml"), ("a document type declaration", "remove"), 1, {"a.xml": "<!DOCTYPE a><a/>"}),
    Case("root", submit("a.xml"), ("root element must be businessDocumentBody",), 1, {"a.xml": "<a/>"}),
    Case("delimiter", submit("a.xml"), ("DocumentType",), 1, {"a.xml": '<Record_Delimiter DocumentID="1"/>'}),
    Case("csv-empty", submit("in.csv"), ("in.csv, row 1: the manifest is empty",), 1, {"in.csv": ""}),
    Case("csv-latin", submit("in.csv"), ("in.csv", "not UTF-8"), 1, {"in.csv": b"\xff"}),
    Case("csv-quote", submit("in.csv"), ("not readable as CSV",), 1, {"in.csv": 'job_id,channel\n"open,x\n'}),
    Case("csv-huge", submit("in.csv"), ("row 2: not readable as CSV",), 1, {"in.csv": f"job_id\n{'x' * 200_000}"}),
    Case("csv-column", submit("in.csv"), ("column 'labels.': no such job field",), 1, {"in.csv": "labels.\nx"}),
    Case("csv-branch", submit("in.csv"), ("column 'payload': no such job field",), 1, {"in.csv": "payload\nx"}),
    Case("csv-outside", submit("in.csv"), ("row 2: payload:", "well-formed"), 1, manifest("/etc/hostname")),
    Case("csv-folder", submit("in.csv"), ("payload.file: . cannot be read: Is a directory",), 1, manifest(".")),
    Case("csv-device", submit("in.csv"), ("payload.file: /dev/null", "regular"), 1, manifest("/dev/null")),
    Case("csv-nul", submit("in.csv"), ("payload.file:", "NUL"), 1, manifest("a\0b")),
    Case("csv-two", submit("in.csv"), ("column payload: give exactly one of",), 1,
         {"one.xml": document(), "in.csv": f"{HEADER},payload.inline\n{ROW},one.xml,<a/>\n"}),
    Case("lines-list", submit("in.ndjson"), ("in.ndjson, line 2:", "one JSON object"), 1, {"in.ndjson": "\n[]\n"}),
    Case("lines-latin", submit("in.ndjson"), ("line 1:", "not JSON"), 1, {"in.ndjson": b"\xff\n"}),
    Case("lines-deep", submit("in.ndjson"), ("line 1:", "not JSON"), 1, {"in.ndjson": '{"a":' * 90_000}),
    Case("lines-twice", submit("in.ndjson"), ("stands twice",), 1, {"in.ndjson": '{"a":1,"a":1}'}),
    Case("lines-version", submit("in.ndjson"), ("line 1: version:",), 1, {"in.ndjson": '{"version":2}'}),
    Case("one-bad-of-two", submit("in.ndjson"), ("line 2:", "NOTHING was submitted"), 1,
         {"in.ndjson": job("good") + b"\n" + job("bad", payload={"inline": "<a>"})}),
)  # fmt: skip
MASTER_KEY = {"LODGE_LEDGER_URL": "sqlite:///ledger.db", "LODGE_MASTER_KEY_FILE": "m.key"}
FILES = (
    Case("key-short", ("status",), ("m.key", "each line must be a key in base64"), 2, {"m.key": "short"}, MASTER_KEY),
    Case("key-32", ("status",), ("m.key: each key must have 32 bytes",), 2, {"m.key": "AAAA"}, MASTER_KEY),
    Case("key-bytes", ("status",), ("master key: cannot read m.key",), 2, {"m.key": b"\xff\xfe"}, MASTER_KEY),
    Case("key-empty", ("status",), ("master key: m.key is empty",), 2, {"m.key": "\n"}, MASTER_KEY),
    Case("key-none", ("status",), ("master key: cannot read m.key",), 2, {}, MASTER_KEY),
    Case("ledger-damaged", ("db", "current"), ("not a database", "restore it from a backup", "[ledger.damaged]"), 1,
         {"ledger.db": b"no database at all " * 500}, MASTER_KEY),
)  # fmt: skip
CASES = (*SETTINGS, *ARGUMENTS, *INPUTS, *FILES)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with the sandbox's keys in it, made once."""
    folder = tmp_path_factory.mktemp("home")
    environment_of(Settings(home=folder), NOW)
    return folder


def snapshot(*folders: Path) -> dict[Path, bytes | None]:
    return {
        path: path.read_bytes() if path.is_file() else None
        for folder in folders
        for path in sorted(folder.rglob("*"))
        if path.name not in {"spool", "embedded.lock"}
    }


@pytest.fixture
def place(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Mapping[str, str | bytes], Mapping[str, str]], None]:
    """Makes the folder and the variables of a case."""

    def make(files: Mapping[str, str | bytes], variables: Mapping[str, str]) -> None:
        for name in [name for name in os.environ if name.startswith("LODGE_")]:
            monkeypatch.delenv(name)
        for name, content in files.items():
            (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
            (tmp_path / name).chmod(0o600)
        for name, value in {"LODGE_HOME": str(home), **variables}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.chdir(tmp_path)

    return make


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_bad_input_is_told_with_field_and_rule_and_nothing_is_touched(
    case: Case,
    tmp_path: Path,
    home: Path,
    place: Callable[[Mapping[str, str | bytes], Mapping[str, str]], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    place({"one.xml": document(), **case.files}, case.variables)
    before = snapshot(tmp_path, home)
    with pytest.raises(SystemExit) as left:
        main(case.arguments)
    said = capsys.readouterr().err
    assert left.value.code == case.code, said
    plain = " ".join(said.replace("│", " ").split())
    assert not [word for word in case.words if word not in plain], plain
    assert "Traceback" not in said
    assert "a defect of this program" not in said
    assert snapshot(tmp_path, home) == before


def test_a_pipe_in_place_of_a_document_is_not_waited_for(
    tmp_path: Path,
    place: Callable[[Mapping[str, str | bytes], Mapping[str, str]], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    place({}, {})
    for name in ("pipe.xml", "pipe.csv", "pipe.ndjson"):
        os.mkfifo(tmp_path / name)
        with pytest.raises(SystemExit) as left:
            main(submit(name))
        assert left.value.code == 1
        assert f"{name}: cannot be read: it is not a regular file; jobs from a pipe are given as -" in " ".join(
            capsys.readouterr().err.split()
        )


@pytest.mark.parametrize(
    "url", ["http://x", "amqp://[bad", "amqp://h:port/", "amqp://h:0/", "amqp://h:70000/", "amqp://h/?x=1", "nonsense"]
)
def test_a_broker_url_that_is_none_is_told_before_anything_is_pushed_and_not_quoted(
    url: str,
    place: Callable[[Mapping[str, str | bytes], Mapping[str, str]], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    place({"one.xml": document()}, {"LODGE_BROKER_URLS": url})
    with pytest.raises(SystemExit) as left:
        main(PUSH)
    said = capsys.readouterr().err
    assert left.value.code == 2
    assert "broker_urls: each must be amqp[s]://" in said
    assert "[broker.url]" in said
    assert url not in said
