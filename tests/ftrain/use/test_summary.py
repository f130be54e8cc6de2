"""`ftrain summary`: counts compared with known networks, names and totals that add up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import yaml
from tests.ftrain.keypoint_runs import TINY, tiny_config, tiny_task, write_run
from tests.ftrain.tiny.task import Tiny, TinyConfig
from tests.shard_sets import write_label_set
from torch import nn

from fschemas.failures import UsageError
from fschemas.shard_set import ShardSet
from ftrain.data.config import FitConfig, RunConfig, Stage
from ftrain.fit.config import load_config
from ftrain.fit.profiles import PACKAGED_PARAMS
from ftrain.tasks.task import tasks
from ftrain.use.summary import count_parameters, network_of, summarize, summary_lines


class Classifier(Tiny):
    """A known network wrapped as a task."""

    def __init__(self) -> None:
        import timm

        super().__init__(TinyConfig(), {})
        del self.backbone, self.neck, self.head, self.wide
        self.network = timm.create_model("resnet50")

    def predict(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {"scores": self.network(batch["image"].permute(0, 3, 1, 2).float())}

    def encode_image(self, image: np.ndarray, box: Any = None) -> dict[str, np.ndarray]:
        return {"image": np.zeros((224, 224, 3), np.uint8)}


def config_of(*stages: Stage) -> RunConfig:
    return RunConfig(task="tiny", model={}, fit=FitConfig(stages=stages or (Stage(),)))


def test_a_resnet_50_has_its_published_size() -> None:
    """25.56 M parameters and 4.1 G multiply-adds (He et al., CVPR 2016; torchvision's table: 4.09)."""
    found = summarize(Classifier().eval(), config_of(), depth=2)
    assert found["totals"]["parameters"] == found["totals"]["trainable"] == 25_557_032
    assert found["totals"]["multiply_adds"] == 4_089_184_256
    rows = {row["name"]: row for row in found["modules"]}
    assert rows["network"]["parameters"] == 25_557_032
    assert rows["network.layer4"]["output"] == [[1, 2048, 7, 7]]
    assert rows["network.fc"]["multiply_adds"] == 2048 * 1000
    parts = [row for name, row in rows.items() if name.startswith("network.")]
    assert sum(row["parameters"] for row in parts) == 25_557_032
    assert sum(row["multiply_adds"] for row in parts) == 4_089_184_256


def test_parameters_are_counted_by_module_and_shared_ones_once() -> None:
    model = nn.ModuleDict({"a": nn.Linear(3, 2), "b": nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 1))})
    model["c"] = model["a"]
    model.register_parameter("own", nn.Parameter(torch.zeros(5)))
    assert count_parameters(model) == {"": 20, "own": 5, "a": 8, "b": 7}
    assert count_parameters(model, 2) == {"": 20, "own": 5, "a": 8, "b": 7, "b.0": 4, "b.1": 3}


def test_stages_say_what_they_train(shards: ShardSet) -> None:
    task = tiny_task(shards.metadata)
    total, head = count_parameters(task)[""], count_parameters(task)["garment_head"]
    frozen = Stage(until=0.5, freeze=("network",))
    found = summarize(task, config_of(frozen, Stage()))
    assert [stage["trainable"] for stage in found["stages"]] == [head, total]
    assert found["totals"]["trainable"] == total
    found = summarize(task, config_of(Stage(freeze=("network.backbone",))))
    rows = {row["name"]: row for row in found["modules"]}
    assert rows["network.backbone"]["trainable"] == 0
    assert rows["network"]["trainable"] == total - head - rows["network.backbone"]["parameters"]


def test_one_way_through_the_network_is_counted(shards: ShardSet, tmp_path: Path) -> None:
    """Flips and rotations do not count, and the rows add up."""
    run = write_run(tmp_path / "run", shards, tta={"flip": True, "rotations": [-5.0, 5.0]})
    task, config = network_of(run, None, None, None, None, [])
    found = summarize(task, config)
    plain = summarize(tiny_task(shards.metadata, tta={"flip": False}), tiny_config())
    assert found["totals"] == plain["totals"]
    assert found["totals"]["multiply_adds"] > 0
    assert found["input"] == [TINY["input_size"]] * 2
    rows = {row["name"]: row for row in found["modules"]}
    parts = [rows[name] for name in ("network.backbone", "network.global_net", "network.refine_net")]
    assert rows["network"]["multiply_adds"] == sum(row["multiply_adds"] for row in parts)
    lines = list(summary_lines(found))
    assert lines[-1].split()[:2] == ["all", f"{found['totals']['parameters']:,}"]


