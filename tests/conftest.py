"""Shared by all tests: threads that neither spin nor outnumber the cores, whichever file imports torch first."""

from __future__ import annotations

import os
import signal

from fschemas.cores import available_cores, let_waiting_threads_sleep

let_waiting_threads_sleep()
_processes = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
os.environ.setdefault("OMP_NUM_THREADS", str(max(1, available_cores() // _processes)))

# A shell that starts the tests in the background lets them ignore Ctrl-C, and so would every command that they start.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
