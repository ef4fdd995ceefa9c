"""Clocks that step, processes that sleep, and an hour without a token service: on clocks that are set from outside."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from tests.chaos.batches import PLAIN
from tests.chaos.crashing import set_clock
from tests.chaos.ground import Ground
from tests.chaos.scenario import Field, Scenario
from tests.services.pipeline_processes import until

_BEYOND_A_TOKEN = timedelta(minutes=31)
_FROM_THE_FUTURE = "asic:FAULT.INVALIDXML"
"""What the agency says of a message whose time lies ahead of its own clock."""
_LOOK = 3.0
"""Seconds that five minutes of the shifted clock are given: a token worker looks four times a second."""
_ASKED_AT_MOST = 40
"""Requests to a token service that is down for an hour: one probe at a time, whatever waits."""

_NOBODY_LOOKED = "sweep.missing"
"""By a clock that steps half an hour ahead nobody has looked for what is stuck for so long: true, if the watch on the
sweeps has its turn before they have.
"""


@contextmanager
def _clocked(field: Field, *, agency_timeout: float = 1) -> Iterator[tuple[Ground, Callable[[timedelta], None]]]:
    """A ground whose processes, sandbox included, go by one clock; and how to set it, from the true time."""
    path = field.folder / "clock"
    path.parent.mkdir(parents=True, exist_ok=True)
    set_clock(path, 0)

    def step(by: timedelta) -> None:
        set_clock(path, by.total_seconds())
        field.note(f"the clock stands {by.total_seconds():+.0f} s from the true time")

    with field.ground(clock=path, agency_timeout=agency_timeout) as ground:
        yield ground, step


def forward(field: Field) -> None:
    """Every token has expired at once, those of lodgments that are under way as well."""
    with _clocked(field) as (ground, step):
        ground.open()
        _push_around(field, ground, lambda: step(_BEYOND_A_TOKEN))
        ground.verdict(errors=(_NOBODY_LOOKED,))
        _see_new_token(field, ground)


def back(field: Field) -> None:
    """Every token is from the future, and so is what was sealed just before: that is held, and goes when the clock
    is right again.
    """
    with _clocked(field) as (ground, step):
        ground.open()
        _push_around(field, ground, lambda: step(-_BEYOND_A_TOKEN))
        settled = {"accepted", "rejected", "held"}
        until(
            "all is final or held",
            lambda: len(s := ground.states()) == len(ground.ends) and {*s.values()} <= settled,
            180,
            ground.states,
        )
        held = ground.query("SELECT reason_code, count(*) FROM lodgment_outcome WHERE state = 'held' GROUP BY 1")
        field.note(f"held: {held}")
        assert {code for code, _ in held} <= {_FROM_THE_FUTURE}, held
        _see_new_token(field, ground)
        step(timedelta(0))
        if held:
            ground.run_command("release", "--held-for", _FROM_THE_FUTURE, "--reason", "the clock is right again")
        ground.verdict()


def _push_around(field: Field, ground: Ground, step: Callable[[], None]) -> None:
    ground.push(field.marked.batch(field.size // 2, "before", PLAIN))
    until("some are final", lambda: "accepted" in ground.states().values(), 120)
    step()
    ground.push(field.marked.batch(field.size // 2, "after", PLAIN))


def _see_new_token(field: Field, ground: Ground) -> None:
    requests = ground.asked()[0]["requests"]
    field.note(f"the token service was asked {requests} times")
    assert requests >= 2, "the first token was not replaced"


def asleep(field: Field) -> None:
    """Every worker sleeps for half an hour in the middle of its requests, as a machine that was suspended."""
    with _clocked(field, agency_timeout=10) as (ground, step):
        ground.open()
        ground.push(field.marked.batch(field.size, "asleep", (*PLAIN, "slow"), seconds=2))
        until("requests are under way", lambda: "sending" in ground.states().values(), 120)
        sleepers = [worker for _, worker in ground.workers]
        for worker in sleepers:
            worker.tell(signal.SIGSTOP)
        field.note(f"asleep with {sum(state == 'sending' for state in ground.states().values())} requests under way")
        step(timedelta(minutes=30))
        for worker in sleepers:
            worker.tell(signal.SIGCONT)
        ground.push(field.marked.batch(10, "awake", PLAIN))
        ground.verdict(errors=(_NOBODY_LOOKED,))


def no_tokens(field: Field) -> None:
    """An hour without a token service, in steps of five minutes; then everything goes by itself."""
    with _clocked(field) as (ground, step):
        ground.open()
        ground.script(service="sts", outage=True)
        ground.push(field.marked.batch(field.size, "waits", PLAIN))
        waiting = dict.fromkeys(ground.ends, "parked")
        until("all wait for a token", lambda: ground.states() == waiting, 120)
        for minutes in range(5, 61, 5):
            before = ground.asked()[0]["requests"]
            step(timedelta(minutes=minutes))
            # The desk asks ever more rarely: in the end not in each five minutes.
            look_until = time.monotonic() + _LOOK
            until(
                "it is asked again, or was given the time to",
                lambda before=before, end=look_until: (  # type: ignore[misc]
                    ground.asked()[0]["requests"] > before or time.monotonic() > end
                ),
                60,
            )
            until("all wait again", lambda: ground.states() == waiting, 60)
        reasons = ground.query("SELECT DISTINCT reason_code FROM lodgment_outcome")
        assert reasons == [("token.requested",)], reasons
        total, _ = ground.asked()
        field.note(f"in the hour the token service was asked {total['requests']} times for {field.size} lodgments")
        assert total["requests"] <= _ASKED_AT_MOST, total
        ground.script(service="sts")
        step(timedelta(minutes=90))
        ground.verdict(errors=("breaker.opened", _NOBODY_LOOKED))


SCENARIOS = (
    Scenario("clock", "forward", "the machine's clock steps 31 minutes ahead, over the end of every token", forward),
    Scenario("clock", "back", "the machine's clock steps 31 minutes back", back),
    Scenario("clock", "asleep", "every process sleeps for 30 minutes with requests under way", asleep),
    Scenario("tokens", "down-for-an-hour", "the token service is down for an hour", no_tokens),
)
