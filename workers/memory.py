"""Keeping what is in memory out of files: Python cannot wipe a secret, so nobody may get a copy of the memory."""

import ctypes
import resource
import sys

_PR_SET_DUMPABLE = 4


def keep_memory_private() -> None:
    """From here on a crash writes no core, and only root can read this process's memory (prctl(2), PR_SET_DUMPABLE).

    The limit alone would not do: a `core_pattern` that is a pipe is fed whatever the limit says (core(5)). Only Linux
    has the other call.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
