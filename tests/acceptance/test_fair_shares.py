"""A bureau's batch does not stand before small employers that lodge behind it, in real processes."""

from collections.abc import Callable
from datetime import datetime

import pytest

from tests.acceptance.havoc import Batch, Crew, check_calm, check_queues_empty
from tests.acceptance.shares import PATIENT, names, push
from tests.services.pipeline_processes import until

_BATCH, _SMALL = 400, 40
_STILL_OPEN = _BATCH // 4


@pytest.mark.timeout(900)
def test_small_employers_do_not_wait_for_the_batch_that_came_before_them(open_crew: Callable[..., Crew]) -> None:
    """In one line they would end behind all of it: the times of one run are compared with each other, so that a busy
    machine changes nothing.
    """
    crew = open_crew(**PATIENT)
    push(crew, "bureau", _BATCH, bureau=True)
    push(crew, "small", _SMALL, bureau=False)
    until("the small ones are final", lambda: len(_ended(crew, "small")) == _SMALL, 600)
    until("all are final", lambda: len(_ended(crew, "bureau")) == _BATCH, 600)
    small, bureau = _ended(crew, "small"), _ended(crew, "bureau")
    assert sum(at > max(small) for at in bureau) >= _STILL_OPEN
    assert small[_SMALL // 2] < bureau[_BATCH // 2]
    jobs = [*names("bureau", _BATCH), *names("small", _SMALL)]
    check_calm(crew.site, Batch({}, dict.fromkeys(jobs, "accepted")))
    check_queues_empty(crew)
    assert crew.site.query("SELECT count(*) FROM waiting_job") == [(0,)]


def _ended(crew: Crew, name: str) -> list[datetime]:
    query = f"SELECT finished_at FROM lodgment_outcome WHERE state = 'accepted' AND job_id LIKE '{name}-%'"  # noqa: S608
    return sorted(at for (at,) in crew.site.query(query))
