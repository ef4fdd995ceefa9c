"""A process that works leaves no copy of its memory behind: what is promised where Python cannot wipe a secret."""

import os
import signal
import subprocess
import sys
from pathlib import Path

_CRASHES = """
import ctypes, os, resource, sys
_, hard = resource.getrlimit(resource.RLIMIT_CORE)
resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
secret = bytes(number ^ 0x55 for number in bytes.fromhex(sys.argv[2]))
if sys.argv[1] == "private":
    from workers.memory import keep_memory_private
    keep_memory_private()
print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0), resource.getrlimit(resource.RLIMIT_CORE)[1], flush=True)
os.abort()
"""


def _crash(folder: Path, how: str, secret: bytes) -> tuple[str, list[Path]]:
    """What the process said before it crashed, and the cores that it left."""
    masked = bytes(number ^ 0x55 for number in secret).hex()
    done = subprocess.run(
        [sys.executable, "-c", _CRASHES, how, masked],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == -signal.SIGABRT, done.stderr
    return done.stdout, list(folder.glob("core*"))


def test_a_crash_of_a_worker_leaves_no_core_with_its_secrets(tmp_path: Path) -> None:
    careless, private = tmp_path / "careless", tmp_path / "private"
    careless.mkdir()
    private.mkdir()
    secret = os.urandom(32)
    said, cores = _crash(private, "private", secret)
    assert said.split() == ["0", "0"], "neither dumpable nor allowed a core of any size"
    assert cores == []
    _, cores = _crash(careless, "careless", secret)
    # Where the machine writes cores beside the process, this shows what the measure is for.
    assert all(secret in core.read_bytes() for core in cores)
