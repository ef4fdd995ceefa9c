"""The example batch: lodgment jobs that meet every kind of trouble, each with the end that it must come to.

Everything in it is synthetic, and the same arguments give the same jobs.
"""

import json
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from lxml import etree

from pipeline.lodgment.states import State
from pipeline.sandbox.asic_messages import SERVICES
from pipeline.sandbox.home import Standing, credential_ids, synthetic_abn
from pipeline.sandbox.scenarios import Scenario, Script

SENDER_ID = "SYNTHETIC-AGENT-1"
SIZE = 300
_SERVICE = next(service for service in SERVICES if service.updates)
_NAMES = ("Wattle", "Banksia", "Café Ibis", "Quoll & Daughters", "Müller's <Bakery>", "Emu\u2019s Nest", "鴨 Duck")
_TRADES = ("Plumbing", "Bakery", "Bookkeeping", "Surf School", "Joinery", "Fruit & Veg")
_LANES = 6
_REJECTION_CODE = "S9001"


@dataclass(frozen=True, slots=True)
class Expectation:
    """How a job must end. `state` None: refused, it never becomes a lodgment of its own.

    `code` is what the reason's or the refusal's code begins with; None where it does not matter. `processed` is how
    often the sandbox's register must have processed its document.
    """

    state: State | None
    code: str | None = None
    processed: int = 1


@dataclass(frozen=True, slots=True)
class ExampleJob:
    """One message body, as a producer would push it, and its expected end."""

    job_id: str
    job: bytes
    expected: Expectation


_ACCEPTED = Expectation(State.ACCEPTED)
_SCRIPTS: tuple[tuple[Script, int, Expectation], ...] = (
    (Script(Scenario.ACCEPT_WITH_WARNINGS), 20, _ACCEPTED),
    (Script(Scenario.REJECT), 25, Expectation(State.REJECTED, _REJECTION_CODE)),
    (Script(Scenario.DELAYED, seconds=1), 12, _ACCEPTED),
    (Script(Scenario.UNAVAILABLE), 8, _ACCEPTED),
    (Script(Scenario.UNAVAILABLE, times=2), 2, _ACCEPTED),
    (Script(Scenario.UNAVAILABLE_UNTIL, seconds=3), 8, _ACCEPTED),
    (Script(Scenario.SLOW, seconds=2), 6, _ACCEPTED),
    (Script(Scenario.LOST_REPLY), 10, _ACCEPTED),
    (Script(Scenario.LOST_REPLY, times=2), 2, _ACCEPTED),
    (Script(Scenario.RESET_BEFORE), 10, _ACCEPTED),
    (Script(Scenario.TRUNCATED_REPLY), 8, _ACCEPTED),
    (Script(Scenario.EXPIRED_TOKEN), 5, _ACCEPTED),
    (Script(Scenario.INVALID, times=-1), 4, Expectation(State.HELD, "asic:FAULT.INVALIDXML", processed=0)),
    (Script(Scenario.RESULT_FAULT), 6, _ACCEPTED),
)
"""How many of `SIZE` meet which trouble, in a smaller batch fewer; the others are accepted at once."""


