"""Imports for a prediction of one image: start-up takes seconds, nearly all of it imports."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from tests.ftrain.keypoint_runs import write_run
from tests.shard_sets import write_shard_set

from fschemas.landmarks import FASHIONAI_24
from fschemas.shard_set import ShardSet

# `import torch` takes nearly all of the remaining time; about 400 more modules are needed.
_MAX_MODULES = 450
_UNUSED = (
    "matplotlib", "scipy", "torchmetrics", "dvclive", "torch._dynamo", "torch._inductor", "torch.onnx", "sympy", "onnx",
    "torchvision.datasets", "torchvision.transforms", "torchvision.models.resnet", "timm.data.loader", "timm.models.beit",
    "huggingface_hub", "polars", "sklearn",
)  # fmt: skip
_BEGIN = "import json, sys, torch; before = len(sys.modules);"
_END = "; print(json.dumps([len(sys.modules) - before, list(sys.modules)]), file=sys.__stdout__)"
_ALL_TASKS = """
from ftrain.lazy_imports import defer_unused, timm_with
defer_unused()
import ftrain.use.predict
from ftrain.tasks.task import task_function, tasks
for task in tasks().values():
    for name in ("describe", "draw", "check_category"):
        task_function(task, name)
timm_with("resnet18").create_model("resnet18")"""


def imported(code: str, *arguments: str) -> tuple[int, set[str]]:
    """Number of modules that a program imports in addition to torch, and all modules at its end."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", f"{_BEGIN}\n{code}\n{_END.removeprefix('; ')}", *arguments],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    more, names = json.loads(done.stdout.splitlines()[-1])
    return more, set(names)


def test_a_prediction_imports_nothing_that_it_does_not_use(tmp_path: Path) -> None:
    shards = ShardSet.open(write_shard_set(tmp_path / "set", {"train": 3, "test": 1}, FASHIONAI_24))
    run = write_run(tmp_path / "run", shards)
    cv2.imwrite(str(tmp_path / "image.png"), np.full((40, 30, 3), 90, np.uint8))
    command = "from ftrain.cli import app; app(sys.argv[1:], standalone_mode=False)"
    arguments = ["predict", str(run), str(tmp_path / "image.png"), "--out", str(tmp_path / "out"), "--quiet"]
    more, names = imported(command, *arguments)
    assert (tmp_path / "out/overlays/image.jpg").exists()
    assert more <= _MAX_MODULES
    assert not names.intersection(_UNUSED)


@pytest.mark.slow
def test_no_task_imports_more_to_predict() -> None:
    more, names = imported(_ALL_TASKS)
    assert more <= _MAX_MODULES
    assert not names.intersection(_UNUSED)


@pytest.mark.slow
@pytest.mark.parametrize(
    "code",
    [
        (
            "import torchvision; torchvision.transforms.ToTensor; torchvision.models.resnet18; "
            "import timm; assert 'vit_base_patch16_224' in timm.list_models(); assert timm.models._hub.has_hf_hub()"
        ),
        (
            "from torchvision.ops import nms, roi_align; x = torch.zeros(1, 1, 4, 4, requires_grad=True); "
            "roi_align(x, torch.tensor([[0.0, 0, 0, 4, 4]]), 2).sum().backward(); assert x.grad.sum() > 0; "
            "from timm.data import create_dataset"
        ),
    ],
)
def test_other_code_sees_whole_packages(code: str) -> None:
    """timm and torchvision are complete for other code in the same process."""
    imported(f"from ftrain.lazy_imports import defer_unused; defer_unused()\n{code}")
