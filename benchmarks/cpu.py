"""CPU seconds of processes, from /proc."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_LISTENING = "0A"


def cpu_seconds(pid: int) -> float:
    """What a process and its descendants have used, the dead ones included, in seconds; 0 for one that is gone."""
    children = _children()
    pending, ticks = [pid], 0
    while pending:
        one = pending.pop()
        pending += children.get(one, [])
        fields = _stat(one)
        ticks += sum(map(int, fields[11:15])) if fields else 0
    return ticks / _TICKS


def listener(port: int) -> int | None:
    """The process that listens on a TCP port of this machine, or None where it cannot be seen."""
    inodes = {
        f"socket:[{fields[9]}]"
        for table in ("tcp", "tcp6")
        for fields in map(str.split, Path(f"/proc/net/{table}").read_text().splitlines()[1:])
        if fields[3] == _LISTENING and int(fields[1].rpartition(":")[2], 16) == port
    }
    owners = [pid for pid in _pids() if inodes & _open_files(pid)]
    # The children of a PostgreSQL server inherit its socket.
    return min(owners, key=_started, default=None)


def _pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _open_files(pid: int) -> set[str]:
    found = set()
    try:
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            found.add(str(entry.readlink()))
    except OSError:
        pass  # gone meanwhile, or somebody else's
    return found


def _children() -> Mapping[int, list[int]]:
    found: dict[int, list[int]] = {}
    for pid in _pids():
        fields = _stat(pid)
        if fields:
            found.setdefault(int(fields[1]), []).append(pid)
    return found


def _started(pid: int) -> int:
    fields = _stat(pid)
    return int(fields[19]) if fields else sys.maxsize


def _stat(pid: int) -> list[str]:
    """The fields of proc(5) `stat` from the third on: a name before them may hold anything."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
