"""The example pay run: a bureau's employers lodge on one day and meet every trouble, each with the end it must have.

Everything in it is synthetic, and the same arguments give the same jobs.
"""

import json
import random
import re
from dataclasses import replace
from datetime import datetime

from pipeline.lodgment.states import State
from pipeline.sandbox.example import ExampleJob, Expectation
from pipeline.sandbox.pay_run import Employer, employers, pay_event
from pipeline.sandbox.sbr2_outcomes import NOT_AUTHORISED
from pipeline.sandbox.sbr2_scenarios import Sbr2Scenario, Sbr2Script

SENDER_ID = "SYNTHETIC-SSP-1"
EMPLOYERS, PAYEES = 200, 5_000
_ACCEPTED = Expectation(State.ACCEPTED)
_HELD = Expectation(State.HELD, NOT_AUTHORISED, processed=0)
_SCRIPTS: tuple[tuple[Sbr2Script, int, Expectation], ...] = (
    (Sbr2Script(Sbr2Scenario.ACCEPT_WITH_WARNINGS), 20, _ACCEPTED),
    (Sbr2Script(Sbr2Scenario.PARTIALLY_ACCEPT), 20, Expectation(State.PARTIALLY_ACCEPTED)),
    (Sbr2Script(Sbr2Scenario.REJECT), 10, Expectation(State.REJECTED, "CMN.ATO.PAYEVNT.000179")),
    (Sbr2Script(Sbr2Scenario.DELAYED, seconds=3), 12, _ACCEPTED),
    (Sbr2Script(Sbr2Scenario.DELAYED, seconds=8), 4, _ACCEPTED),
    (Sbr2Script(Sbr2Scenario.NOT_AUTHORISED, times=-1), 4, _HELD),
    (Sbr2Script(Sbr2Scenario.NOT_AUTHORISED_LATER, times=-1), 2, _HELD),
    (Sbr2Script(Sbr2Scenario.UNAVAILABLE), 6, _ACCEPTED),
    (Sbr2Script(Sbr2Scenario.RESET_BEFORE), 6, _ACCEPTED),
    (Sbr2Script(Sbr2Scenario.EXPIRED_TOKEN), 4, _ACCEPTED),
    (Sbr2Script(Sbr2Scenario.SLOW), 4, _ACCEPTED),
    (Sbr2Script(Sbr2Scenario.LOST_REPLY), 6, _ACCEPTED),
    (Sbr2Script(Sbr2Scenario.LOST_REPLY, times=2), 2, _ACCEPTED),
    (Sbr2Script(Sbr2Scenario.TRUNCATED_RECEIPT), 4, _ACCEPTED),
    (Sbr2Script(Sbr2Scenario.WRONG_RECEIPT), 4, _ACCEPTED),
    (Sbr2Script(Sbr2Scenario.DUPLICATE), 4, _ACCEPTED),
    (Sbr2Script(Sbr2Scenario.TRUNCATED_RESPONSE), 4, _ACCEPTED),
    (Sbr2Script(Sbr2Scenario.BROKEN_BOUNDARY), 2, _ACCEPTED),
    (Sbr2Script(Sbr2Scenario.BROKEN_GZIP), 2, _ACCEPTED),
    (Sbr2Script(Sbr2Scenario.WRONG_REFERENCE), 2, _ACCEPTED),
    (Sbr2Script(Sbr2Scenario.TAMPERED_RESPONSE), 2, _ACCEPTED),
    (Sbr2Script(Sbr2Scenario.UNSIGNED_RESPONSE), 2, _ACCEPTED),
)
"""How many of two hundred meet which trouble; the others are accepted at once."""


_TOTALS = re.compile("<tns:IncomeTaxAndRemuneration>.*?</tns:IncomeTaxAndRemuneration>", re.DOTALL)


def pay_run_batch(
    now: datetime, seed: int = 1, count: int = EMPLOYERS, payees: int = PAYEES, name: str = "payrun"
) -> list[ExampleJob]:
    """A pay event of each of `count` employers, `payees` between them, in the order in which to push them; and a few
    that are odd: one lodged twice as two jobs, one corrected, one that must be refused.

    Raises:
        ValueError: as for `employers`.
    """
    chance = random.Random(seed)  # noqa: S311  - repeatable examples, not secrets
    scripts = [
        (script, expected) for script, many, expected in _SCRIPTS for _ in range(max(1, many * count // EMPLOYERS))
    ][:count]
    scripts += [(Sbr2Script(), _ACCEPTED)] * (count - len(scripts))
    chance.shuffle(scripts)
    jobs = [
        _job(f"{name}-{employer.number:05d}", employer, script, expected, now)
        # What an earlier run left held must not stand before this one in its lane.
        for employer, (script, expected) in zip(employers(count, payees, chance, name), scripts, strict=True)
    ]
    return [*jobs, *_odd_ones(name, jobs, chance)]


def _job(job_id: str, employer: Employer, script: Sbr2Script, expected: Expectation, now: datetime) -> ExampleJob:
    fields = {
        "version": 1,
        "job_id": job_id,
        "channel": "sbr2_stp",
        "service": "payevnt",
        "action": "Submit",
        "sender": {"id": SENDER_ID, "type": "SSP"},
        "employer": {"abn": employer.abn, "name": employer.name},
        "payload": {"inline": pay_event(employer, job_id, now, None if script == Sbr2Script() else script)},
        "labels": {"scenario": script.scenario.value},
    }
    return ExampleJob(job_id, _written(fields), expected)


def _odd_ones(name: str, jobs: list[ExampleJob], chance: random.Random) -> list[ExampleJob]:
    """Each in the lane of the employer whose event it repeats, corrects or gets wrong."""
    again, corrected, wrong = chance.sample([job for job in jobs if job.expected == _ACCEPTED], 3)
    fields = json.loads(wrong.job)
    document = fields["payload"]["inline"].replace("<tns:InteractionRecordCt>", "<tns:InteractionRecordCt>9")
    submission = f"{name}-corrected"
    update = json.loads(corrected.job)["payload"]["inline"].replace(corrected.job_id, submission)
    # An update pays nothing: it carries no totals of the payer.
    update = _TOTALS.sub("", update, count=1)
    return [
        _variant(again, f"{name}-again", expected=replace(_ACCEPTED, processed=0)),
        _variant(corrected, submission, expected=_ACCEPTED, action="Update", payload={"inline": update}),
        _variant(wrong, f"{name}-wrong-count", Expectation(None, "stp.rules", 0), payload={"inline": document}),
    ]


def _variant(original: ExampleJob, job_id: str, expected: Expectation, **changes: object) -> ExampleJob:
    return ExampleJob(job_id, _written({**json.loads(original.job), "job_id": job_id, **changes}), expected)


def _written(fields: dict[str, object]) -> bytes:
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode()
