"""submit on a disk that fails for real: nothing leaves of which there is no record."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
_CHILD = "import asyncio, sys; from tests.integration.stages.failing_disk import run; asyncio.run(run(*sys.argv[1:]))"


@pytest.mark.parametrize("fault", ["fsync", "full"])
def test_without_a_record_on_the_disk_nothing_is_sent(tmp_path: Path, fault: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _CHILD, str(tmp_path), fault],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    failed, state, sent, attempts = done.stdout.split()
    assert failed in {"ledger.down", "ledger.full"}
    assert (state, sent, attempts) == ("sealed", "0", "0")
