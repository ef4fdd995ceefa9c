"""Ids of messages and of the elements in them: fresh in every process, also in those that a fork made of one."""

import subprocess
import sys

_FORKED = """
import os
from datetime import UTC, datetime
from pipeline.lodgment.references import Ids
ids = Ids()
def emit(count, out):
    for _ in range(count):
        out.write(ids.new(datetime.now(UTC), os.urandom(10)).hex.encode() + b"\\n")
children = []
with os.fdopen(os.dup(1), "wb") as own:
    emit(10_000, own)
for _ in range(4):
    reading, writing = os.pipe()
    if os.fork() == 0:
        with os.fdopen(writing, "wb") as out:
            emit(10_000, out)
        os._exit(0)
    os.close(writing)
    children.append(reading)
for reading in children:
    with os.fdopen(reading, "rb") as source, os.fdopen(os.dup(1), "wb") as own:
        own.write(source.read())
    os.wait()
"""


def test_a_hundred_thousand_ids_of_a_process_its_forks_and_their_restart_are_all_different() -> None:
    runs = [
        subprocess.run([sys.executable, "-c", _FORKED], capture_output=True, check=True, timeout=120).stdout.split()
        for _ in range(2)
    ]
    assert [len(run) for run in runs] == [50_000, 50_000]
    assert len({*runs[0], *runs[1]}) == 100_000
