from pipeline.ledger import lodgments, outcomes
from pipeline.ledger.session import Ledger
from pipeline.lodgment.outcome import Attachment, MessageEvent, Outcome, Result, Severity
from tests.doubles.lodgments import NOW, a_lodgment, fresh_id
from tests.integration.ledger.samples import SOON, new

EVENTS = (
    MessageEvent("CMN.ATO.GEN.000001", Severity.ERROR, "a name is missing", "/a/b[1]", ("first", "zwei €", "nul \0")),
    MessageEvent("0042", Severity.WARNING, "unusual"),
    MessageEvent("0042", Severity.WARNING, "unusual"),
)
ATTACHMENTS = (Attachment("certificate", "c.pdf", "the certificate", "https://agency.example/c", "7"), Attachment())


def _outcome(*events: MessageEvent, attachments: tuple[Attachment, ...] = ()) -> Outcome:
    return Outcome(Result.REJECTED, "reference", events=events, attachments=attachments)


async def test_keep_events_and_attachments_in_the_agencys_order(ledger: Ledger) -> None:
    lodgment = a_lodgment()
    async with ledger.transaction() as tx:
        await lodgments.add(tx, new([lodgment]))
        await outcomes.add(tx, [(lodgment.id, fresh_id(), _outcome(*EVENTS, attachments=ATTACHMENTS))], NOW)
        found = await outcomes.of(tx, lodgment.id)
        assert await outcomes.attachments_of(tx, lodgment.id) == list(ATTACHMENTS)
    assert found[0].details == ("first", "zwei €", "nul \ufffd")
    assert found[1:] == list(EVENTS[1:])


async def test_are_written_once_for_each_attempt(ledger: Ledger) -> None:
    lodgment, first, second = a_lodgment(), fresh_id(NOW), fresh_id(SOON)
    async with ledger.transaction() as tx:
        await lodgments.add(tx, new([lodgment]))
        said = _outcome(*EVENTS[1:], attachments=ATTACHMENTS)
        for _ in range(2):
            await outcomes.add(tx, [(lodgment.id, first, said)], SOON)
        await outcomes.add(tx, [(lodgment.id, second, said)], SOON)
        assert len(await outcomes.of(tx, lodgment.id)) == 2 * 2
        assert len(await outcomes.attachments_of(tx, lodgment.id)) == 2 * 2


async def test_without_events_leave_nothing(ledger: Ledger) -> None:
    lodgment_id = fresh_id()
    async with ledger.transaction() as tx:
        await outcomes.add(tx, [(lodgment_id, fresh_id(), _outcome())], NOW)
        await outcomes.add(tx, [], NOW)
        assert await outcomes.of(tx, lodgment_id) == []