def test_a_task_that_is_shown_no_images_has_parameters_only(shards: ShardSet) -> None:
    task = Tiny(TinyConfig(), shards.metadata).eval()
    found = summarize(task, config_of())
    assert found["totals"]["multiply_adds"] is None
    assert found["totals"]["parameters"] == sum(parameter.numel() for parameter in task.parameters())
    assert list(summary_lines(found))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "either a run folder or --task"), ({"run": Path("run"), "profile": "full"}, "omit --profile"),
        ({"task": "keypoint"}, "unknown task 'keypoint'"), ({"run": Path("nowhere")}, "not a run folder"),
    ],
)  # fmt: skip
def test_what_has_no_summary_is_one_sentence(arguments: dict[str, Any], words: str) -> None:
    given = {"run": None, "task": None, "profile": None, "params": None, "dataset": None, "overrides": [], **arguments}
    with pytest.raises(UsageError, match=words):
        network_of(**given)


PACKAGED = yaml.safe_load(PACKAGED_PARAMS.read_text(encoding="utf-8"))
PROFILES = [
    (task, name) for task in sorted(tasks()) for name, value in PACKAGED[task].items() if isinstance(value, dict)
]


@pytest.mark.parametrize(("task", "profile"), PROFILES)
def test_the_weights_of_every_profile_are_known_to_timm(task: str, profile: str) -> None:
    model = load_config(task, None, profile, []).model
    for backbone, weights in (("backbone", "weights"), ("local_backbone", "local_weights")):
        name, tag = model.get(backbone), model.get(weights, "none")
        if name and tag not in ("none", "imagenet"):
            assert f"{name}.{tag}" in timm.list_pretrained(name + "*")


@pytest.mark.slow
@pytest.mark.parametrize(("task", "profile"), PROFILES)
def test_every_profile_has_a_summary_without_a_data_set(task: str, profile: str) -> None:
    """A resnet101 at 512 pixels takes 4 s of CPU time; no weights are read."""
    network, config = network_of(None, task, profile, None, None, [])
    assert config == load_config(task, None, profile, [])
    found = summarize(network, config)
    assert found["totals"]["multiply_adds"] > 1e7
    assert found["totals"]["parameters"] >= found["totals"]["trainable"] > 1e6
    assert list(summary_lines(found))


def test_items_to_learn_are_those_of_the_data_set(tmp_path: Path) -> None:
    place = write_label_set(tmp_path / "set", {"train": 24, "val": 8})
    small = ["model.backbone=test_efficientnet", "model.input_size=64", "model.classify=item"]
    network, _ = network_of(None, "retrieval", None, None, str(place), small)
    assert network.classifier.out_features == 8
    assert network_of(None, "retrieval", None, None, None, small)[0].classifier.out_features == 3997


def test_a_task_of_params_needs_no_run(shard_folder: Path, tmp_path: Path) -> None:
    params = tmp_path / "params.yaml"
    params.write_text(
        "keypoints: {tiny: {model: {backbone: test_efficientnet, weights: imagenet, channels: 16, input_size: 64}}}"
    )
    task, config = network_of(None, "keypoints", "tiny", params, str(shard_folder), ["model.channels=8"])
    assert config.model["channels"] == 8
    assert summarize(task, config)["totals"]["parameters"] == count_parameters(task)[""]


def test_what_requires_a_gradient_still_does(shards: ShardSet) -> None:
    task = tiny_task(shards.metadata)
    task.network.backbone.requires_grad_(False)
    before = {name: parameter.requires_grad for name, parameter in task.named_parameters()}
    summarize(task, tiny_config())
    assert {name: parameter.requires_grad for name, parameter in task.named_parameters()} == before
    assert set(before.values()) == {True, False}
