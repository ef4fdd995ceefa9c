"""The battery's judge can be convinced only by the truth: each test doctors one piece of evidence."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.acceptance.havoc import seeded
from tests.chaos.batches import Marked, synthetic_tfn
from tests.chaos.checker import Evidence, Expected, Kept, Line, Row, judge

SECRET = "Trader 0badcafe"
ACCEPTED = Row("job-0", "reference-0", "accepted", None, None)
REJECTED = Row("job-1", "reference-1", "rejected", "asic:00001", "The name is taken.")
HELD = Row("job-2", "reference-2", "held", "message.step", "The message could not be read.")
SOUND = Evidence(
    rows=(ACCEPTED, REJECTED, HELD),
    book=(Line("reference-0", "document-0", 2, 1, None), Line("reference-1", "document-1", 1, 1, None)),
    kept=(Kept("seal", "message.step", "The message could not be read."),),
    told=frozenset({("job-0", "accepted"), ("job-1", "rejected"), ("job-2", "held")}),
    queues={"receive": 0, "quarantine": 0},
    logs={"003-worker-intake.log": '{"event": "receive.completed", "level": "info"}\n'},
)
EXPECTED = Expected(
    ends={"job-0": "accepted", "job-1": "rejected", "job-2": "held:message.step"},
    kept={"message.step": 1},
    secrets=(SECRET,),
)


def test_sound_evidence_breaks_no_promise() -> None:
    assert judge(SOUND, EXPECTED) == []


def logged(text: str, name: str = "worker-transport.log") -> Evidence:
    return replace(SOUND, logs={**SOUND.logs, name: text})


def booked(*lines: Line) -> Evidence:
    return replace(SOUND, book=(*SOUND.book, *lines))


DOCTORED: dict[str, tuple[Evidence, str]] = {
    "a confirmed job is not in the ledger": (
        replace(SOUND, rows=SOUND.rows[1:], book=SOUND.book[1:]),
        "job-0: was confirmed to its producer and is not in the ledger",
    ),
    "a job that nobody pushed": (
        replace(SOUND, rows=(*SOUND.rows, Row("job-9", "reference-9", "received", None, None))),
        "job-9: is in the ledger and nobody pushed it",
    ),
    "a job has two rows": (
        replace(SOUND, rows=(*SOUND.rows, replace(HELD, reference="reference-3"))),
        "1 jobs have a second row in the ledger",
    ),
    "a job is still under way": (
        replace(SOUND, rows=(ACCEPTED, REJECTED, replace(HELD, state="sending"))),
        "job-2: is sending, which is neither final nor a state that waits for something",
    ),
    "a job ended otherwise": (
        replace(SOUND, rows=(replace(ACCEPTED, state="rejected"), REJECTED, HELD)),
        "job-0: is rejected (None), expected accepted",
    ),
    "a job is held for another reason": (
        replace(SOUND, rows=(ACCEPTED, REJECTED, replace(HELD, code="defect.KeyError"))),
        "job-2: is held (defect.KeyError), expected held:message.step",
    ),
    "a job is held and nothing says why": (
        replace(SOUND, rows=(ACCEPTED, REJECTED, replace(HELD, reason=None))),
        "job-2: is held and nothing says why",
    ),
    "an accepted lodgment was never processed": (
        replace(SOUND, book=(replace(SOUND.book[0], processed=0), SOUND.book[1])),
        "job-0: is accepted and the agency processed it 0 times",
    ),
    "an accepted lodgment is unknown to the agency": (
        replace(SOUND, book=SOUND.book[1:]),
        "job-0: is accepted and the agency processed it 0 times",
    ),
    "a reference was processed twice": (
        replace(SOUND, book=(SOUND.book[0], replace(SOUND.book[1], processed=2))),
        "job-1: the agency processed its reference 2 times",
    ),
    "a held lodgment was processed twice": (
        booked(Line("reference-2", "document-2", 2, 2, None)),
        "job-2: the agency processed its reference 2 times",
    ),
    "a document went out under a second reference": (
        booked(Line("reference-2", "document-0", 1, 1, None)),
        "document document-0 went out under 2 references",
    ),
    "the agency saw a reference of nobody's": (
        booked(Line("reference-7", "document-7", 1, 0, None)),
        "reference-7: the agency saw a reference that is not in the ledger",
    ),
    "the agency complains": (
        booked(Line("reference-2", "document-2", 1, 0, "another document")),
        "reference-2: the agency complains: another document",
    ),
    "a cancelled lodgment was sent": (
        replace(booked(Line("reference-2", "document-2", 1, 0, None)), rows=(replace(HELD, state="cancelled"),)),
        "job-2: is cancelled and the agency saw it",
    ),
    "a producer was not told": (
        replace(SOUND, told=SOUND.told - {("job-1", "rejected")}),
        "job-1: is rejected and its producer was never told",
    ),
    "a message is left": (replace(SOUND, queues={"submit": 1}), "queue submit still holds 1 messages"),
    "quarantine holds more than it should": (
        replace(SOUND, kept=(*SOUND.kept, Kept("seal", "delivery.limit", "worn out"))),
        "in quarantine by code: {'message.step': 1, 'delivery.limit': 1}, expected {'message.step': 1}",
    ),
    "quarantine lacks what it should hold": (
        replace(SOUND, kept=()),
        "in quarantine by code: {}, expected {'message.step': 1}",
    ),
    "quarantine does not say why": (
        replace(SOUND, kept=(Kept("seal", "message.step", ""),)),
        "a message of seal is in quarantine and nothing says why",
    ),
    "a worker ended by itself": (replace(SOUND, ended=["worker-signer ended by itself with 1"]), "worker-signer ended"),
    "a log holds a document's text": (
        logged(f'{{"event": "receive.completed", "level": "info", "name": "{SECRET}"}}'),
        "worker-transport.log: the log holds text 0 of this run's documents and keys",
    ),
    "the sandbox's log holds a document's text": (
        logged(SECRET, "sandbox-serve.log"),
        "sandbox-serve.log: the log holds text 0",
    ),
    "a log holds an envelope": (
        logged('{"event": "x", "level": "info", "body": "<soap:Envelope>"}'),
        "worker-transport.log: the log holds 'Envelope'",
    ),
    "a command ends with an error": (logged("lodge: no key [x]"), "worker-transport.log: lodge: no key [x]"),
    "an error was logged": (
        logged('{"event": "runner.poison", "level": "error"}'),
        'worker-transport.log: {"event": "runner.poison"',
    ),
    "a traceback stands in a log": (
        logged("Traceback (most recent call last):"),
        "worker-transport.log: Traceback (most recent call last):",
    ),
}


@pytest.mark.parametrize(("evidence", "finding"), DOCTORED.values(), ids=DOCTORED)
def test_doctored_evidence_is_found_out(evidence: Evidence, finding: str) -> None:
    assert any(found.startswith(finding) for found in judge(evidence, EXPECTED)), judge(evidence, EXPECTED)


HARMLESS: dict[str, Callable[[], Evidence]] = {
    "an error that the scenario explains": lambda: logged('{"event": "runner.poison", "level": "error"}'),
    "a command that says why it ends": lambda: logged("lodge: no key [master-key.missing]"),
    "half a line of a killed process": lambda: logged('{"event": "receive.comp'),
    "what the sandbox says of clients that were killed": lambda: logged("Traceback", "sandbox-serve.log"),
}


@pytest.mark.parametrize("evidence", HARMLESS.values(), ids=HARMLESS)
def test_what_the_trouble_explains_is_not_held_against_it(evidence: Callable[[], Evidence]) -> None:
    assert judge(evidence(), replace(EXPECTED, errors=frozenset({"runner.poison", "lodge"}))) == []


@pytest.mark.parametrize("seed", range(20))
def test_a_synthetic_number_is_nobodys_tax_file_number(seed: int) -> None:
    digits = synthetic_tfn(seeded(seed))
    assert len(digits) == 9
    assert sum(w * int(d) for w, d in zip((1, 4, 3, 7, 5, 8, 6, 9, 10), digits, strict=True)) % 11 != 0


def test_one_seed_makes_one_batch() -> None:
    first, again, other = (Marked(seeded(seed)).batch(20, "job") for seed in (1, 1, 2))
    assert first == again != other
