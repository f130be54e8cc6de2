"""Shared by all tests: threads that neither spin nor outnumber the cores, whichever file imports torch first."""

from __future__ import annotations

import os

from fschemas.cores import available_cores, let_waiting_threads_sleep

let_waiting_threads_sleep()
_processes = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
os.environ.setdefault("OMP_NUM_THREADS", str(max(1, available_cores() // _processes)))
