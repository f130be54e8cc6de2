"""How many cores a process may use, and OpenMP threads that sleep while they wait."""

from __future__ import annotations

import math
import os
import sys
from pathlib import Path

_CGROUPS = Path("/proc/self/cgroup")
_MOUNT = Path("/sys/fs/cgroup")

# What an OpenMP library reads when it is loaded: the standard's word, GNU's (torch, scikit-learn) and Intel's.
_WAIT_POLICY = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0", "KMP_BLOCKTIME": "0"}


def available_cores() -> int:
    """Cores that this process may use: those of its affinity mask, and no more than the CPU quota of its cgroups allows.

    A container with `--cpus 1.5` sees all cores of its host; 2 processes keep it busy.
    """
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    quota = cpu_quota()
    return cores if quota is None else max(1, min(cores, math.ceil(quota)))


def cpu_quota(cgroups: Path = _CGROUPS, mount: Path = _MOUNT) -> float | None:
    """The smallest CPU quota, in cores, of this process's cgroup and those above it, of version 1 or 2; None for no limit."""
    try:
        lines = cgroups.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return None
    quotas: list[float] = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        for root in (mount, *((mount / controllers, mount / "cpu") if controllers else (mount / "unified",))):
            # Inside a container the path may be that of the host; the limit is then at the root of the mount.
            for folder in (root / path.lstrip("/"), *(root / path.lstrip("/")).parents):
                if folder != mount.parent and folder.is_relative_to(mount):
                    quotas += _quota_of(folder)
    return min(quotas, default=None)


def let_waiting_threads_sleep() -> None:
    """Ask for OpenMP threads that sleep while they wait; no effect once an OpenMP library (torch's) is loaded.

    By default they spin: beside any other busy process, training takes several times the CPU time and the wall time, as spinning
    threads keep the working ones off the cores. Nothing is changed where the user has chosen a policy.
    """
    if not any(name in os.environ for name in _WAIT_POLICY):
        os.environ.update(_WAIT_POLICY)


def compute_threads(workers: int, processes: int = 1) -> int:
    """Threads for the model in each of several `processes` on this machine that have `workers` data workers each; at least 1."""
    return max(1, available_cores() // max(1, processes) - workers)


def _quota_of(folder: Path) -> list[float]:
    """The quota of one cgroup in cores, if it has one: `cpu.max` of version 2, `cpu.cfs_*` of version 1."""
    try:
        if (folder / "cpu.max").is_file():
            quota, period = (folder / "cpu.max").read_text(encoding="ascii").split()[:2]
        else:
            quota, period = (
                (folder / f"cpu.cfs_{name}_us").read_text(encoding="ascii") for name in ("quota", "period")
            )
        limit = float(quota) / float(period)
    except (OSError, ValueError, ZeroDivisionError):  # "max", -1 or no such file: no limit
        return []
    return [limit] if limit > 0 else []
