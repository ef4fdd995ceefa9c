"""States in plain words: what each means, and what an operator may do. The same words are in docs/operations.md."""

from collections.abc import Mapping

from pipeline.lodgment.failures import Party
from pipeline.lodgment.holds import Reach
from pipeline.lodgment.states import State

MEANING: Mapping[State, str] = {
    State.RECEIVED: "Stored with its reference; a security token is needed next.",
    State.AUTHORISED: "A token is at hand; its envelope is built next.",
    State.SEALED: "Its envelope is stored to the byte; it is sent next.",
    State.SENDING: "A transport worker is sending it now, or waits for the answer.",
    State.AWAITING: "The agency has it and will answer later; it is asked again by itself.",
    State.UNKNOWN: "It may have arrived and no answer came: neither lodged nor failed. The same reference settles it.",
    State.PARKED: "It waits until a time, and then goes on by itself.",
    State.HELD: "A person must act; it does not go on by itself.",
    State.ACCEPTED: "Accepted by the agency. Done.",
    State.PARTIALLY_ACCEPTED: "Accepted in part: see the message events for the rest. Done.",
    State.REJECTED: "Rejected by the agency under its business rules. Done; a corrected document is a new job.",
    State.CANCELLED: "Withdrawn before anything was sent. Done.",
}

WHO: Mapping[Party, str] = {
    Party.NOBODY: "nobody",
    Party.EMPLOYER: "the employer (the business that the document is about)",
    Party.AGENT: "the registered agent",
    Party.PRODUCER: "the producer (whoever wrote the job or its document)",
    Party.OPERATOR: "the operator (you)",
    Party.AGENCY: "the agency",
}


def release_of(reach: Reach) -> str:
    """The command that tries a hold with one lodgment, to be pasted."""
    return f'lodge release --{reach.scope} "{reach.key}" --reason "…"'
