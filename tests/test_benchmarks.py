"""Every benchmark runs; what it prints is not checked here."""

import subprocess
import sys
from pathlib import Path

import pytest

from ftrain.fit.config import load_config
from ftrain.tasks.task import find_task

ROOT = Path(__file__).parents[1]
ARGUMENTS = {
    "attributes": ["--rows", "200", "--peer-rows", "100", "--rounds", "1"],
    "gpu": ["--device", "cpu", "--tiny", "--workers", "1"],
    "images": ["--images", "4", "--rounds", "1"],
    "kfashion": ["--files", "20", "--rounds", "1"],
    "openmp": ["--help"],  # it trains eight times
    "peers": ["--tiny"],
    "photographs": [],  # it needs photographs
    "retrieval": ["--rows", "2000", "--rounds", "1"],
    "stream": ["--images", "4", "--rounds", "1"],
}


def test_all_benchmarks_are_known():
    assert {path.stem for path in (ROOT / "benchmarks").glob("*.py")} == set(ARGUMENTS)


def test_the_recipes_compared_on_photographs_are_valid(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    from photographs import STUDIES

    for study in STUDIES.values():
        for changed in ({}, *study.variants.values()):
            settings = {**study.base, **changed}
            profile = settings.pop("profile", None)
            config = load_config(
                study.task, ROOT / "params.yaml", profile, [f"{key}={value}" for key, value in settings.items()]
            )
            find_task(study.task).Config(**config.model)


@pytest.mark.slow
@pytest.mark.parametrize("name", ARGUMENTS)
def test_benchmark_runs(name, tmp_path):
    done = subprocess.run(
        [sys.executable, ROOT / f"benchmarks/{name}.py", *ARGUMENTS[name]], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode in (0, 1), done.stderr  # 1: a target is missed, as it may be on a busy machine
    assert "Traceback" not in done.stderr
    assert done.stdout.strip()
