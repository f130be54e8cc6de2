"""The DVC pipeline as users run it: once, again, with another parameter, and killed during training."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from ftrain.tasks import task_names

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
STAGES = [
    "sample@fashionai-keypoints",
    "convert@fashionai-keypoints",
    "shard@fashionai-keypoints",
    "train@keypoints",
    "evaluate@keypoints",
]


def _environment() -> dict[str, str]:
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "DVC_NO_ANALYTICS": "true", "OMP_NUM_THREADS": "1", "CI": "true"}


def _dvc(project: Path, *arguments: str) -> str:
    done = subprocess.run(
        [BIN / "dvc", *arguments], cwd=project, env=_environment(), capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def _change(project: Path, **fit: Any) -> None:
    path = project / "params.yaml"
    params = yaml.safe_load(path.read_text())
    params["keypoints"]["tiny"]["fit"].update(fit)
    path.write_text(yaml.safe_dump(params))


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the project's own dvc.yaml and params.yaml, with small settings."""
    folder = tmp_path_factory.mktemp("project")
    shutil.copy(ROOT / "dvc.yaml", folder)
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["samples"] = {"fashionai-keypoints": {"num-images": 60}}
    params["datasets"] = {"fashionai-keypoints": params["datasets"]["fashionai-keypoints"]}
    params["models"] = {"keypoints": params["models"]["keypoints"]}
    params["indices"] = {}
    params["keypoints"]["tiny"] = {
        "model": {"backbone": "resnet18", "channels": 8, "input_size": 32},
        "fit": {
            "epochs": 2,
            "batch_size": 8,
            "checkpoint_every_steps": 2,
            "log_every_steps": 1,
            "validate_every_epochs": 8,
            "seed": 1,
        },
    }
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    _dvc(folder, "init", "--no-scm", "-q")
    return folder


@pytest.mark.slow  # starts DVC nine times, with one process per stage
@pytest.mark.timeout(600)
def test_chain(project: Path) -> None:
    output = _dvc(project, "repro")
    assert [stage for stage in STAGES if f"Running stage '{stage}'" in output] == STAGES
    assert "Running stage" not in _dvc(project, "repro")
    assert "mean_pose" in _dvc(project, "metrics", "show", "reports/keypoints/metrics.json")
    assert (project / "reports/datasets/fashionai-keypoints.html").stat().st_size > 10_000
    assert "index.html" in _dvc(project, "plots", "show")
    assert (project / "reports/keypoints/predictions.png").stat().st_size > 10_000

    _change(project, learning_rate=0.003)
    changed = _dvc(project, "status")
    assert "train@keypoints" in changed
    for stage in STAGES[:3]:
        assert stage not in changed

    _change(project, epochs=16)
    with subprocess.Popen(
        [BIN / "dvc", "repro"],
        cwd=project,
        env=_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    ) as repro:
        log = project / "runs/keypoints/checkpoints"
        _wait_for(
            lambda: (
                any(int(path.name.removeprefix("step-")) >= 6 for path in log.glob("step-*")) and _restarted(project)
            )
        )
        os.kill(repro.pid, signal.SIGKILL)  # DVC only: its stage must not survive
        repro.wait()
        _wait_for(lambda: not _trainers(project))
    output = _dvc(project, "repro")
    assert "resumed at step" in output
    assert "Running stage 'shard" not in output


def test_every_data_set_of_a_model_has_its_stages() -> None:
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    assert {model["dataset"] for model in params["models"].values()} <= set(params["datasets"])
    assert set(params["models"]) <= set(params), "a model has a section of its name"
    assert {model["task"] for model in params["models"].values()} == set(task_names())
    assert set(params["indices"]) <= set(params["models"])
    for name, dataset in params["datasets"].items():
        assert dataset["raw"] != f"data/sample/{name}" or name in params["samples"]