def example_batch(now: datetime, seed: int = 1, size: int = SIZE, name: str = "example") -> list[ExampleJob]:
    """About `size` jobs in the order in which they should be pushed. `name` begins every job id.

    `not_before` of some is a few seconds after `now`: to push a batch again take another `name`, or the same `now`.
    """
    chance = random.Random(seed)  # noqa: S311  - repeatable examples, not secrets
    share = min(size, SIZE)
    scripts = [(script, expected) for script, count, expected in _SCRIPTS for _ in range(max(1, count * share // SIZE))]
    scripts += [(Script(), _ACCEPTED)] * (size - len(scripts))
    chance.shuffle(scripts)
    jobs = [
        _job(f"{name}-{number:05d}", number, script, expected, chance, now)
        for number, (script, expected) in enumerate(scripts[:size], start=1)
    ]
    return [*jobs, *_odd_ones(name, jobs, chance)]


def payload(script: Script, proposed_name: str, abn: str, note: str = "") -> str:
    """A synthetic `businessDocumentBody` of a business name application."""
    root = etree.Element(_SERVICE.tag("businessDocumentBody"), nsmap={"bn": _SERVICE.namespace})
    if script != Script():
        scenario = _add(root, "sandboxScenario", script.scenario)
        scenario.set("times", str(script.times))
        scenario.set("seconds", f"{script.seconds:g}")
    _add(root, "proposedName", proposed_name)
    _add(root, "registrationYears", "3")
    holder = etree.SubElement(root, _SERVICE.tag("holder"))
    _add(holder, "abn", abn)
    _add(holder, "name", "SYNTHETIC holder")
    if note:
        _add(root, "note", note)
    return etree.tostring(root, encoding="unicode")


def _add(parent: etree._Element, name: str, text: str) -> etree._Element:
    child = etree.SubElement(parent, _SERVICE.tag(name))
    child.text = text
    return child


def _job(
    job_id: str, number: int, script: Script, expected: Expectation, chance: random.Random, now: datetime
) -> ExampleJob:
    abn = synthetic_abn(1000 + number)
    proposed_name = f"{chance.choice(_NAMES)} {chance.choice(_TRADES)} {number}"
    fields: dict[str, object] = {
        "version": 1,
        "job_id": job_id,
        "channel": "asic_bn",
        "service": "business-names",
        "action": _SERVICE.message_type,
        "sender": {"id": SENDER_ID, "type": "REGA"},
        "employer": {"abn": abn, "name": "SYNTHETIC employer"},
        "payload": {"inline": payload(script, proposed_name, abn, note=f"SYNTHETIC lodgment {job_id}")},
        "priority": chance.choice((1, 5, 5, 5, 9)),
        "labels": {"scenario": script.scenario.value},
    }
    if number % 10 == 0 and expected.state is not State.HELD:
        # A held lodgment would hold up its whole lane.
        fields["order_key"] = f"{job_id.rpartition('-')[0]}-lane-{number // 10 % _LANES}"
    if number % 23 == 0:
        fields["not_before"] = (now + timedelta(seconds=chance.randint(2, 6))).isoformat()
    if number % 7 == 0:
        fields["credential"] = credential_ids(Standing.GOOD)[1]
    return ExampleJob(job_id, _written(fields), expected)


def _odd_ones(name: str, jobs: list[ExampleJob], chance: random.Random) -> Iterator[ExampleJob]:
    """A repeated job, a changed one under a used id, jobs that cannot be taken, and credentials that get no token."""
    accepted = [job for job in jobs if job.expected == _ACCEPTED]
    repeated, changed = chance.sample(accepted, 2)
    yield repeated
    fields = json.loads(changed.job)
    fields["payload"] = {"inline": payload(Script(), "Another Name", synthetic_abn(999))}
    yield ExampleJob(changed.job_id, _written(fields), Expectation(None, "job.conflict", processed=0))
    for suffix, code, wrong in (
        ("wrong-abn", "job.invalid", {"employer": {"abn": "12345678901"}}),
        ("wrong-root", "payload.root", {"payload": {"inline": "<application>SYNTHETIC</application>"}}),
        ("not-xml", "payload.xml.malformed", {"payload": {"inline": "<application>SYNTHETIC"}}),
    ):
        yield _variant(jobs[0], f"{name}-{suffix}", wrong, Expectation(None, code, processed=0))
    for standing, code in ((Standing.EXPIRED, "E2015"), (Standing.REVOKED, "E2014")):
        own = {
            "credential": credential_ids(standing)[0],
            "payload": {"inline": payload(Script(), f"Never Lodged {code}", synthetic_abn(998))},
        }
        yield _variant(jobs[0], f"{name}-{standing}", own, Expectation(State.HELD, code, processed=0))


def _variant(original: ExampleJob, job_id: str, changes: Mapping[str, object], expected: Expectation) -> ExampleJob:
    fields = {**json.loads(original.job), "job_id": job_id, **changes}
    fields.pop("order_key", None)
    fields.pop("not_before", None)
    return replace(original, job_id=job_id, job=_written(fields), expected=expected)


def _written(fields: dict[str, object]) -> bytes:
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode()
