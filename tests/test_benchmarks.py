"""Every benchmark runs; what it prints is not checked here."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ARGUMENTS = {
    "attributes": ["--rows", "200", "--peer-rows", "100", "--rounds", "1"],
    "images": ["--images", "4", "--rounds", "1"],
    "kfashion": ["--files", "20", "--rounds", "1"],
    "openmp": ["--help"],  # it trains eight times
    "photographs": [],  # it needs photographs
    "retrieval": ["--rows", "2000", "--rounds", "1"],
    "stream": ["--images", "4", "--rounds", "1"],
}


def test_all_benchmarks_are_known():
    assert {path.stem for path in (ROOT / "benchmarks").glob("*.py")} == set(ARGUMENTS)


@pytest.mark.slow
@pytest.mark.parametrize("name", ARGUMENTS)
def test_benchmark_runs(name, tmp_path):
    done = subprocess.run(
        [sys.executable, ROOT / f"benchmarks/{name}.py", *ARGUMENTS[name]], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode in (0, 1), done.stderr  # 1: a target is missed, as it may be on a busy machine
    assert "Traceback" not in done.stderr
    assert done.stdout.strip()
