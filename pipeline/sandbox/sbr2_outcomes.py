"""What the sandbox's agency says of a pay event, in the end: its faults, or else what its scenario asks for."""

from pipeline.sandbox.sbr2_document import PayEvent
from pipeline.sandbox.sbr2_events import Item, write_events
from pipeline.sandbox.sbr2_scenarios import Sbr2Scenario

NOT_AUTHORISED = "SBR.GEN.AUTH.006"
_PAYEE_PATH = "/tns:PAYEVNTEMP/tns:Payee/tns:Identifiers/tns:TaxFileNumberId"
_OK = Item("CMN.ATO.GEN.OK", "SYNTHETIC: the message was processed.", "Information")
ACCEPTED = write_events((_OK,))


def not_authorised() -> bytes:
    """The outcome of a document that was not taken because its sender may not lodge it."""
    text = "SYNTHETIC: the business has not notified the provider {provider}."
    return write_events((Item(NOT_AUTHORISED, text, parameters=(("provider", "SYNTHETIC"),)),))


def outcome(event: PayEvent) -> bytes:
    """The Event document that answers a pay event that was taken."""
    return write_events(event.faults or _items(event))


def _items(event: PayEvent) -> tuple[Item, ...]:
    match event.script.scenario:
        case Sbr2Scenario.ACCEPT_WITH_WARNINGS:
            return (_OK, _about(event.payees[0], "CMN.ATO.PAYEVNTEMP.000180", "Warning"))
        case Sbr2Scenario.PARTIALLY_ACCEPT:
            return (_about(event.payees[-1], "CMN.ATO.GEN.402043", "Error"),)
        case Sbr2Scenario.REJECT:
            item = Item(
                "CMN.ATO.PAYEVNT.000179",
                "SYNTHETIC: {field} does not fit the pay event {number}.",
                parameters=(("field", "the branch"), ("number", event.parent or "")),
                record=event.parent,
                path="/tns:PAYEVNT/tns:Rp/tns:OrganisationDetailsOrganisationBranchC",
            )
            return (item, _about(event.payees[0], "CMN.ATO.PAYEVNTEMP.000180", "Warning"))
        case _:
            return (_OK,)


def _about(record: str, code: str, severity: str) -> Item:
    text = "SYNTHETIC: {field} of the record {record} is odd."
    return Item(code, text, severity, (("field", "the number"), ("record", record)), record, _PAYEE_PATH)
