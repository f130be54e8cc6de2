"""Cores within affinity and cgroup quotas, and a wait policy that does not override the user's own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fschemas import cores


def tree(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


@pytest.mark.parametrize(
    ("cgroups", "files", "quota"),
    [
        ("0::/\n", {}, None),
        ("0::/\n", {"cpu.max": "max 100000\n"}, None),
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 1.5),
        ("0::/slice/job\n", {"slice/job/cpu.max": "max 100000\n", "slice/cpu.max": "400000 100000\n"}, 4.0),
        ("0::/slice/job\n", {"slice/job/cpu.max": "200000 100000\n", "slice/cpu.max": "400000 100000\n"}, 2.0),
        ("0::/docker/abc\n", {"cpu.max": "50000 100000\n"}, 0.5),  # a container that sees its own cgroup as the root
        ("4:memory:/\n3:cpu,cpuacct:/job\n0::/\n",
         {"cpu,cpuacct/job/cpu.cfs_quota_us": "300000\n", "cpu,cpuacct/job/cpu.cfs_period_us": "100000\n"}, 3.0),
        ("1:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ("1:cpuset:/\n", {"cpuset/cpu.max": "100000 100000\n"}, None),  # another controller
        ("0::/\n", {"cpu.max": "nonsense\n"}, None),
        ("0::/../../other\n", {}, None),
    ],
)  # fmt: skip
def test_quotas_of_both_versions(tmp_path: Path, cgroups: str, files: dict[str, str], quota: float | None) -> None:
    mount = tree(tmp_path / "cgroup", {".keep": "", **files})
    assert cores.cpu_quota(tree(tmp_path, {"self": cgroups}) / "self", mount) == quota


def test_a_machine_without_cgroups_has_no_quota(tmp_path: Path) -> None:
    assert cores.cpu_quota(tmp_path / "none", tmp_path) is None
    assert cores.memory_limit(tmp_path / "none", tmp_path) is None


@pytest.mark.parametrize(
    ("cgroups", "files", "limit"),
    [
        ("0::/\n", {"memory.max": "max\n"}, None),
        ("0::/slice/job\n", {"slice/job/memory.max": "4000\n", "slice/memory.max": "3000\n"}, 3000),
        ("3:memory:/job\n0::/\n", {"memory/job/memory.limit_in_bytes": "2000\n"}, 2000),
        ("3:memory:/\n", {"memory/memory.limit_in_bytes": "9223372036854771712\n"}, None),
    ],
)
def test_memory_limits_of_both_versions(tmp_path: Path, cgroups: str, files: dict[str, str], limit: int | None) -> None:
    mount = tree(tmp_path / "cgroup", {".keep": "", **files})
    assert cores.memory_limit(tree(tmp_path, {"self": cgroups}) / "self", mount) == limit


@pytest.mark.parametrize(("quota", "expected"), [(None, 8), (0.5, 1), (1.5, 2), (4.0, 4), (64.0, 8)])
def test_cores_are_within_affinity_and_quota(
    monkeypatch: pytest.MonkeyPatch, quota: float | None, expected: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.setattr(cores, "cpu_quota", lambda: quota)
    assert cores.available_cores() == expected
    assert cores.compute_threads(0) == expected


@pytest.mark.parametrize(
    ("usable", "processes", "gpu", "workers", "threads"),
    [(1, 1, False, 1, 1), (2, 1, False, 1, 2), (8, 1, False, 1, 7), (32, 1, False, 4, 28), (32, 4, False, 1, 7),
     (2, 4, True, 1, 1), (16, 1, True, 15, 14), (64, 8, True, 7, 7)],
)  # fmt: skip
def test_data_workers_leave_most_cores_to_a_model_on_the_cpu(
    monkeypatch: pytest.MonkeyPatch, usable: int, processes: int, gpu: bool, workers: int, threads: int
) -> None:
    monkeypatch.setattr(cores, "available_cores", lambda: usable)
    assert cores.data_workers(usable // processes, gpu=gpu) == workers
    assert cores.compute_threads(workers, processes) == threads


@pytest.mark.parametrize("package", ["ftrain", "ftrain.cli", "ftrain.layers.heatmap"])
@pytest.mark.parametrize("chosen", [{}, {"OMP_WAIT_POLICY": "ACTIVE"}, {"GOMP_SPINCOUNT": "100"}])
def test_importing_the_trainers_sets_the_policy_before_torch(package: str, chosen: dict[str, str]) -> None:
    """An OpenMP library reads the environment on loading, so the order matters."""
    code = (
        "import os, sys\n"
        "names = ('OMP_WAIT_POLICY', 'GOMP_SPINCOUNT', 'KMP_BLOCKTIME')\n"
        "class Spy:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'torch': print([os.environ.get(n) for n in names]); os._exit(0)\n"
        "sys.meta_path.insert(0, Spy())\n"
        f"import {package}\n"
        "print([os.environ.get(n) for n in names])\n"
    )
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_", "KMP_"))}
    said = subprocess.run(
        [sys.executable, "-c", code], env={**plain, **chosen}, capture_output=True, text=True, check=True
    )
    wanted = [chosen.get(name) for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")]
    assert said.stdout.strip() == str(wanted if chosen else ["PASSIVE", "0", "0"])


@pytest.mark.parametrize(
    "path", sorted((Path(__file__).parents[2] / "benchmarks").glob("*.py")), ids=lambda path: path.name
)
def test_benchmarks_set_the_policy_too(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert "let_waiting_threads_sleep()" in text
    assert "\nimport torch" not in text.partition("let_waiting_threads_sleep()")[0]
