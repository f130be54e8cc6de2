"""The scripts in `examples/`, run in sequence as documented in their docstrings, and the code in docs/python-api.md."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.ftrain.keypoint_runs import write_run

from fprep.synthetic.command import find_sample
from fschemas.shard_set import ShardSet

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with synthetic raw data, converted to shards by the first example."""
    place = tmp_path_factory.mktemp("examples")
    find_sample("fashionai-keypoints")(place / "raw", images=40, seed=0, workers=1)
    printed = run(place, "prepare.py", "fashionai-keypoints", "raw", "data", "--size", "96")
    assert printed.startswith("40 of ")
    return place


@pytest.fixture(scope="module")
def trained(place: Path) -> Path:
    return write_run(place / "run", ShardSet.open(place / "data/shards"))


def run(place: Path, script: str, *arguments: str) -> str:
    command = [sys.executable, "-W", "error", str(ROOT / "examples" / script), *arguments]
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_prepare_and_train(place: Path) -> None:
    arguments = ("data/shards", "--epochs", "2", "--batch-size", "8")
    printed = run(place, "train_loop.py", *arguments, "--workers", "0").splitlines()
    assert len(printed) == 2
    assert re.fullmatch(r"epoch 1: loss \d\.\d{3}, accuracy [01]\.\d{3} of \d+ test images", printed[1])


@pytest.mark.slow
def test_predict(place: Path, trained: Path) -> None:
    image = next((place / "raw").rglob("*.jpg"))
    printed = run(place, "predict.py", str(trained), str(image)).splitlines()
    assert len(printed) == 3
    assert image.name in printed[0]
    assert "'image': 1" in printed[2]


@pytest.mark.slow
def test_snippets_of_the_documentation(place: Path, trained: Path) -> None:
    """Run all code blocks of the page as one script, with other folders for `/data/fashionai` and `runs/cpn`."""
    text = (ROOT / "docs/python-api.md").read_text(encoding="utf-8")
    code = "\n".join(re.findall(r"^```python\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL))
    assert code.count("import ") > 3
    photo = next((place / "raw").rglob("*.jpg"))
    for written, real in (("/data/fashionai", "raw"), ("runs/cpn", str(trained)), ("photograph.jpg", str(photo))):
        assert written in code
        code = code.replace(written, real)
    (place / "snippets.py").write_text(code)
    done = subprocess.run([sys.executable, "snippets.py"], cwd=place, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
