"""Pay events: what would be refused is refused here, with document, field and rule, and without the value."""

import itertools
from datetime import UTC, date, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.channels.stp_documents import PayEvent, StpError, read_pay_event, split_by_payer
from pipeline.channels.stp_fields import FAULTS_TOLD
from tests.doubles.stp import ABN, child, delimiter, parent, pay_event

NOW = datetime(2026, 11, 23, 3, 30, tzinfo=UTC)
WRONG_TFN = "123456789"


def read(document: bytes, *, update: bool = False) -> PayEvent:
    return read_pay_event([document], update=update, now=NOW)


def faults(document: bytes, *, update: bool = False) -> tuple[str, ...]:
    with pytest.raises(StpError) as caught:
        read(document, update=update)
    return caught.value.faults


def test_reads_the_payer_and_keeps_whom_each_record_is_about() -> None:
    event = read(pay_event(payees=3))
    (payer,) = event.payers
    assert (payer.abn, payer.wpn, payer.bms_id, payer.submission_id) == (ABN, None, "SYN-BMS-0001", "SYN-SUBMISSION-1")
    assert (payer.pay_date, payer.replaces, payer.payees) == (date(2026, 11, 23), False, 3)
    assert payer.lane == f"stp/{ABN}/1/SYN-BMS-0001"
    assert event.payees == {"1.2": "SYN-1", "1.3": "SYN-2", "1.4": "SYN-3"}


@pytest.mark.parametrize("branch", ["", "1", "001"])
def test_the_first_branch_is_one_lane_however_it_is_written(branch: str) -> None:
    (payer,) = read(pay_event({"Rp/OrganisationDetailsOrganisationBranchC": branch})).payers
    assert payer.branch == "1"


@pytest.mark.parametrize(
    ("field", "value", "rule"),
    [
        ("Rp/AustralianBusinessNumberId", "51824753557", "is no ABN"),
        ("Rp/AustralianBusinessNumberId", "", "PAYEVNT.000177"),
        ("Rp/WithholdingPayerNumberId", "123456789", "PAYEVNT.000177"),
        ("Rp/SoftwareInformationBusinessManagementSystemId", "", "must be given"),
        ("Rp/Payroll/InteractionTransactionId", "", "must be given"),
        ("Rp/Payroll/InteractionRecordCt", "3", "PAYEVNT.000191"),
        ("Rp/Payroll/InteractionRecordCt", "two", "whole number"),
        ("Rp/Payroll/InteractionRecordCt", "9" * 5000, "whole number"),
        ("Rp/Payroll/PaymentRecordTransactionD", "20261123", "YYYY-MM-DD"),
        ("Rp/Payroll/PaymentRecordTransactionD", "2026-11-31", "YYYY-MM-DD"),
        ("Rp/Payroll/MessageTimestampGenerationDt", "20261123T030000Z", "date and time"),
        ("Rp/Payroll/MessageTimestampGenerationDt", "2026-11-23", "date and time"),
        ("Rp/Payroll/PaymentRecordTransactionD", "2026-11-25", "PAYEVNT.000199"),
        ("Rp/Payroll/PaymentRecordTransactionD", "2025-12-07", "PAYEVNT.000215"),
        ("Rp/Payroll/PaymentRecordTransactionD", "23/11/2026", "YYYY-MM-DD"),
        ("Rp/Payroll/MessageTimestampGenerationDt", "2026-11-23T14:00:00Z", "PAYEVNT.000194"),
        ("Rp/Payroll/MessageTimestampGenerationDt", "2026-11-23T14:00:00+11:00", "final Z"),
        ("Rp/Payroll/MessageTimestampGenerationDt", "2026-11-23T03:00:00", "final Z"),
        ("Rp/Payroll/MessageTimestampGenerationDt", "yesterday", "date and time"),
        ("Rp/Declaration/SignatureD", "2026-11-25", "PAYEVNT.000193"),
        ("Int/AustralianBusinessNumberId", "12345678901", "is no ABN"),
    ],
)
def test_refuses_a_parent_that_breaks_a_rule(field: str, value: str, rule: str) -> None:
    told = faults(pay_event({field: value}))
    assert any(rule in fault and fault.startswith("document 1.1, ") for fault in told), told


def test_takes_a_pay_date_of_exactly_350_days_ago() -> None:
    assert read(pay_event({"Rp/Payroll/PaymentRecordTransactionD": "2025-12-08"})).payers


