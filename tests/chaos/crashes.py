"""Each worker is killed by SIGKILL at each place where it can be, while lodgments flow; another takes its place."""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import count

from tests.chaos.batches import PLAIN, TROUBLED
from tests.chaos.crashing import Harness, Point
from tests.chaos.ground import PATIENCE
from tests.chaos.scenario import Field, Scenario
from tests.services.pipeline_processes import WORKERS, until

_EVERY = (
    Point.COMMIT_BEFORE,
    Point.COMMIT_AFTER,
    Point.PUBLISH_BEFORE,
    Point.PUBLISH_UNCONFIRMED,
    Point.PUBLISH_AFTER,
    Point.ACK_BEFORE,
    Point.ACK_AFTER,
)
_SENDS = (Point.SEND_BEFORE, Point.SEND_WRITTEN, Point.SEND_ANSWERED)
_SENDERS = frozenset({"token", "transport"})
MATRIX = tuple((worker, point) for worker in WORKERS for point in Point if point in _EVERY or worker in _SENDERS)
_POISON = b"\x00 not a message of ours: %d"
_PORTION = 8


def play(field: Field, worker: str, point: Point) -> None:
    """One cell of the matrix."""
    nth = field.chance.randrange(1, 4) if point not in _SENDS or worker == "transport" else 1
    with field.ground() as ground:
        ground.open(but=(worker,))
        victim = ground.hire(worker, Harness(point, nth))
        victim.await_ready()
        # A scheduler acknowledges nothing but what comes into quarantine.
        poisoned = worker == "scheduler" and point in {Point.ACK_BEFORE, Point.ACK_AFTER}
        poisons = count()

        def feed() -> None:
            if poisoned:
                ground.inject("seal", _POISON % next(poisons))
            if len(ground.ends) < field.size * 10:
                number = len(ground.ends) // _PORTION
                kinds = TROUBLED if worker == "scheduler" else PLAIN
                ground.push(field.marked.batch(_PORTION, f"{worker}-{number}", kinds))

        feed()
        ground.await_crash(victim, meanwhile=feed)
        field.note(f"{worker} died at pass {nth} of {point}, {len(ground.ends)} jobs pushed")
        ground.hire(worker).await_ready()
        ground.push(field.marked.batch(_PORTION, f"{worker}-after"))
        # Each once, although the scheduler died with some of them kept and not acknowledged.
        ground.verdict(kept={"message.step": next(poisons)}, errors=("runner.poison", "quarantine.kept"))


def all_at_once(field: Field, victims: Sequence[tuple[str, Point]]) -> None:
    """Every victim dies once at its point, in one run of lodgments; then each has a successor."""
    with field.ground() as ground:
        ground.open(but=[worker for worker, _ in victims])
        alive = {worker: ground.hire(worker, Harness(point)) for worker, point in victims}
        for victim in alive.values():
            victim.await_ready()
        ground.push(field.marked.batch(field.size, "crowd", TROUBLED))

        def all_died() -> bool:
            # In whatever order: one victim's death may wait for another's successor.
            for worker, victim in tuple(alive.items()):
                if victim.left() is not None:
                    ground.await_crash(alive.pop(worker))
                    ground.hire(worker)
                    field.note(f"{worker} died and was replaced")
            return not alive

        until("every victim dies at its point", all_died, PATIENCE, lambda: sorted(alive))
        ground.verdict()


def _cell(worker: str, point: Point) -> Callable[[Field], None]:
    return partial(play, worker=worker, point=point)


SCENARIOS = tuple(
    Scenario("crash", f"{worker}/{point}", f"the {worker} worker dies at {point}", _cell(worker, point))
    for worker, point in MATRIX
)
