"""From what a person types to the one lodgment that they mean."""

from typing import TYPE_CHECKING

from pipeline.lodgment.errors import RefusedError

if TYPE_CHECKING:
    from pipeline.ledger.session import Tx
    from pipeline.lodgment.lodgment import Lodgment


async def the_lodgment(tx: "Tx", text: str) -> "Lodgment":
    """The lodgment with this id, beginning of an id, reference or job id.

    Raises:
        RefusedError: `lodgment.none` or `lodgment.several`.
    """
    from pipeline.ledger import lodgments

    found = await lodgments.find(tx, text)
    if not found:
        fix = "give its id or the beginning of it, its reference or job id; refused jobs are in `lodge quarantine list`"
        raise RefusedError("lodgment.none", f"no lodgment is known as {text!r}: {fix}")
    if len(found) > 1:
        ids = ", ".join(str(one.id) for one in found)
        raise RefusedError("lodgment.several", f"{text!r} fits several lodgments, give more of the id: {ids}")
    return found[0]
