"""Number of usable CPU cores, the memory limit, and OpenMP threads that sleep while waiting."""

import math
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_CGROUPS = Path("/proc/self/cgroup")
_MOUNT = Path("/sys/fs/cgroup")
_UNLIMITED = 1 << 60  # version 1 writes the largest multiple of a page

# Read by OpenMP libraries when they are loaded: standard variable, GNU (torch, scikit-learn) and Intel.
_WAIT_POLICY = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0", "KMP_BLOCKTIME": "0"}


def available_cores() -> int:
    """Number of cores that this process may use: its affinity mask, limited by the CPU quota of its cgroups.

    A container with `--cpus 1.5` sees all cores of its host, but 2 processes keep it busy.
    """
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    quota = cpu_quota()
    return cores if quota is None else max(1, min(cores, math.ceil(quota)))


def cpu_quota(cgroups: Path = _CGROUPS, mount: Path = _MOUNT) -> float | None:
    """Smallest CPU quota, in cores, of this process's cgroup and its ancestors (version 1 or 2); None if unlimited."""
    quotas = [quota for folder in _cgroup_folders("cpu", cgroups, mount) for quota in _quota_of(folder)]
    return min(quotas, default=None)


def memory_limit(cgroups: Path = _CGROUPS, mount: Path = _MOUNT) -> int | None:
    """Smallest memory limit, in bytes, of this process's cgroup and its ancestors; None if unlimited."""
    limits: list[int] = []
    for folder in _cgroup_folders("memory", cgroups, mount):
        for name in ("memory.max", "memory.limit_in_bytes"):
            with suppress(OSError, ValueError):  # "max" or no such file: no limit
                limits.append(int((folder / name).read_text(encoding="ascii")))
    limit = min(limits, default=_UNLIMITED)
    return limit if limit < _UNLIMITED else None


def _cgroup_folders(controller: str, cgroups: Path, mount: Path) -> Iterator[Path]:
    """Folders below `mount` of this process's cgroup and its ancestors, for one controller (version 1 or 2)."""
    try:
        lines = cgroups.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        for root in (mount, *((mount / controllers, mount / controller) if controllers else (mount / "unified",))):
            # Inside a container, the path may be that of the host; the limit is then at the root of the mount.
            for folder in (root / path.lstrip("/"), *(root / path.lstrip("/")).parents):
                if folder != mount.parent and folder.is_relative_to(mount):
                    yield folder


def let_waiting_threads_sleep() -> None:
    """Configure OpenMP threads to sleep while waiting. No effect after an OpenMP library (torch's) is loaded.

    By default they spin. Next to any other busy process, training then takes several times the CPU and wall time,
    because spinning threads keep working threads off the cores. A policy set by the user is left unchanged.
    """
    if not any(name in os.environ for name in _WAIT_POLICY):
        os.environ.update(_WAIT_POLICY)


def data_workers(cores: int, *, gpu: bool) -> int:
    """Suitable number of data workers for a process that has `cores` cores; at least 1.

    With a GPU, all cores but the one that issues its work. A model that computes on the CPU takes 7 to 35 times as long
    as its data (docs/log.md), so a worker for every eight cores does.
    """
    return max(1, cores - 1 if gpu else cores // 8)


def compute_threads(workers: int, processes: int = 1) -> int:
    """Number of model threads for each of `processes` on this machine with `workers` data workers each; at least 1.

    Beside a model that computes on the CPU, workers wait for most of the time, so they get no more than an eighth of
    the cores.
    """
    cores = available_cores() // max(1, processes)
    return max(1, cores - min(workers, cores // 8))


def _quota_of(folder: Path) -> list[float]:
    """Quota of one cgroup in cores, or []: `cpu.max` of version 2, `cpu.cfs_*` of version 1."""
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
