"""From what a person types to the one lodgment, or message in quarantine, that they mean."""

from typing import TYPE_CHECKING
from uuid import UUID

from pipeline.lodgment.errors import RefusedError
from pipeline.lodgment.shares import SHARE_TURN

if TYPE_CHECKING:
    from pipeline.ledger.quarantine import Quarantined
    from pipeline.ledger.session import Tx
    from pipeline.lodgment.lodgment import Lodgment


async def the_lodgment(tx: "Tx", text: str) -> "Lodgment":
    """The lodgment with this id, beginning of an id, reference or job id.

    Raises:
        RefusedError: `lodgment.none`, `lodgment.several`, or `share.turn` for a job that is not taken in yet.
    """
    from pipeline.ledger import lodgments, waiting_jobs

    found = await lodgments.find(tx, text)
    if not found and await waiting_jobs.known(tx, [text]):
        why = "its sender has many under way, and others have turns between them; it goes on by itself"
        raise RefusedError(SHARE_TURN, f"job {text!r} is safe in the ledger and not taken in yet: {why}")
    if not found:
        fix = "give its id or the beginning of it, its reference or job id; refused jobs are in `lodge quarantine list`"
        raise RefusedError("lodgment.none", f"no lodgment is known as {text!r}: {fix}")
    if len(found) > 1:
        ids = ", ".join(str(one.id) for one in found)
        raise RefusedError("lodgment.several", f"{text!r} fits several lodgments, give more of the id: {ids}")
    return found[0]


async def the_item(tx: "Tx", which: str) -> "Quarantined":
    """The message with this id.

    Raises:
        RefusedError: `quarantine.none`.
    """
    from pipeline.ledger import quarantine

    try:
        wanted = UUID(which)
    except ValueError as error:
        raise RefusedError("quarantine.none", f"{which!r} is no id; `lodge quarantine list` shows the ids") from error
    item = await quarantine.read(tx, wanted)
    if item is None:
        raise RefusedError("quarantine.none", f"nothing in quarantine has the id {which}; see `lodge quarantine list`")
    return item
