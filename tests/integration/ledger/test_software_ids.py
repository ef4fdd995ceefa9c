"""Software ids in the ledger: one active id a client and product, no id twice, whoever registers at the same time."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterable
from dataclasses import replace

import pytest

from pipeline.ledger import software_ids
from pipeline.ledger.session import Ledger
from pipeline.ledger.software_ids import Conflict
from pipeline.ledger.vault import Vault
from pipeline.lodgment.errors import RefusedError
from pipeline.lodgment.software_id import Draw, SoftwareId
from pipeline.lodgment.subscription import Checked, Origin, RegisteredId, Subscription
from tests.doubles.lodgments import NOW

ONE, OTHER = Subscription("Pay", "51824753556"), Subscription("Pay", "11000002568")
WAGES = Subscription("Wages", "51824753556")
DIGITS = SoftwareId("0004785936")


def in_order(numbers: Iterable[int]) -> Draw:
    remaining = iter(numbers)
    return lambda: SoftwareId.of_number(next(remaining))


def imported(software_id: SoftwareId, whose: Subscription) -> RegisteredId:
    return RegisteredId(software_id, whose, Origin.IMPORTED, Checked.CONTROL_DIGIT, NOW, "ana@desk", "synthetic")


async def make(ledger: Ledger, whose: Iterable[Subscription], draw: Draw) -> list[RegisteredId]:
    async with ledger.transaction() as tx:
        return await software_ids.generate(tx, dict.fromkeys(whose), draw, "ana@desk", NOW)


async def everything(ledger: Ledger) -> list[RegisteredId]:
    async with ledger.transaction(read_only=True) as tx:
        return await software_ids.list_(tx, "", 1_000_000, product=None, retired=True)


@pytest.fixture
async def second_process(ledger_url: str, vault: Vault, ledger: Ledger) -> AsyncIterator[Ledger]:  # noqa: ARG001  - closed before it
    opened = Ledger(ledger_url, vault)
    yield opened
    await opened.close()


async def test_what_is_registered_is_read_back_whole(ledger: Ledger) -> None:
    new = replace(imported(SoftwareId("1234567890"), ONE), checked=Checked.ALLOWED)
    async with ledger.transaction() as tx:
        assert await software_ids.add(tx, [new]) == [new]
    async with ledger.transaction(read_only=True) as tx:
        assert await software_ids.registered(tx, [ONE, WAGES]) == {ONE: new}
        assert await software_ids.by_id(tx, [new.software_id, DIGITS]) == {new.software_id: new}


async def test_generating_twice_makes_nothing_new(ledger: Ledger) -> None:
    first = await make(ledger, [ONE, OTHER, WAGES], in_order([1, 2, 3]))
    assert [(one.whose, one.software_id.digits) for one in first] == [
        (OTHER, "0000000011"),
        (ONE, "0000000022"),
        (WAGES, "0000000033"),
    ]
    assert await make(ledger, [ONE, OTHER, WAGES], in_order([])) == []


async def test_a_draw_that_meets_a_taken_id_is_drawn_again_and_so_is_one_that_is_drawn_twice(ledger: Ledger) -> None:
    await make(ledger, [ONE], in_order([1]))
    made = await make(ledger, [OTHER, WAGES], in_order([1, 1, 2, 2, 3]))
    assert sorted(one.software_id.digits for one in made) == ["0000000022", "0000000033"]
    assert len(await everything(ledger)) == 3


async def test_draws_that_only_meet_taken_ids_end_and_leave_nothing(ledger: Ledger) -> None:
    await make(ledger, [ONE], in_order([1]))
    with pytest.raises(RefusedError, match="no free id") as refused:
        await make(ledger, [OTHER], in_order(itertools.repeat(1)))
    assert refused.value.code == "software-id.exhausted"
    assert len(await everything(ledger)) == 1


async def test_processes_that_register_the_same_clients_at_once_agree_on_one_id_each(
    ledger: Ledger, second_process: Ledger
) -> None:
    clients = [Subscription("Pay", f"{number:011d}") for number in range(200)]
    # All of them draw the same numbers, in the same order.
    made = await asyncio.gather(
        *(make(one, clients, in_order(itertools.count(1))) for one in (ledger, second_process) * 4)
    )
    stored = await everything(ledger)
    assert [one.whose for one in stored] == clients
    assert len({one.software_id for one in stored}) == len(clients)
    assert sorted((one for each in made for one in each), key=lambda one: one.whose) == stored


async def test_processes_that_draw_the_same_ids_for_different_clients_share_none(
    ledger: Ledger, second_process: Ledger
) -> None:
    batches = [[Subscription(f"Product {p}", f"{number:011d}") for number in range(20)] for p in range(4)]
    pairs = zip(batches, itertools.cycle((ledger, second_process)), strict=False)
    await asyncio.gather(*(make(one, batch, in_order(itertools.count(1))) for batch, one in pairs))
    stored = await everything(ledger)
    assert len(stored) == 80
    assert len({one.software_id for one in stored}) == 80


async def test_conflicts_say_which_of_the_two_rules_stands_against_it(ledger: Ledger) -> None:
    mine, another = imported(DIGITS, ONE), SoftwareId.of_number(7)
    async with ledger.transaction() as tx:
        await software_ids.add(tx, [mine])
        assert await software_ids.conflicts(tx, [mine]) == []
        taken, second = imported(DIGITS, OTHER), imported(another, ONE)
        assert await software_ids.conflicts(tx, [taken, second]) == [
            Conflict(taken, taken=mine, other=None),
            Conflict(second, taken=None, other=mine),
        ]


async def test_what_another_process_registered_meanwhile_undoes_the_whole_import(ledger: Ledger) -> None:
    await make(ledger, [ONE], in_order([1]))
    new = [imported(DIGITS, OTHER), imported(SoftwareId.of_number(1), WAGES)]
    with pytest.raises(RefusedError, match="registered in this instant") as refused:
        async with ledger.transaction() as tx:
            await software_ids.add(tx, new)
    assert refused.value.code == "software-id.taken"
    assert [one.whose for one in await everything(ledger)] == [ONE]


async def test_a_retired_id_is_found_no_more_and_given_to_nobody_else(ledger: Ledger) -> None:
    await make(ledger, [ONE], in_order([1]))
    gone = SoftwareId.of_number(1)
    async with ledger.transaction() as tx:
        assert await software_ids.retire(tx, gone, "ana@desk", "client left", NOW)
        assert not await software_ids.retire(tx, gone, "ana@desk", "again", NOW)
        assert await software_ids.registered(tx, [ONE]) == {}
    assert [one.software_id.digits for one in await make(ledger, [ONE, OTHER], in_order([1, 1, 2, 3]))] == [
        "0000000022",
        "0000000033",
    ]
    async with ledger.transaction(read_only=True) as tx:
        found = (await software_ids.by_id(tx, [gone]))[gone]
    assert (found.retired_at, found.retired_by, found.retired_reason) == (NOW, "ana@desk", "client left")


async def test_a_retired_id_is_restored_unless_its_client_has_another(ledger: Ledger) -> None:
    await make(ledger, [ONE], in_order([1]))
    gone = SoftwareId.of_number(1)
    async with ledger.transaction() as tx:
        await software_ids.retire(tx, gone, "ana@desk", "by mistake", NOW)
        assert await software_ids.restore(tx, gone)
        assert not await software_ids.restore(tx, gone)
        assert (await software_ids.registered(tx, [ONE]))[ONE].retired_at is None
        await software_ids.retire(tx, gone, "ana@desk", "client left", NOW)
        await software_ids.generate(tx, {ONE: None}, in_order([2]), "ana@desk", NOW)
    with pytest.raises(RefusedError):
        async with ledger.transaction() as tx:
            await software_ids.restore(tx, gone)


async def test_lists_are_searched_by_the_beginning_of_an_id_or_a_party(ledger: Ledger) -> None:
    await make(ledger, [OTHER, ONE, WAGES], in_order([1, 2, 300000000]))
    async with ledger.transaction() as tx:
        await software_ids.retire(tx, SoftwareId.of_number(2), "ana@desk", "client left", NOW)

        async def found(text: str, *, product: str | None = None, retired: bool = False) -> list[str]:
            ids = await software_ids.list_(tx, text, 10, product=product, retired=retired)
            return [one.software_id.digits for one in ids]

        assert await found("") == ["0000000011", "3000000003"]
        assert await found("51824") == ["3000000003"]
        assert await found("51824", retired=True) == ["0000000022", "3000000003"]
        assert await found("00000", retired=True) == ["0000000011", "0000000022"]
        assert await found("", product="Wages") == ["3000000003"]
        assert await found("%") == []
