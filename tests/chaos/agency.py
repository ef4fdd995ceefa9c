"""The agency's gate refuses, drips, floods, answers for somebody else; it may have processed all the same."""

from functools import partial

from tests.chaos.batches import PLAIN
from tests.chaos.fronts import Manner, gate
from tests.chaos.scenario import Field, Scenario
from tests.services.pipeline_processes import until

_MET = "SELECT count(DISTINCT reference) FROM attempt_history WHERE {}"
_MANNERS: dict[Manner, tuple[str, str, str, int]] = {
    # manner: name, what it does, how an attempt shows it, lodgments
    Manner.REFUSES: ("503", "says HTTP 503 to everything", "http_status = 503", 40),
    Manner.REFUSES_LATE: ("503-after", "processes and says HTTP 503", "http_status = 503", 40),
    Manner.GATEWAY_TIMEOUT: ("504-after", "processes and says HTTP 504", "http_status = 504", 40),
    Manner.DRIPS: ("drip", "drips its reply for longer than anybody waits", "failure_code = 'transport.timeout'", 40),
    Manner.HUGE: ("huge", "announces a reply of 60 MB", "failure_code = 'transport.reply-too-big'", 20),
    Manner.HUGE_UNANNOUNCED: ("flood", "sends 60 MB unannounced", "failure_code = 'transport.reply-too-big'", 4),
    Manner.BOMB: ("gzip-bomb", "answers with a compressed bomb", "failure_code = 'transport.reply-too-big'", 4),
    Manner.OTHERS_REFERENCE: ("wrong-reference", "answers with another reference", "http_status = 200", 40),
    Manner.OTHERS_REPLY: ("others-reply", "answers with the reply of the one before", "http_status = 200", 40),
    Manner.GARBAGE: ("garbage", "answers with garbage", "http_status = 200", 40),
    Manner.EMPTY: ("empty", "answers with nothing", "http_status = 200", 40),
    Manner.BREAKS_OFF: ("breaks-off", "breaks off", "failure_code IN ('transport.truncated', 'transport.reset')", 40),
}
_FLOODS = {Manner.HUGE, Manner.HUGE_UNANNOUNCED, Manner.BOMB}


def play(field: Field, manner: Manner, shown: str) -> None:
    """Every lodgment meets the manner at least once; then the gate is honest."""
    # A busy machine needs seconds to pour and to refuse such a flood: that is not to look like a reply that is late.
    patience = 15 if manner in _FLOODS else 2
    with field.ground(agency_timeout=patience) as ground, gate(ground) as keeper:
        ground.open()
        keeper.manner = manner
        ground.push(field.marked.batch(field.size, "manner", PLAIN))
        met = _MET.format(shown)
        until("every lodgment met it", lambda: ground.query(met) == [(field.size,)], 120, lambda: ground.query(met))
        states = sorted(set(ground.states().values()))
        field.note(f"all {field.size} met it; states while it lasts: {', '.join(states)}")
        keeper.manner = Manner.HONEST
        ground.verdict()


SCENARIOS = tuple(
    Scenario("agency", name, f"the agency's gate {what}", partial(play, manner=manner, shown=shown), size)
    for manner, (name, what, shown, size) in _MANNERS.items()
)
