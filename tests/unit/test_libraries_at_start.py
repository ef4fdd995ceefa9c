"""Two libxml2 in one process: said at the start, before anything is read or made."""

import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.lodgment.errors import ConfigurationError
from pipeline.protocol.libraries import XmlLibraries, require_one_libxml2, xml_libraries

ROOT = Path(__file__).parents[2]
_OTHER_LXML = """
import sys
from lxml import etree
etree.LIBXML_VERSION = tuple(map(int, sys.argv[1].split(".")))
from pipeline.interfaces.cli import main
main(sys.argv[2:])
"""


def _started_beside(version: str, folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """`lodge` in a process whose lxml says that it was built on another libxml2; xmlsec is the real one."""
    return subprocess.run(
        [sys.executable, "-c", _OTHER_LXML, version, *arguments],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def _neighbour() -> str:
    """A version that xmlsec itself takes: it compares no further than the second number."""
    major, minor, patch = xml_libraries().lxml
    return f"{major}.{minor}.{patch + 1}"


@pytest.mark.parametrize(("version", "found"), [("2.9.14", "version mismatch"), (_neighbour(), "it must be one")])
def test_a_worker_beside_another_libxml2_says_so_at_its_start_and_leaves_nothing(
    tmp_path: Path, version: str, found: str
) -> None:
    done = _started_beside(version, tmp_path, "run")
    assert done.returncode == 2
    assert done.stderr.startswith(f"lodge: lxml has libxml2 {version}")
    assert found in done.stderr
    assert "requirements.lock" in done.stderr
    assert done.stderr.rstrip().endswith("[libraries.libxml2]")
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_one_libxml2_is_what_this_machine_has() -> None:
    require_one_libxml2(xml_libraries())


def test_a_refusal_without_words_is_told_too() -> None:
    with pytest.raises(ConfigurationError, match="does not load"):
        require_one_libxml2(XmlLibraries((2, 14, 6), None))
