"""Processes that end with their parent."""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def die_with_parent(signal_number: int = signal.SIGKILL) -> None:
    """Ask Linux to signal this process when its parent dies (no effect elsewhere). For pool workers and DVC stages."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(signal_number), 0, 0, 0)


def die_with_dvc() -> None:
    """Stop a DVC stage when DVC dies: DVC leaves its stages running, and the next `dvc repro` starts a second one."""
    if os.environ.get("DVC_STAGE") or os.environ.get("DVC_ROOT"):
        die_with_parent(signal.SIGTERM)
