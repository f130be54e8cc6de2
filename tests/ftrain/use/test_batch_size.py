"""Batch sizes: the rule on numbers worked by hand, the activations of a known network, and the table of docs/gpus.md."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from tests.shard_sets import write_label_set
from torch import nn

from fschemas.shard_set import ShardSet
from ftrain.data.config import FitConfig, Stage
from ftrain.fit.config import load_config
from ftrain.fit.preflight import example_batch
from ftrain.fit.splits import names_to_learn
from ftrain.layers.weights import weights_to_come
from ftrain.tasks.task import Task, build_task
from ftrain.use.batch_size import CARDS, FULL_PROFILES, Footprint, advise_batch, measure_footprint

SMALL = Footprint(parameters=0, bytes_per_image=1_000_000_000)


@pytest.mark.parametrize(("memory", "settings", "fits", "size", "parts", "rate"), [
    # .9 x 40 GB - 1.5 GB is room for 28.75 images of 1.2 GB
    (40e9, {"batch_size": 16}, 24, 24, 1, math.sqrt(1.5)),
    (40e9, {"batch_size": 16, "optimizer": "sgd"}, 24, 24, 1, 1.5),
    (40e9, {"batch_size": 4}, 24, 16, 1, 2.0),  # four times is the limit
    (40e9, {"batch_size": 24}, 24, 24, 1, 1.0),
    (40e9, {"batch_size": 48}, 24, 48, 2, 1.0),
    (40e9, {"batch_size": 56}, 24, 56, 2, 1.0),  # 28 fit, though they are not a multiple of 8
    (40e9, {"batch_size": 60, "sampler": "identities", "samples_per_identity": 4}, 24, 60, 3, 1.0),  # 20 = 5 x 4
    (40e9, {"batch_size": 12, "sampler": "auto", "samples_per_identity": 3}, 24, 24, 1, math.sqrt(2)),
    (10e9, {"batch_size": 48}, 0, 48, 8, 1.0),
])  # fmt: skip
def test_the_rule(memory: float, settings: dict, fits: int, size: int, parts: int, rate: float) -> None:
    advice = advise_batch(SMALL, memory, FitConfig(learning_rate=1.0, **settings))
    assert advice is not None
    assert (advice.fits, advice.batch_size, advice.micro_batches) == (fits, size, parts)
    assert advice.learning_rate == pytest.approx(rate)


@pytest.mark.parametrize(
    ("memory", "settings"),
    [(2e9, {"batch_size": 8}), (10e9, {"batch_size": 8, "sampler": "identities", "samples_per_identity": 8})],
)
def test_no_batch_fits(memory: float, settings: dict) -> None:
    assert advise_batch(SMALL, memory, FitConfig(**settings)) is None


def test_parameters_take_their_share() -> None:
    """1e9 parameters take 22 GB: (0.9 x 45 - 1.5 - 22) / 1.2 is 14.2 images."""
    advice = advise_batch(Footprint(10**9, 10**9), 45e9, FitConfig(batch_size=8))
    assert advice is not None
    assert advice.fits == 8


class Stack(Task):
    """Two layers without bias, each followed by a sigmoid."""

    def __init__(self, config: object = None, dataset: object = None) -> None:
        nn.Module.__init__(self)
        self.layers = nn.Sequential(
            nn.Linear(100, 50, bias=False), nn.Sigmoid(), nn.Linear(50, 10, bias=False), nn.Sigmoid()
        )

    def forward(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {"loss": self.layers(batch["values"]).sum()}

    def predict(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return batch


def test_what_autograd_keeps_of_a_known_network() -> None:
    """The input of the first layer (100 numbers) and the outputs of both sigmoids (50 + 10), besides the batch itself."""
    task = Stack()
    found = measure_footprint(task, FitConfig(), {"values": torch.zeros(1, 100)})
    assert found == Footprint(5500, 4 * (100 + 50 + 10) + 4 * 100)
    frozen = FitConfig(stages=(Stage(freeze=("layers.0",)),))
    assert measure_footprint(task, frozen, {"values": torch.zeros(1, 100)}).bytes_per_image == 4 * (50 + 10) + 4 * 100
    assert all(parameter.requires_grad and parameter.grad is None for parameter in task.parameters())


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> ShardSet:
    return ShardSet.open(write_label_set(tmp_path_factory.mktemp("labels") / "set", {"train": 40, "val": 10}))


@pytest.mark.parametrize(
    "name", [name if name == "retrieval" else pytest.param(name, marks=pytest.mark.slow) for name in FULL_PROFILES]
)
def test_known_footprints_are_those_of_the_profiles(labels: ShardSet, name: str) -> None:
    """Within 3%: labels of the small set have fewer values than the published ones."""
    config = load_config(name, None, "full", [])
    with weights_to_come():
        task = build_task(config, {**labels.metadata, "names": names_to_learn(config, labels)})
    batch = example_batch(task, labels, int(labels.rows("train")[0]), 1)
    found = measure_footprint(task, config.fit, batch)
    assert found.bytes_per_image == pytest.approx(FULL_PROFILES[name].bytes_per_image, rel=0.03)


def test_the_table_of_the_docs_follows_the_rule() -> None:
    page = (Path(__file__).parents[3] / "docs/gpus.md").read_text(encoding="utf-8")
    for name, footprint in FULL_PROFILES.items():
        fit = load_config(name, None, "full", []).fit
        cells = [
            f"{fit.batch_size}, {fit.learning_rate:.2g}",
            f"{footprint.parameters / 1e6:.1f}",
            f"{footprint.bytes_per_image / 1e6:.0f}",
        ]
        for gigabytes in CARDS:
            advice = advise_batch(footprint, gigabytes * 1e9, fit)
            assert advice is not None
            cells.append(f"{advice.batch_size} ({advice.fits}), {advice.learning_rate:.2g}")
        assert f"| {name} full | {' | '.join(cells)} |" in page
