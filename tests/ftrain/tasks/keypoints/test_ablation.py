"""Every step of the ablation in docs/models/keypoints.md trains two steps and is validated, at a tiny size."""

import re
from pathlib import Path

import pytest
from tests.shard_sets import write_shard_set

from fschemas.landmarks import FASHIONAI_24
from ftrain.fit.config import load_config
from ftrain.fit.train import TrainOptions, train

PARAMS = Path(__file__).parents[4] / "params.yaml"
PAGE = Path(__file__).parents[4] / "docs/models/keypoints.md"
TABLE = PAGE.read_text(encoding="utf-8").partition("## Ablation")[2].partition("\n## ")[0]
STEPS = [
    tuple(re.findall(r"--set (\S+?)`?(?= |$)", line.split("|")[2]))
    for line in TABLE.split("\n")
    if line.startswith("| ")
][1:]
SMALL = ("model.weights=none", "model.channels=8", "fit.amp=none", "fit.epochs=1", "fit.batch_size=4")


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    return write_shard_set(tmp_path_factory.mktemp("ablation") / "set", {"train": 8, "val": 2}, FASHIONAI_24)


def test_the_table_has_the_steps_of_the_write_ups_each_a_change_of_the_profile():
    keys = {override.partition("=")[0] for step in STEPS for override in step}
    assert keys == {
        "model.input_size", "model.crop", "model.rotation", "model.backbone", "model.blur_sigma", "model.pixel_shift",
        "model.subpixel_offset", "model.flip", "model.tta.flip", "model.tta.rotations", "model.ohkm_fraction",
    }  # fmt: skip
    full = load_config("keypoints", PARAMS, "full", ())
    changed = [load_config("keypoints", PARAMS, "full", step) for step in STEPS]
    assert len({config.digest for config in [full, *changed]}) == len(STEPS) + 1


CASES = [("full", ()), *(("full", step) for step in STEPS), ("hrnet", ("model.backbone=hrnet_w18_small",))]


@pytest.mark.parametrize(("profile", "step"), [
    pytest.param(*case, marks=[pytest.mark.slow] if "model.backbone=resnet50" in case[1] else [], id=" ".join(case[1])) for case in CASES
])  # fmt: skip
def test_a_step_trains_and_is_validated(profile, step, shards, tmp_path):
    config = load_config("keypoints", PARAMS, profile, step)
    small = [f"model.input_size={config.model['input_size'] // 8}"]
    if not any(override.startswith("model.backbone") for override in step):
        small.append("model.backbone=test_efficientnet")
    options = TrainOptions(
        str(shards), tmp_path / "run", PARAMS, profile, (*step, *SMALL, *small), device="cpu", workers=0, trackers=()
    )
    train("keypoints", options)
    rows = (tmp_path / "run/validation.csv").read_text().strip().split("\n")
    assert rows[-1].split(",")[rows[0].split(",").index("step")] == "2"
