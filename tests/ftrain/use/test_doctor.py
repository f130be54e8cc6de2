"""`ftrain doctor`: findings and recommendations for machines with given facts, and the command on this machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.commands import run_command

from ftrain.use import doctor, machine

CPU = {"device": "cpu", "name": "Some CPU", "bf16": True, "problem": None, "flops": {"float32": 5e10, "bfloat16": 2e11}}
GPU = {
    "device": "cuda:0", "name": "NVIDIA H100 80GB HBM3", "capability": "9.0", "memory": 80e9, "free": 79.5e9, "bf16": True,
    "problem": None, "flops": {"float32": 5e13, "bfloat16": 7e14},
}  # fmt: skip


def facts(**changed: Any) -> dict[str, Any]:
    """Facts of a machine without any problem; the arguments replace sections or change their values."""
    found: dict[str, Any] = {
        "cores": {"usable": 16, "visible": 16, "quota": None, "model": "Some CPU"},
        "memory": {"total": 64e9, "available": 60e9, "limit": None, "shared_free": 8e9},
        "decoding": [{"pixels": 300, "bytes": 17_000, "images_per_core_second": 3200.0}],
        "disk": {"folder": "/runs", "free": 1e12, "problem": None, "write_rate": 1e9, "read_rate": 2e9, "sync_seconds": 0.001},
        "devices": [CPU, GPU],
        "software": {
            "python": "3.11.7", "torch": "2.11.0", "torchvision": "0.26.0", "timm": "1.0.31", "simplejpeg": "1.9.0",
            "opencv-python-headless": "5.0.0.93", "cuda": "12.8", "cudnn": "9.10.2", "nccl": "2.27.3", "driver": "570.86",
        },
        "openmp": {"threads": 16, "OMP_NUM_THREADS": None, "OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0", "KMP_BLOCKTIME": "0"},
        "missing_extras": {},
    }  # fmt: skip
    for section, value in changed.items():
        found[section] = {**found[section], **value} if isinstance(value, dict) and section in found else value
    return found


@pytest.fixture
def examine(monkeypatch: pytest.MonkeyPatch):
    def examine(shards: str | None = None, **changed: Any) -> doctor.Checkup:
        monkeypatch.setattr(doctor, "machine_facts", lambda folder: facts(**changed))
        return doctor.doctor(Path(), shards)

    return examine


def test_a_good_gpu_machine_has_no_findings_and_gets_settings_of_the_full_profiles(examine) -> None:
    checkup = examine()
    assert checkup.findings == []
    assert (checkup.device["device"], checkup.profile, checkup.workers) == ("cuda:0", "full", 15)
    advice = {task.task: task for task in checkup.tasks}
    assert (advice["keypoints"].input_size, advice["keypoints"].size) == (512, None)  # it crops
    assert (advice["retrieval"].size, advice["retrieval"].batch.batch_size) == (384, 512)  # 1.6 x 224; 4 x 128
    assert advice["retrieval"].batch.learning_rate == pytest.approx(2 * 0.00035)


def test_workers_are_shared_between_gpus(examine) -> None:
    assert examine(devices=[CPU, GPU, {**GPU, "device": "cuda:1"}]).workers == 7


@pytest.mark.parametrize(("changed", "code", "severity"), [
    ({"cores": {"quota": 2.0, "usable": 2}, "openmp": {"threads": 2}}, "quota", "note"),
    ({"memory": {"available": 1e9}}, "memory", "warning"),
    ({"disk": {"free": 1e9}}, "space", "warning"),
    ({"disk": {"write_rate": 2e7}}, "slow-disk", "warning"),
    ({"disk": {"problem": "Read-only file system", "write_rate": None}}, "disk", "problem"),
    ({"devices": [CPU]}, "no-gpu", "note"),
    ({"devices": [CPU, {**GPU, "bf16": False}]}, "bf16", "warning"),
    ({"devices": [CPU, {"device": "cuda", "name": "NVIDIA driver", "bf16": False, "problem": "too old"}]}, "device", "warning"),
    ({"devices": [{**CPU, "problem": "no kernel image"}]}, "device", "problem"),
    ({"devices": [CPU, GPU, GPU], "memory": {"shared_free": 67e6}}, "shared-memory", "warning"),
    ({"openmp": {"OMP_WAIT_POLICY": "ACTIVE", "GOMP_SPINCOUNT": None, "KMP_BLOCKTIME": None}}, "spinning", "warning"),
    ({"openmp": {"OMP_WAIT_POLICY": None, "GOMP_SPINCOUNT": "1000", "KMP_BLOCKTIME": None}}, "spinning", "warning"),
    ({"openmp": {"threads": 64, "OMP_NUM_THREADS": "64"}}, "threads", "warning"),
    ({"missing_extras": {"index": ["faiss"]}}, "extra", "note"),
])  # fmt: skip
def test_findings(examine, changed: dict[str, Any], code: str, severity: str) -> None:
    checkup = examine(**changed)
    assert [(finding.code, finding.severity) for finding in checkup.findings] == [(code, severity)]
    assert bool(checkup.problems) == (severity == "problem")
    assert all(len(line) <= 80 for line in checkup.to_text().splitlines())


def test_a_gpu_too_small_for_a_task_is_said(examine) -> None:
    checkup = examine(devices=[CPU, {**GPU, "memory": 4e9}])
    assert [task.batch for task in checkup.tasks if task.task == "fashionnet"] == [None]
    assert "too large" in checkup.to_text()


def test_large_images_of_a_set_are_worth_resizing(examine, shard_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkup = examine(str(shard_folder))
    assert checkup.facts["shards"]["long_side"] == 64
    assert checkup.findings == []
    monkeypatch.setattr(doctor, "_shard_facts", lambda shards: {**checkup.facts["shards"], "long_side": 1200})
    assert [finding.code for finding in examine(str(shard_folder)).findings] == ["large-images"]


def test_the_command_measures_this_machine(shard_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(machine, "_SECONDS", 0.01)
    monkeypatch.setattr(machine, "_DISK_BYTES", 1 << 20)
    done = run_command("ftrain", "doctor", "--shards", shard_folder, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert {"cores", "memory", "decoding", "disk", "devices", "software", "openmp", "missing_extras"} < found.keys()
    assert found["shards"]["samples"] == 58
    assert len(found["recommended"]["tasks"]) == 5
    assert not list(tmp_path.iterdir())


def test_what_makes_training_impossible_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "machine_facts", lambda folder: facts(disk={"problem": "Read-only file system"}))
    done = run_command("ftrain", "doctor")
    assert done.returncode == 4
    assert "training is impossible here: /runs: cannot be written" in done.stderr
    assert "findings" in done.stdout
