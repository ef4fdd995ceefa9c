"""A process's own peak while a large document goes into PostgreSQL and comes out: what no tracing of Python shows.

The driver's buffers are not Python's, so the kernel is asked (proc(5), VmHWM), in a process that does nothing else.
"""

import json
import subprocess
import sys
from pathlib import Path

SIZE = 24_000_000
_WORKS = """
import asyncio, hashlib, json, random, sys
from pathlib import Path

from pipeline.ledger import artifacts
from pipeline.ledger.artifact_rows import NewEnvelope
from pipeline.ledger.session import Ledger
from pipeline.ledger.vault import Vault
from tests.doubles.lodgments import NOW, a_lodgment, fresh_id
from tests.integration.ledger.samples import a_payload

url, size = sys.argv[1], int(sys.argv[2])

def peak():
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM:"))

def forget():
    Path("/proc/self/clear_refs").write_text("5")
    return peak()

async def through(ledger, content):
    lodgment = a_lodgment()
    digest = hashlib.sha256(content)
    around, stored = (lodgment.id, lodgment.payload_id, b"", b""), (digest.hexdigest(), len(content), NOW)
    envelope = NewEnvelope(fresh_id(), *around, *stored)
    before = forget()
    async with ledger.transaction() as tx:
        await artifacts.add(tx, [a_payload(lodgment, content)])
        await artifacts.add_envelopes(tx, [envelope])
    written = peak() - before
    before = forget()
    async with ledger.transaction(read_only=True) as tx:
        looked = (await artifacts.look_envelopes(tx, [envelope.id]))[envelope.id]
    again = hashlib.sha256()
    async for piece in looked.payload.pieces(ledger.transaction):
        again.update(piece)
    assert again.digest() == digest.digest()
    return written, peak() - before

async def work():
    ledger = Ledger(url, Vault([bytes(32)]))
    content = random.Random(1).randbytes(size)
    await through(ledger, content[: size // 24])  # everything is loaded, and every buffer has its size
    print(json.dumps(await through(ledger, content)))
    await ledger.close()

asyncio.run(work())
"""


def test_a_large_document_goes_in_and_comes_out_in_a_fraction_of_its_size(postgresql_url: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _WORKS, postgresql_url, str(SIZE)],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    written, read = json.loads(done.stdout)
    assert written < 0.2 * SIZE
    assert read < 0.2 * SIZE
