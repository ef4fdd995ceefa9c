"""Files that people hand over: pay events, tables of payees, manifests of jobs, software ids."""

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from pipeline.channels.payee_rows import Payers, read_row
from pipeline.channels.payee_rows import Terms as RowTerms
from pipeline.channels.stp_documents import StpError, read_pay_event, split_by_payer
from pipeline.interfaces.cli.inputs import Source, Terms, read_inputs
from pipeline.interfaces.cli.payee_mapping import Names, read_names
from pipeline.interfaces.cli.payee_table import Table
from pipeline.interfaces.cli.payloads import Spool
from pipeline.interfaces.cli.software_id_files import read_clients, written
from pipeline.interfaces.cli.tokens_warm import _read as read_employers
from pipeline.lodgment.errors import ConfigurationError
from pipeline.lodgment.subscription import Checked, Origin, RegisteredId
from pipeline.protocol.record_delimiter import RecordError, records
from tests.doubles import jobs, payee_tables, stp
from tests.fuzz.mutation import JSON, TABLE, TOML, XML, Form
from tests.fuzz.scratch import cuts, file_of, folder
from tests.fuzz.target import TEXT_LIMIT, Target, must

NOW = datetime(2026, 11, 25, 3, 0, tzinfo=UTC)
_TFN = "123456782"
"""Synthetic; its check digit holds."""
_RECORDS = Form(
    XML.pieces,
    (
        *XML.values,
        b'<Record_Delimiter DocumentID="1.1"/>',
        b"PARENT",
        b"CHILD",
        b"1.1",
        b"<a:Record_Delimiter/>",
        b"<!--",
        b"]]>",
    ),
)


def _pay_event_seeds() -> Sequence[bytes]:
    two = stp.pay_event() + stp.pay_event({"Rp/Payroll/AmendmentI": "true"}).replace(b'"1.', b'"2.')
    return stp.pay_event({"Rp/AustralianBusinessNumberId": stp.ABN}), b"\xef\xbb\xbf<!-- c --><?p i?>\n" + two


def _pay_event(data: bytes) -> None:
    said = []
    for pieces in cuts(data):
        try:
            said.append(str(read_pay_event(pieces, update=False, now=NOW)))
        except StpError as error:
            said.append(f"{error.code} {error.more} {error}")
    must(len(set(said)) == 1, "the pieces in which it comes make no difference")
    read_pay_event([data], update=True, now=NOW)


def _split(data: bytes) -> None:
    """The parts together are the file from its first delimiter on, to the byte."""
    parts = b"".join(record.raw for part in split_by_payer([data]) for record in part)
    must(data.endswith(parts), "no byte of a document is lost between payers")
    must([one.raw for one in records([data])] == [one.raw for one in records([parts])], "cut again it is the same")


def _table_seeds() -> Sequence[bytes]:
    lines = [
        payee_tables.line(1),
        payee_tables.line(2, gross="1.005", tfn=_TFN),
        payee_tables.line(3, payer_abn=payee_tables.OTHER_ABN),
    ]
    return (payee_tables.as_csv(lines),)


def _table(suffix: str) -> Callable[[bytes], None]:
    def enter(data: bytes) -> None:
        _lines(file_of(f"table{suffix}", data), Names())

    return enter


def _lines(path: Path, names: Names) -> None:
    terms, payers = RowTerms(update=False, now=NOW), Payers()
    for line in Table(path, names).lines():
        row, faults = read_row(line.cells, terms)
        faults_beside = [] if faults or line.problems else list(payers.take(line.number, row))
        for text in (*line.problems, *faults.values(), *(rule for _, rule in faults_beside)):
            must(_TFN not in text, "no tax file number is quoted")
            must(_printable(text) and len(text) < TEXT_LIMIT, "a problem is one short line of text")


def _objects_seeds() -> Sequence[bytes]:
    lines = [payee_tables.line(1), payee_tables.line(2, gross="1.00")]
    return ("\n".join(json.dumps(one) for one in lines).encode() + b"\n",)


def _mapping_seeds() -> Sequence[bytes]:
    return (
        (
            b'ignore = ["Notes"]\nignore_others = true\n[columns]\n"ABN" = "payer_abn"\nTFN = "tfn"\n'
            b'[values]\nbranch = "1"\n[codes.income_type]\nS = "SAW"\n'
        ),
    )


def _mapping(data: bytes) -> None:
    names = read_names(file_of("mapping.toml", data))
    _lines(file_of("mapped.csv", payee_tables.as_csv([payee_tables.line(1)])), names)


