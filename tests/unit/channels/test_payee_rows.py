"""Lines of a payee table: each rule by itself, and what a line must be beside those before it."""

from datetime import timedelta

import pytest

from pipeline.channels.payee_columns import TOTALS, payee_columns, payer_columns
from pipeline.channels.payee_rows import Payers, Terms, read_row
from pipeline.channels.stp_documents import read_pay_event
from pipeline.channels.stp_writing import Event, documents
from tests.doubles.payee_tables import ABN, NOW, OTHER_ABN, line

SUBMIT, UPDATE = Terms(update=False, now=NOW), Terms(update=True, now=NOW)


def faults(terms: Terms = SUBMIT, **changes: str) -> dict[str, str]:
    return read_row({name: value for name, value in line(1, **changes).items() if value}, terms)[1]


def test_a_good_line_has_no_fault_and_is_written_in_one_way_however_it_was_typed() -> None:
    assert faults() == {}
    typed = {"payer_abn": "51 824 753 556", "tfn": "111-111-111", "gross": "61000.50", "income_type": "saw"}
    row, found = read_row(line(1, **typed), SUBMIT)
    assert found == {}
    assert row == read_row(line(), SUBMIT)[0]
    assert (row.payer["branch"], row.payee["gross"], row.totals["period_gross"]) == ("001", "61000.50", "2346.15")


@pytest.mark.parametrize(
    ("column", "cell", "rule"),
    [
        ("payer_abn", "51824753557", "must be an ABN of 11 digits"),
        ("payer_abn", "", "give exactly one of payer_abn and payer_wpn"),
        ("payer_wpn", "123456789", ""),
        ("branch", "12345", "must be 1 to 3 digits"),
        ("bms_id", "", "must be given on every line"),
        ("pay_date", "25/11/2026", "must be a date as YYYY-MM-DD; other orders are not guessed at"),
        ("pay_date", "2026-02-30", "is a day that there is not"),
        ("pay_date", "2026-11-27", "must not be after today (PAYEVNT.000199)"),
        ("pay_date", "2025-12-09", "is more than 350 days ago (PAYEVNT.000215)"),
        ("declared_on", "2026-11-27", "must not be after today (PAYEVNT.000193)"),
        ("declaration_accepted", "no", "must be true"),
        ("agent_abn", ABN, ""),
        ("tfn", "123456789", "its check digit does not hold; ask the payee, or give 111111111"),
        ("tfn", "12345678", "if a spreadsheet dropped a leading zero, format the column as text"),
        ("tfn", "", "give tfn or payee_abn"),
        ("payee_id", "", "must be given"),
        ("family_name", "Syn\x07thetic", "holds a control character"),
        ("family_name", "S" * 201, "must have at most 200 characters"),
        ("gross", "$61,000", "without currency sign or thousands separator"),
        ("gross", "-1", "must not be negative"),
        ("period_gross", "", "must be given"),
        ("income_type", "WAGES", "must be one of SAW, CHP"),
        ("payer_country", "Australia", "must be a country code of two letters"),
        ("email", "nobody", "must be an e-mail address"),
        ("final", "perhaps", "must be true or false"),
        ("period_end", "2026-11-01", "must not be before period_start"),
        ("lump_sum_e", "10.00", ""),
    ],
)
def test_a_cell_that_breaks_its_rule_is_told_by_column_rule_and_fix_and_not_quoted(
    column: str, cell: str, rule: str
) -> None:
    found = faults(SUBMIT, **{column: cell})
    blamed = {"payer_wpn": "payer_abn", "agent_abn": "agent_number", "lump_sum_e": "lump_sum_e_year"}.get(
        column, column
    )
    assert list(found) == [blamed]
    assert rule in found[blamed]
    assert len(cell) < 5 or cell not in found[blamed]


def test_what_belongs_to_another_kind_of_income_or_to_no_agent_is_told() -> None:
    assert list(faults(stream2_gross="10.00")) == ["stream2_income_type"]
    assert faults(stream2_gross="10.00", stream2_income_type="CHP") == {}
    assert list(faults(agent_name="Synthetic Agent")) == ["agent_abn"]
    assert list(faults(allowance_od="5.00")) == ["allowance_od_text"]


def test_an_update_event_pays_nothing_and_replaces_no_file() -> None:
    found = faults(UPDATE, replaces_file="true")
    assert sorted(found) == ["period_gross", "period_withheld", "replaces_file"]
    assert faults(UPDATE, period_gross="", period_withheld="") == {}


