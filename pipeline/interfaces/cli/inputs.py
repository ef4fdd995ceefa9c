"""What `lodge submit` is given, as jobs: documents, folders, NDJSON, CSV manifests. Read one by one, never whole."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.interfaces.cli.manifest import read_manifest
from pipeline.interfaces.cli.pay_events import BadPart, is_pay_event, parts_of
from pipeline.interfaces.cli.payloads import Spool, by_file, require_regular
from pipeline.lodgment.errors import quoted
from pipeline.lodgment.job import JobRefusedError, LodgmentJob, read_job

_USUAL_ACTION = "bnLodgeApplication"
_LONGEST_NAME = 300
_LINES = frozenset({".ndjson", ".jsonl"})
_OPTIONS = {
    "sender.id": "--sender-id",
    "sender.type": "--sender-type",
    "employer.abn": "--abn",
    "due_date": "--due-date",
    "order_key": "--order-key",
    **{name: f"--{name}" for name in ("channel", "service", "action", "credential")},
}
"""Where the fields of a bare document come from, by a field's name in a problem."""


@dataclass(frozen=True, slots=True)
class Terms:
    """The job fields of bare documents, from the command's options."""

    channel: str
    service: str
    action: str | None
    """None: what is usual for the kind of document."""
    sender_id: str | None
    sender_type: str | None
    abn: str | None
    credential: str | None
    due_date: str | None
    order_key: str | None
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Source:
    """Something to read, and what a person calls it."""

    path: Path
    name: str


@dataclass(frozen=True, slots=True)
class Found:
    """One thing that should be a job, and where a person finds it; exactly one of `job` and `problems` is set."""

    origin: str
    job: LodgmentJob | None = None
    problems: tuple[str, ...] = ()


def read_inputs(sources: Sequence[Source], terms: Terms, spool: Spool) -> Iterator[Found]:
    """Every job in `sources`, in order; what cannot be read is found too, with its problems. Parts of a file that are
    too large for their jobs are put into `spool`.
    """
    for source in sources:
        try:
            yield from _read(source, terms, spool)
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            yield Found(source.name, problems=(f"cannot be read: {reason}",))


def option_problems(sources: Sequence[Source], terms: Terms) -> tuple[str, ...]:
    """What is wrong with the options that bare documents among `sources` depend on: told once, not for each."""
    if not any(_needs_options(source.path) for source in sources):
        return ()
    needed = {"--sender-id": terms.sender_id, "--sender-type": terms.sender_type, "--abn": terms.abn}
    if missing := [option for option, value in needed.items() if not value]:
        return (f"{', '.join(missing)} must be given: a document does not say it",)
    probe = {"job_id": "probe", **_fields(terms), "payload": {"inline": "probe"}}
    try:
        read_job(json.dumps(probe).encode())
    except JobRefusedError as error:
        return tuple(map(_with_option, error.problems))
    return ()


def _needs_options(path: Path) -> bool:
    """Whether it holds documents that do not say who lodges them."""
    if path.suffix.lower() in {*_LINES, ".csv"}:
        return False
    try:
        documents = [one for one in path.iterdir() if one.suffix.lower() == ".xml"] if path.is_dir() else [path]
        return not documents or not all(is_pay_event(one) for one in documents)
    except OSError:
        return False  # told when it is read


def _read(source: Source, terms: Terms, spool: Spool) -> Iterator[Found]:
    path = source.path
    if path.is_dir():
        documents = sorted(one for one in path.iterdir() if one.suffix.lower() == ".xml")
        if not documents:
            yield Found(str(path), problems=("no .xml file in this folder; name manifests and NDJSON themselves",))
        for document in documents:
            yield from _documents(document, terms, spool)
        return
    require_regular(path)
    if path.suffix.lower() in _LINES:
        yield from _lines(source)
    elif path.suffix.lower() == ".csv":
        yield from _rows(source)
    else:
        yield from _documents(path, terms, spool)


def _documents(path: Path, terms: Terms, spool: Spool) -> Iterator[Found]:
    try:
        if not is_pay_event(path):
            yield _document(path, terms)
            return
        labels = dict(terms.labels)
        wishes = {"credential": terms.credential, "due_date": terms.due_date, "order_key": terms.order_key}
        sender = {"id": terms.sender_id, "type": terms.sender_type}
        for part in parts_of(path, spool):
            if isinstance(part, BadPart):
                yield Found(part.origin, problems=part.problems)
                continue
            fields = part.fields(terms.action) | _given(wishes) | {"labels": labels}
            fields["sender"] = part.sender | _given(sender)
            try:
                yield Found(part.origin, read_job(json.dumps(fields).encode()))
            except JobRefusedError as error:
                yield Found(part.origin, problems=error.problems)
    except OSError as error:
        yield Found(str(path), problems=(f"cannot be read: {error.strerror}",))


def _document(path: Path, terms: Terms) -> Found:
    try:
        fields = {"job_id": _job_id(path, terms), **_fields(terms), "payload": by_file(path)}
        return Found(str(path), read_job(json.dumps(fields).encode()))
    except JobRefusedError as error:
        return Found(str(path), problems=error.problems)
    except OSError as error:
        return Found(str(path), problems=(f"cannot be read: {error.strerror}",))


def _fields(terms: Terms) -> dict[str, object]:
    fields: dict[str, object] = {
        "channel": terms.channel,
        "service": terms.service,
        "action": terms.action or _USUAL_ACTION,
        "sender": _given({"id": terms.sender_id, "type": terms.sender_type}),
        "employer": _given({"abn": terms.abn}),
        "labels": dict(terms.labels),
    }
    fields |= _given({"credential": terms.credential, "due_date": terms.due_date, "order_key": terms.order_key})
    return fields


def _job_id(path: Path, terms: Terms) -> str:
    """The same document for the same business is one lodgment, whatever its labels: another id would lodge it twice."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    abn = (terms.abn or "").replace(" ", "")
    same = json.dumps([terms.channel, terms.service, terms.action or _USUAL_ACTION, terms.sender_id, abn, digest])
    return f"file-{hashlib.sha256(same.encode()).hexdigest()[:32]}"


def _lines(source: Source) -> Iterator[Found]:
    with source.path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            origin = f"{source.name}, line {number}"
            try:
                yield Found(origin, read_job(line))
            except JobRefusedError as error:
                yield Found(origin, problems=error.problems)


def _rows(source: Source) -> Iterator[Found]:
    for row in read_manifest(source.path):
        origin = f"{source.name}, row {row.number}"
        if row.problems:
            yield Found(origin, problems=row.problems)
            continue
        fields = dict(row.fields)
        try:
            if row.file is not None:
                payload = fields.setdefault("payload", {})
                assert isinstance(payload, dict)  # noqa: S101  - `read_manifest` nests dotted columns
                payload |= by_file(source.path.parent / row.file)
            yield Found(origin, read_job(json.dumps(fields).encode()))
        except JobRefusedError as error:
            yield Found(origin, problems=tuple(f"column {problem}" for problem in error.problems))
        except OSError as error:
            yield Found(origin, problems=(f"column payload.file: {_short(row.file)} cannot be read: {error.strerror}",))


def _short(name: str | None) -> str:
    """A file's name as the manifest says it; one that no file can have is quoted, and cut."""
    return name if name is not None and name.isprintable() and len(name) <= _LONGEST_NAME else quoted(name or "")


def _given(fields: Mapping[str, str | None]) -> dict[str, object]:
    return {name: value for name, value in fields.items() if value is not None}


def _with_option(problem: str) -> str:
    name, _, rule = problem.partition(": ")
    return f"{_OPTIONS.get(name, name)}: {rule}"
