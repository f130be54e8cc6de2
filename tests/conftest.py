"""Shared by all tests: threads that neither spin nor outnumber the cores, temporary folders in memory, garbage collection."""

from __future__ import annotations

import gc
import os
import shutil
import signal
from pathlib import Path

import pytest

from fschemas.cores import available_cores, let_waiting_threads_sleep

let_waiting_threads_sleep()
_processes = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
for _threads in ("OMP_NUM_THREADS", "POLARS_MAX_THREADS"):
    os.environ.setdefault(_threads, str(max(1, available_cores() // _processes)))

# Tests write gigabytes in thousands of synced files; on a disk, they would mostly wait.
_MEMORY = Path("/dev/shm")
if os.access(_MEMORY, os.W_OK) and shutil.disk_usage(_MEMORY).free > 4 << 30:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(_MEMORY))

# A shell that starts the tests in the background makes them, and every command that they start, ignore Ctrl-C.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

gc.disable()  # while thousands of modules and tests are created, of which nothing is garbage


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop() -> None:
    gc.freeze()  # they live to the end: no later collection, in this process or a forked one, visits them
    gc.enable()


def pytest_unconfigure() -> None:
    gc.unfreeze()  # libraries report objects that live longer than they do
