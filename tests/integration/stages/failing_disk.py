"""A process of its own whose disk fails, in which sealed lodgments are submitted."""

import asyncio
import ctypes
import os
import platform
import resource
import struct

from pipeline.ledger import attempts, migrate
from pipeline.ledger.vault import Vault
from pipeline.lodgment.errors import DependencyDownError
from pipeline.lodgment.states import Step
from pipeline.stages.submit import Submit
from tests.integration.stages.conftest import Bench, DoubtfulLedger, deliveries, drive
from tests.integration.stages.test_stage_submit import Agency

_SYNC_CALLS = {"x86_64": (74, 75), "aarch64": (82, 83)}
"""Numbers of fsync(2) and fdatasync(2)."""
_PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS, _FILTER = 22, 38, 2
_LOAD_NUMBER, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_EIO = 5
_SHARED_MEMORY = 32 * 1024
_LODGMENTS = 20
"""Their attempts do not fit in the log that a full disk leaves."""


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def fail_every_sync() -> None:
    """From here on the kernel answers fsync and fdatasync of this thread and those it starts with EIO (seccomp(2))."""
    one, other = _SYNC_CALLS[platform.machine()]
    instructions = b"".join(
        struct.pack("HBBI", *instruction)
        for instruction in (
            (_LOAD_NUMBER, 0, 0, 0),
            (_JUMP_IF_EQUAL, 1, 0, one),
            (_JUMP_IF_EQUAL, 0, 1, other),
            (_RETURN, 0, 0, _ERRNO | _EIO),
            (_RETURN, 0, 0, _ALLOW),
        )
    )
    library = ctypes.CDLL(None, use_errno=True)
    assert library.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
    program = _Program(len(instructions) // 8, instructions)
    assert library.prctl(_PR_SET_SECCOMP, _FILTER, ctypes.byref(program), 0, 0) == 0, os.strerror(ctypes.get_errno())


def let_no_file_grow() -> None:
    """A disk that is as good as full: SQLite's shared memory has room, its log has not (setrlimit(2), EFBIG)."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (_SHARED_MEMORY, resource.RLIM_INFINITY))


async def run(folder: str, fault: str) -> None:
    """Print the failure's code, the lodgments' states, how many were sent and how many attempts are recorded."""
    url = f"sqlite:///{folder}/ledger.db"
    await asyncio.to_thread(migrate.upgrade, url)
    vault = Vault([b"synthetic master key, 32 bytes!!"])
    ledger = DoubtfulLedger(url, vault)
    rows = [await Bench(ledger).sealed() for _ in range(_LODGMENTS)]
    await ledger.close()
    bench, agency, code = Bench(DoubtfulLedger(url, vault)), Agency(), "none"
    if fault == "fsync":
        fail_every_sync()
    else:
        let_no_file_grow()
    try:
        await drive(Submit(bench.context(), agency), deliveries(Step.SUBMIT, *rows))
    except DependencyDownError as error:
        code = error.code
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    states = {(await bench.lodgment(row)).state for row in rows}
    async with bench.ledger.transaction(read_only=True) as tx:
        recorded = sum([len(await attempts.of(tx, row.id)) for row in rows])
    await bench.ledger.close()
    print(code, *states, len(agency.requests), recorded)  # noqa: T201  - what the test reads