_STUB_FTRAIN = """#!/bin/sh
# What the stages are called with and what they leave behind, without a model: figures follow from the section of params.yaml.
if [ "$1" = evaluate ]; then
    mkdir -p "$5/plots"
    for file in report.json images.csv summary.txt predictions.png plots/points.csv; do echo x > "$5/$file"; done
    printf '{"ne": %s}' "$(cat "$2/weights")" > "$5/metrics.json"
    printf 'step,ne\\n1,%s\\n' "$(cat "$2/weights")" > "$5/validation_curve.csv"
    printf 'step,loss\\n' > "$5/training_curve.csv"
else
    mkdir -p "$4"
    sed -n "/^$6:/,/epochs/s/.*epochs: //p" params.yaml > "$4/weights"
fi
"""


@pytest.fixture
def stubbed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Git repository with the project's dvc.yaml, a shard set, two variants of one task, and a fake `ftrain`."""
    (tmp_path / "bin").mkdir()
    stub = tmp_path / "bin/ftrain"
    stub.write_text(_STUB_FTRAIN)
    stub.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    project = tmp_path / "project"
    (project / "data/shards/set").mkdir(parents=True)
    (project / "data/shards/set/dataset.json").write_text("{}")
    shutil.copy(ROOT / "dvc.yaml", project)
    (project / ".gitignore").write_text("/runs/\n/reports/\n")  # as in the project, which also ignores its data
    models = {
        name: {"task": "keypoints", "dataset": "set", "split": "test"} for name in ("keypoints", "keypoints-wide")
    }
    sections = {
        name: {"tiny": {"fit": {"epochs": epochs}}} for name, epochs in (("keypoints", 1), ("keypoints-wide", 2))
    }
    params = {"samples": {}, "datasets": {}, "models": models, "indices": {}, **sections}
    (project / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    for command in (
        ["git", "init", "-q"],
        ["git", "config", "user.email", "a@b.c"],
        ["git", "config", "user.name", "a"],
    ):
        subprocess.run(command, cwd=project, check=True)
    _stub_dvc(project, "init", "-q")
    _stub_dvc(project, "add", "-q", "data/shards/set")
    return project


def _stub_dvc(project: Path, *arguments: str) -> str:
    path = f"{project.parent / 'bin'}{os.pathsep}{BIN}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [BIN / "dvc", *arguments],
        cwd=project,
        env={**_environment(), "PATH": path},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.slow  # starts DVC seven times
@pytest.mark.timeout(600)
def test_variants_are_trained_compared_and_retrained_alone(stubbed: Path) -> None:
    _stub_dvc(stubbed, "repro")
    assert (stubbed / "runs/keypoints-wide/weights").read_text().strip() == "2"
    subprocess.run(["git", "add", "-A"], cwd=stubbed, check=True)
    subprocess.run(["git", "commit", "-qm", "first"], cwd=stubbed, check=True)

    output = _stub_dvc(stubbed, "exp", "run", "--temp", "--name", "longer", "-S", "keypoints-wide.tiny.fit.epochs=9")
    running = [line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage")]
    assert running == ["train@keypoints-wide", "evaluate@keypoints-wide"]

    changes = json.loads(_stub_dvc(stubbed, "metrics", "diff", "HEAD", "longer", "--json"))
    assert changes == {"reports/keypoints-wide/metrics.json": {"ne": {"old": 2, "new": 9, "diff": 7}}}
    header = _stub_dvc(stubbed, "exp", "show", "--csv").splitlines()[0].split(",")
    assert [name for name in header if name.endswith("metrics.json:ne")] == [
        "reports/keypoints/metrics.json:ne", "reports/keypoints-wide/metrics.json:ne",
    ]  # fmt: skip
    page = json.dumps(json.loads(_stub_dvc(stubbed, "plots", "diff", "HEAD", "longer", "--json", "--split")))
    for name in ("keypoints", "keypoints-wide"):
        assert f"reports/{name}/validation_curve.csv" in page


def _restarted(project: Path) -> bool:
    """Whether the run folder is that of the 16 epochs, not of the two before."""
    config = project / "runs/keypoints/config.yaml"
    return config.exists() and yaml.safe_load(config.read_text())["fit"]["epochs"] == 16


def _trainers(project: Path) -> list[int]:
    """Processes with this project as their working directory."""
    found: list[int] = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").resolve() == project and b"ftrain" in (process / "cmdline").read_bytes():
                found.append(int(process.name))
        except OSError:
            continue
    return found


def _wait_for(condition: Any, seconds: float = 200) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)