def test_payers_are_told_apart_and_what_differs_within_one_is_told() -> None:
    payers = Payers()

    def take(number: int, **changes: str) -> dict[str, str]:
        row, found = read_row({k: v for k, v in line(number, **changes).items() if v}, SUBMIT)
        assert found == {}
        return dict(payers.take(number, row))

    assert take(2) == {}
    assert take(3, pay_date="", payer_name="") == {}
    assert take(4, pay_date="2026-11-24") == {
        "pay_date": "differs from line 2, the payer's first: give it there, or the same"
    }
    assert take(5, payee_id="P-3") == {"payee_id": "stands on line 3 already: a payee has one line in an event"}
    assert take(6, bms_id="SYN-BMS-2", payee_id="P-2") == {}
    assert list(take(7, payer_abn=OTHER_ABN, pay_date="")) == ["pay_date"]
    ((name, rule),) = take(8).items()
    assert name == "payer_abn"
    assert rule.startswith("this payer's lines began on line 2 and others stand between: sort the table by payer_abn")
    assert len(payers) == 4
    assert payers.figures(0, update=False) == (4, {"period_withheld": 4 * 51615, "period_gross": 4 * 234615})
    assert payers.figures(1, update=True) == (1, None)


def test_sums_are_exact_to_the_cent_and_may_be_negative() -> None:
    payers = Payers()
    for number, paid in enumerate(("0.1", "0.2", "-0.35"), start=1):
        row, _ = read_row(line(number, period_gross=paid, period_child_support_deduction="1"), SUBMIT)
        assert list(payers.take(number, row)) == []
    payees, totals = payers.figures(0, update=False)
    assert totals is not None
    event = Event({"bms_id": "S", "payer_abn": ABN, "replaces_file": "false"}, payees, totals, NOW)
    parent = next(documents(event, [])).decode()
    assert "<tns:TotalGrossPaymentsWithholdingA>-0.05<" in parent
    assert "<tns:ChildSupportWithholdingA>3.00<" in parent
    assert "ChildSupportGarnisheeA" not in parent


def test_every_column_lands_in_an_element_of_its_own_and_what_is_written_passes_the_channels_checks() -> None:
    cells = {
        "agent_abn": OTHER_ABN, "agent_number": "12345678", "payee_abn": OTHER_ABN, "payer_country": "au",
        "country": "au", "payer_email": "a@b.invalid", "agent_email": "a@b.invalid", "email": "a@b.invalid",
        "replaces_file": "true", "final": "true", "started_on": "2024-07-01", "ended_on": "2026-11-25",
    }  # fmt: skip
    for column in (payer_columns() | payee_columns()).values():
        if column.name not in line() and column.name not in cells and column.name != "payer_wpn":
            text = (
                column.choices[0]
                if column.choices
                else {"YYYY": "2026-11-25", "1234": "12.34", "four": "2025"}.get(column.form.value[:4], "x")
            )
            cells[column.name] = text
    for name in [name for name in cells if name.endswith("income_country")]:
        cells[name] = "nz"
    row, found = read_row(line(1, **cells), SUBMIT)
    assert found == {}
    assert row.payer.keys() | row.payee.keys() == (payer_columns() | payee_columns()).keys() - {"payer_wpn"}
    event = Event(row.payer, 1, dict.fromkeys(TOTALS, 1), NOW - timedelta(minutes=1))
    parent, child = documents(event, [row.payee])
    # Twice each: how it begins and how it ends. A birth date is three elements; `[Type=X]` is one more.
    assert child.count(b"<tns:IncomeStreamTypeC>") == 3
    amounts = [name for name, column in payee_columns().items() if column.form.name == "AMOUNT"]
    assert child.count(b"A>12.34</tns:") + child.count(b"<tns:A>") - child.count(b"<tns:A>12.34</") == len(amounts) - 3
    assert b"<tns:Dm>1</tns:Dm><tns:M>2</tns:M><tns:Y>1990</tns:Y>" in child
    assert b"<tns:FamilyNameT>O'Possum &amp; &lt;Sons&gt;</tns:FamilyNameT>" in child
    assert parent.index(b"<tns:Int>") < parent.index(b"<tns:SignatoryIdentifierT>")
    assert parent.count(b"<tns:Declaration>") == 1
    read = read_pay_event([parent, child], update=False, now=NOW)
    assert (read.payers[0].agent_abn, read.payers[0].replaces, dict(read.payees)) == (OTHER_ABN, True, {"1.2": "P-1"})
