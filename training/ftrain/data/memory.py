"""Memory of a process that makes and drops images all day."""

from __future__ import annotations

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGEST_MMAP_THRESHOLD = 32 << 20  # glibc refuses more
_TRIM_THRESHOLD = 1 << 30


def keep_freed_memory() -> None:
    """Let glibc keep freed images for the next one instead of giving them back to the kernel, which clears every page again.

    A decode, crop and color change of a 512-pixel image took 2.2 ms of CPU without this and 0.9 ms with it, on a virtual
    machine, where page faults are dear (docs/log.md). No effect on other C libraries.
    """
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt is not None:
            mallopt(_M_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD)
            mallopt(_M_TRIM_THRESHOLD, _TRIM_THRESHOLD)