@pytest.mark.parametrize(
    ("field", "value", "rule"),
    [
        ("Payee/Identifiers/TaxFileNumberId", WRONG_TFN, "no tax file number"),
        ("Payee/Identifiers/TaxFileNumberId", "", "needs TaxFileNumberId or"),
        ("Payee/Identifiers/AustralianBusinessNumberId", "51824753557", "no ABN"),
        ("Payee/Identifiers/EmploymentPayrollNumberId", "SYN-1", "another payee"),
    ],
)
def test_refuses_a_payee_that_breaks_a_rule_without_telling_the_value(field: str, value: str, rule: str) -> None:
    document = parent() + child(1) + child(2, {field: value})
    told = faults(document.encode())
    assert any(rule in fault and fault.startswith("document 1.3, Payee/Identifiers") for fault in told), told
    assert WRONG_TFN not in str(told)


@pytest.mark.parametrize(
    ("document", "rule"),
    [
        (parent() + child(1) + child(1), "document 1.2, DocumentID: stands twice"),
        (parent() + child(1) + child(2, related="9.1"), "document 9.3, RelatedDocumentID"),
        (child(1) + parent(), "document 1.2, RelatedDocumentID"),
        (parent({"Rp/Payroll/InteractionRecordCt": "0"}), "PAYEVNT.000192"),
        (parent() + delimiter("1.2", "SIBLING", "PAYEVNTEMP", "1.1") + "<a/>", "must be PARENT or CHILD"),
        (parent() + delimiter("1.2", "CHILD", "PAYEVNT", "1.1") + "<a/>", "of a CHILD must be PAYEVNTEMP"),
        (parent() + delimiter("1.2", "CHILD", "PAYEVNTEMP", "1.1") + "<PAYEVNTEMP/>", "in the namespace"),
        (parent().replace("</tns:Rp>", "") + child(1), "document 1.1: not well formed"),
    ],
)
def test_refuses_a_graph_of_documents_that_does_not_hold(document: str, rule: str) -> None:
    assert any(rule in fault for fault in faults(document.encode()))


def test_an_update_cannot_replace_a_file() -> None:
    document = pay_event({"Rp/Payroll/AmendmentI": "true"})
    assert read(document).payers[0].replaces
    assert any("AmendmentI" in fault for fault in faults(document, update=True))


def test_an_update_has_no_totals_of_the_payer() -> None:
    document = pay_event({"Rp/Payroll/IncomeTaxAndRemuneration/TotalGrossPaymentsWithholdingA": "10.00"})
    assert read(document).payers
    assert any("IncomeTaxAndRemuneration" in fault for fault in faults(document, update=True))


def test_a_comment_within_a_value_is_not_part_of_it() -> None:
    document = pay_event().replace(b"SYN-SUBMISSION-1", b"SYN-<!-- not this -->SUBMISSION-1")
    assert read(document).payers[0].submission_id == "SYN-SUBMISSION-1"


def test_reads_free_form_ids_prefixes_and_a_declaration_of_each_document() -> None:
    document = pay_event().replace(b"1.1", b"payer/A").replace(b"tns:", b"z:").replace(b"xmlns:tns", b"xmlns:z")
    document = document.replace(b'"/>\n<', b'"/><?xml version="1.0" encoding="UTF-8"?>\n<')
    assert read(document).payees == {"1.2": "SYN-1", "1.3": "SYN-2"}


@given(cut=st.integers(0, 3000), junk=st.binary(max_size=6), drop=st.integers(0, 40))
def test_a_damaged_document_is_refused_with_our_error_or_read(cut: int, junk: bytes, drop: int) -> None:
    whole = pay_event()
    damaged = whole[:cut] + junk + whole[cut + drop :]

    def outcome(parts: list[bytes]) -> object:
        try:
            return read_pay_event(parts, update=False, now=NOW)
        except StpError as error:
            return error.code, error.faults

    assert outcome([damaged]) == outcome([damaged[at : at + 37] for at in range(0, len(damaged), 37)])


def test_tells_many_faults_and_counts_the_rest() -> None:
    many = FAULTS_TOLD + 7
    bad = "".join(child(n, {"Payee/Identifiers/TaxFileNumberId": WRONG_TFN}) for n in range(1, many + 1))
    with pytest.raises(StpError) as caught:
        read((parent({"Rp/Payroll/InteractionRecordCt": str(many)}) + bad).encode())
    assert (len(caught.value.faults), caught.value.more) == (FAULTS_TOLD, 7)


def test_splits_a_file_of_several_payers_to_the_byte() -> None:
    def payer(number: int) -> bytes:
        own = f"{number}.1"
        return (parent(document_id=own) + child(1, related=own) + child(2, related=own)).encode()

    whole = payer(1) + payer(2) + payer(3)
    parts = [b"".join(record.raw for record in one) for one in split_by_payer([whole[:700], whole[700:]])]
    assert parts == [payer(1), payer(2), payer(3)]
    assert [len(read(part).payers) for part in parts] == [1, 1, 1]
    assert len(read(whole).payers) == 3
    assert len(set(itertools.chain.from_iterable(read(part).payees for part in parts))) == 6