def _client_seeds() -> Sequence[bytes]:
    header = b"software_id,abn,wpn,product,note\n"
    return (header + b'0004785936,51824753556,,Synthetic Pay,"a, note"\n1234567895,,123456789,Synthetic Pay,\n',)


def _clients(data: bytes) -> None:
    """Read, written as they are given out, and read again."""
    path = file_of("clients.csv", data)
    read_clients(path, "Synthetic", with_ids=False)
    read = read_clients(path, None, with_ids=True)
    must(all(_printable(problem) for problem in read.problems), "a problem is one line of text")
    if read.problems or not read.entries:
        return
    ids = [
        RegisteredId(one.software_id, one.whose, Origin.IMPORTED, Checked.CONTROL_DIGIT, NOW, "synthetic", one.note)
        for one in read.entries
        if one.software_id is not None
    ]
    again = read_clients(file_of("again.csv", written(ids)), None, with_ids=True)
    must(again.problems == [], "what is given out can be read")
    same = [(one.whose, one.software_id, one.note) for one in read.entries]
    must([(one.whose, one.software_id, one.note) for one in again.entries] == same, "and says the same")


def _printable(text: str) -> bool:
    return not any(ord(one) < 32 or 0xD800 <= ord(one) < 0xE000 for one in text)


_TERMS = Terms("asic_bn", "business-names", None, "SYNTHETIC-1", "REGA", jobs.ABN, None, None, None)


def _inputs(suffix: str) -> Callable[[bytes], None]:
    """What `lodge submit` makes of a file: jobs, or problems in words."""

    def enter(data: bytes) -> None:
        path = file_of(f"input{suffix}", data)
        for found in read_inputs([Source(path, path.name)], _TERMS, Spool(folder() / "spool")):
            must((found.job is None) == bool(found.problems), "each is a job, or has problems")
            for problem in found.problems:
                must(_printable(problem), "a problem is one line of text")
                must(len(problem) < TEXT_LIMIT, "a problem is short")
                must(_TFN not in problem, "no tax file number is quoted")

    return enter


def _manifest_seeds() -> Sequence[bytes]:
    file_of("doc.xml", jobs.document().encode())
    return (
        (
            b"job_id,channel,service,action,sender.id,sender.type,employer.abn,payload.file,labels.run,due_date\n"
            b"job-1,asic_bn,business-names,bnLodgeApplication,SYNTHETIC-1,REGA,51824753556,doc.xml,a,2026-11-28\n"
            b'job-2,asic_bn,business-names,bnLodgeApplication,SYNTHETIC-1,REGA,51 824 753 556,doc.xml,"b,c",\n'
        ),
    )


def _job_lines() -> Sequence[bytes]:
    return (jobs.job("job-1") + b"\n" + jobs.job("job-2", labels={"a": "b"}) + b"\n",)


def _employer_seeds() -> Sequence[bytes]:
    return b"51824753556\n53 004 085 616\n", b"a,employer.abn,credential,software_id\n1,51824753556,c,0004785936\n"


def _employers(data: bytes) -> None:
    for one in read_employers([file_of("employers.csv", data)], None, None):
        must(len(one.party_abn) == 11, "an employer is named by its ABN")


TARGETS = (
    Target(
        "pay-event",
        "the pieces in which it comes make no difference",
        _pay_event_seeds,
        _pay_event,
        (StpError,),
        _RECORDS,
        (_TFN,),
    ),
    Target("record-delimiter", "cut by payer, no byte is lost", _pay_event_seeds, _split, (RecordError,), _RECORDS),
    Target("payee-csv", "no tax file number is quoted", _table_seeds, _table(".csv"), (), TABLE, (_TFN,)),
    Target("payee-ndjson", "no tax file number is quoted", _objects_seeds, _table(".ndjson"), (), JSON, (_TFN,)),
    Target("payee-mapping", "columns of an export by our names", _mapping_seeds, _mapping, (ConfigurationError,), TOML),
    Target(
        "software-ids",
        "what is given out can be read, and says the same",
        _client_seeds,
        _clients,
        (ConfigurationError,),
        TABLE,
    ),
    Target("submit-csv", "each row is a job or has problems in words", _manifest_seeds, _inputs(".csv"), (), TABLE),
    Target("submit-ndjson", "each line is a job or has problems in words", _job_lines, _inputs(".ndjson"), (), JSON),
    Target(
        "submit-documents",
        "each part is a job or has problems in words",
        _pay_event_seeds,
        _inputs(".xml"),
        (),
        _RECORDS,
    ),
    Target("warm-csv", "employers by ABN", _employer_seeds, _employers, (ConfigurationError,), TABLE),
)
