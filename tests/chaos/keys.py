"""The master key is gone, is rotated, or is rotated too soon."""

import base64
import secrets
from pathlib import Path

from tests.chaos.batches import PLAIN
from tests.chaos.ground import Ground
from tests.chaos.scenario import Field, Scenario
from tests.services.pipeline_processes import WORKERS, until


def missing(field: Field) -> None:
    """No worker starts without its key, each says so in one line, and what was under way waits."""
    with field.ground() as ground:
        _half_way(field, ground)
        key = _file(ground)
        key.rename(key.with_suffix(".away"))
        said = {ground.refused(name) for name in WORKERS}
        field.note("; ".join(sorted(said)))
        assert all(str(key) in line for line in said), said
        key.with_suffix(".away").rename(key)
        ground.crew()
        ground.push(field.marked.batch(field.size // 2, "after", PLAIN))
        ground.verdict(errors=("lodge",))


def rotated(field: Field) -> None:
    """A new key in front of the old one: what is under way is read with the old."""
    with field.ground() as ground:
        _half_way(field, ground)
        _write(ground, _new_key(), *_keys(ground))
        ground.crew()
        ground.push(field.marked.batch(field.size // 2, "after", PLAIN))
        ground.verdict()


def too_soon(field: Field) -> None:
    """The old key is taken away while documents are under way that only it opens: nothing works until it is back."""
    with field.ground() as ground:
        _half_way(field, ground)
        [old], new = _keys(ground), _new_key()
        _write(ground, new)
        said = {ground.refused(name) for name in WORKERS}
        field.note("; ".join(sorted(said)))
        _write(ground, new, old)
        ground.crew()
        ground.verdict(errors=("lodge",))


def unnoticed(field: Field) -> None:
    """The same, after newer documents were kept under the new key: each that cannot be opened is held, by name."""
    with field.ground() as ground:
        ground.start_sandbox()
        [old], new = _keys(ground), _new_key()
        for batch, keys in (("old", (old,)), ("new", (new, old))):
            _write(ground, *keys)
            ground.hire("intake").await_ready()
            ground.push(field.marked.batch(field.size // 2, batch, PLAIN))
            until("all are in the ledger", lambda: len(ground.states()) == len(ground.ends), 120)
            ground.stand_down()
        _write(ground, new)
        ground.crew()
        until("what can be opened is final", lambda: _final(ground) == field.size // 2, 120, ground.states)
        held = "SELECT reason_code, count(*) FROM lodgment_outcome WHERE state = 'held' GROUP BY 1"
        wanted = [("vault.key_unknown", field.size // 2)]
        until("the rest is held", lambda: ground.query(held) == wanted, 120, lambda: ground.query(held))
        field.note(f"held for want of their key: {ground.query(held)}")
        ground.stand_down()
        _write(ground, new, old)
        ground.crew()
        ground.run_command("release", "--held-for", "vault.key_unknown", "--reason", "the key is back")
        ground.verdict(kept={"vault.key_unknown": field.size // 2}, errors=("runner.poison", "quarantine.kept"))


def _half_way(field: Field, ground: Ground) -> None:
    """Lodgments in every state, and no worker."""
    ground.open()
    ground.push(field.marked.batch(field.size // 2, "before", (*PLAIN, "delayed"), seconds=3))
    until("some are final", lambda: _final(ground) > 0, 120)
    ground.stand_down()
    field.note(f"{_final(ground)} of {field.size // 2} are final when the workers end")


def _final(ground: Ground) -> int:
    return len([state for state in ground.states().values() if state in {"accepted", "rejected"}])


def _file(ground: Ground) -> Path:
    return ground.folder / "master.key"


def _keys(ground: Ground) -> list[str]:
    return _file(ground).read_text().split()


def _write(ground: Ground, *keys: str) -> None:
    _file(ground).write_text("\n".join(keys))


def _new_key() -> str:
    return base64.b64encode(secrets.token_bytes(32)).decode()


SCENARIOS = (
    Scenario("keys", "missing", "the master key's file is gone when the workers start again", missing),
    Scenario("keys", "rotated", "the master key is rotated while lodgments are under way", rotated),
    Scenario("keys", "too-soon", "the old master key is removed while it is still needed", too_soon),
    Scenario("keys", "unnoticed", "the same, and the newest document does not show it", unnoticed, size=40),
)
