"""Every code that is known has an explanation with nothing left out, and what nobody knows is found to be a gap."""

import dataclasses
import re
from pathlib import Path

import pytest

from pipeline.channels import asic_faults, mas_st_faults, sbr2_faults, sbr2_rules
from pipeline.channels.explanations import Catalogue, Retried
from pipeline.lodgment.failures import Party

ASIC, STP = "asic_bn", "sbr2_stp"
OPERATIONS = Path(__file__).parents[3] / "docs" / "operations.md"

GENERIC = "XML03 EM0001 EM0002 200001 200010 200012 000009 300006 402043 434223 500029 000480 500011"
PAYER = "000015 000110 000172 000173 000177 000178 000179 000183 000191 000192 000193 000194 000199 000215"
OF_THE_ATO = [
    *(f"CMN.ATO.GEN.{one}" for one in GENERIC.split()),
    *(f"CMN.ATO.PAYEVNT.{one}" for one in (*PAYER.split(), "EM92168", "EM14160")),
    *(f"CMN.ATO.PAYEVNTEMP.{one}" for one in ("000180", "000358", "000377")),
    *(f"CMN.ATO.AUTH.{one}" for one in ("001", "002", "004", "005", "006", "007", "008", "011")),
    "SBR.GEN.AUTH.006",
    "SBR.GEN.AUTH.008",
    "SBR.GEN.FAULT.SERVICEACTIONDENIED",
    "SBR.GEN.FAULT.FAULTFROMAGENCY",
    "SBR.GEN.INFO.1",
    "SBR.GEN.INFO.2",
    "SBR.GEN.INFO.4",
    "CMN.ATO.GEN.OK",
    "CMN.ATO.GEN.DuplicateTransmission",
    "CMN.ATO.GEN.UNEXPECTEDNUMPAYLOADS",
    "CMN.ATO.EBMS.001",
]
"""Those that public help pages and the ATO's own pages name."""
_EBMS = "0001 0003 0004 0006 0007 0009 0011 0101 0102 0103 0202 0301 0303"
EBMS = [f"EBMS:{one}" for one in _EBMS.split()]


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return Catalogue()


@pytest.mark.parametrize("code", [*OF_THE_ATO, *EBMS])
def test_every_code_that_is_public_is_explained_for_pay_events(catalogue: Catalogue, code: str) -> None:
    found = catalogue.find(code, STP)
    assert found is not None
    assert found.code == code


@pytest.mark.parametrize(
    ("channel", "codes"),
    [
        (STP, {*sbr2_faults.AGENCY_RULES, *sbr2_faults.EBMS_RULES, *sbr2_faults.DUPLICATE, *sbr2_faults.NOISE}),
        (STP, set(sbr2_rules.RULES)),
        (ASIC, set(asic_faults.RULES)),
        (ASIC, {*mas_st_faults.EVENT_RULES, *mas_st_faults.SUBCODE_RULES}),
    ],
)
def test_every_code_of_every_table_is_found(catalogue: Catalogue, channel: str, codes: set[str]) -> None:
    assert {code for code in codes if catalogue.find(code, channel) is None} == set()


def test_no_explanation_leaves_a_field_out(catalogue: Catalogue) -> None:
    for one in catalogue:
        for field in dataclasses.fields(one):
            assert getattr(one, field.name), (one.code, field.name)
        assert one.meaning.endswith("."), one.code
        assert one.action.endswith("."), one.code


def test_no_code_is_explained_twice(catalogue: Catalogue) -> None:
    keys = [(one.speaker, one.code.casefold()) for one in catalogue]
    assert len(keys) == len(set(keys))
    assert not set(sbr2_rules.RULES) & set(sbr2_faults.AGENCY_RULES)


def test_what_a_person_must_mend_names_who(catalogue: Catalogue) -> None:
    held = [one for one in catalogue if one.retried is Retried.ON_RELEASE]
    assert held
    assert [one.code for one in held if one.who is Party.NOBODY] == []


def test_reasons_in_the_handbook_are_explained(catalogue: Catalogue) -> None:
    table = OPERATIONS.read_text().partition("## Reasons")[2].partition("\n## ")[0]
    first_cells = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    codes = [code for cell in first_cells for code in re.findall(r"`([^`]+)`", cell) if not code.startswith(".")]
    assert len(codes) > 30
    assert [code for code in codes if not any(catalogue.find(code, one) for one in (ASIC, STP))] == []


@pytest.mark.parametrize("written", ["00005", "0005", "5", "asic:00005"])
def test_padding_of_an_asic_code_does_not_matter(catalogue: Catalogue, written: str) -> None:
    found = catalogue.find(written, ASIC)
    assert found is not None
    assert found.code == "asic:00005"


@pytest.mark.parametrize(
    ("code", "family"),
    [
        ("transport.reset", "transport.*"),
        ("reply.receipt", "reply.*"),
        ("http.502", "http.*"),
        ("soap:Fault", "soap:*"),
    ],
)
def test_our_own_codes_are_explained_by_their_family(catalogue: Catalogue, code: str, family: str) -> None:
    found = catalogue.find(code, STP)
    assert found is not None
    assert found.code == family


@pytest.mark.parametrize(
    ("code", "channel"),
    [
        ("CMN.ATO.PAYEVNT.999999", STP),
        ("SBR.GEN.AUTH.099", STP),
        ("S9001", ASIC),
        ("00007", ASIC),
        ("CMN.ATO.GEN.XML03", ASIC),
        ("asic:FAULT.INVALIDXML", STP),
    ],
)
def test_what_no_table_of_the_channel_has_is_a_gap(catalogue: Catalogue, code: str, channel: str) -> None:
    assert catalogue.find(code, channel) is None


def test_a_person_may_give_a_part_of_a_code(catalogue: Catalogue) -> None:
    assert [one.code for one in catalogue.named("sbr.gen.auth.006")] == ["SBR.GEN.AUTH.006"]
    assert {one.code for one in catalogue.named("SBR.GEN.AUTH")} == {"SBR.GEN.AUTH.006", "SBR.GEN.AUTH.008"}
    assert catalogue.named("nonsense") == ()


def test_a_fault_that_no_table_has_is_told_as_unknown() -> None:
    for nested in (["SBR.GEN.AUTH.099"], ["CMN.ATO.GEN.NEW"]):
        code, rule = sbr2_faults.rule_for(nested, "EBMS:0004")
        assert (code, rule.known) == (nested[0], False)
    assert sbr2_faults.rule_for(["SBR.GEN.AUTH.006"], "EBMS:0004")[1].known
