"""OpenMP threads that sleep while waiting compared with threads that spin, idle and under load.

    python benchmarks/openmp.py [SHARDS] [--task category] [--profile tiny] [--steps 20] [--workers 1]

`spin` is the default of torch and OpenMP (one thread per core, spinning while it waits), `sleep` the setting of
`ftrain` (one sleeping thread per core that the data workers leave free). Start-up time, measured by one-step runs, is
subtracted. CPU time is that of the whole process tree. The load average is printed, because wall time depends on it.
Without a shard set, the images are synthetic garments.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stream import DATASETS, prepare

from fschemas.cores import available_cores, let_waiting_threads_sleep

# 200 is Intel's default for KMP_BLOCKTIME, and GNU's OpenMP ignores it; setting it disables the policy of `ftrain`.
POLICIES = {"spin": {"KMP_BLOCKTIME": "200"}, "sleep": {}}
OURS = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "OMP_NUM_THREADS")
BUSY = "while True: pass"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shards", nargs="?")
    parser.add_argument("--task", default="category")
    parser.add_argument("--profile", default="tiny")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--workers", type=int, default=1)
    arguments = parser.parse_args()
    let_waiting_threads_sleep()
    with tempfile.TemporaryDirectory() as folder:
        arguments.shards = arguments.shards or str(prepare(Path(folder), DATASETS[arguments.task], 200))
        compare(arguments)


def compare(arguments: argparse.Namespace) -> None:
    """Print CPU and wall seconds of both policies, alone and beside a busy process."""
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} before, seconds for {arguments.steps - 1} steps")
    print(f"{'':<22}{'spin CPU':>10}{'sleep CPU':>11}{'ratio':>7}{'spin wall':>11}{'sleep wall':>12}{'ratio':>7}")
    for load, busy in (("alone", False), ("beside a busy process", True)):
        metrics: list[tuple[float, float]] = []
        for policy in POLICIES.values():
            with busy_process(wanted=busy):
                short, long = (measured(arguments, policy, steps) for steps in (1, arguments.steps))
            metrics.append((long[0] - short[0], long[1] - short[1]))
        (cpu, wall), (our_cpu, our_wall) = metrics
        print(
            f"{load:<22}{cpu:>10.1f}{our_cpu:>11.1f}{cpu / our_cpu:>7.2f}{wall:>11.1f}{our_wall:>12.1f}{wall / our_wall:>7.2f}",
            flush=True,
        )
    print(f"load {os.getloadavg()[0]:.1f} after")


@contextmanager
def busy_process(*, wanted: bool) -> Iterator[None]:
    """Run a busy process in the background, if wanted."""
    process = subprocess.Popen([sys.executable, "-c", BUSY]) if wanted else None
    try:
        yield
    finally:
        if process is not None:
            process.kill()
            process.wait()


def measured(arguments: argparse.Namespace, policy: dict[str, str], steps: int) -> tuple[float, float]:
    """Measure the CPU and wall seconds of a training run of `steps` steps."""
    environment = {name: value for name, value in os.environ.items() if name not in OURS}
    with tempfile.TemporaryDirectory() as folder:
        words = [
            arguments.task, arguments.shards, "--run", str(Path(folder) / "run"), "--profile", arguments.profile, "--tracker", "none",
            "--workers", str(arguments.workers), "--limit-steps", str(steps), "--device", "cpu", "--quiet",
            "--set", "validation_split=none",
        ]  # fmt: skip
        words += ["--threads", str(available_cores())] if policy else []
        before, start = os.times(), time.perf_counter()
        subprocess.run(
            [sys.executable, "-c", "from ftrain.cli import main; main()", *words],
            env={**environment, **policy},
            check=True,
            capture_output=True,
        )
        after, wall = os.times(), time.perf_counter() - start
    return sum(after[2:4]) - sum(before[2:4]), wall


if __name__ == "__main__":
    main()
