"""The average of weights: its formula, what has none, and steps that must not change it."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ftrain.fit.weight_average import WeightAverage

KEEP, SKIP = torch.tensor(0.0), torch.tensor(1.0)


def network() -> Any:
    torch.manual_seed(0)
    made = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    made.register_buffer("labels", torch.tensor([3, -1]))
    made.register_buffer("trained", torch.tensor(False))
    return made


def train(model: Any) -> None:
    with torch.no_grad():
        for tensor in model.state_dict().values():
            tensor.copy_(torch.randn(tensor.shape)) if tensor.is_floating_point() else tensor.copy_(tensor + 1)


def test_weights_and_statistics_are_averaged() -> None:
    model = network()
    average = WeightAverage(model)
    expected = {name: tensor.clone() for name, tensor in model.state_dict().items() if tensor.is_floating_point()}
    for decay in (0.0, 0.5, 0.9):
        train(model)
        average.update(decay, KEEP)
        for name, mean in expected.items():
            mean.mul_(decay).add_(model.state_dict()[name], alpha=1 - decay)
    for name, mean in expected.items():
        torch.testing.assert_close(average.module.state_dict()[name], mean)


def test_counters_and_labels_are_copied_on_request() -> None:
    model = network()
    average = WeightAverage(model)
    train(model)
    average.update(0.5, KEEP)
    assert average.module.labels.tolist() == [3, -1]
    average.copy_counters()
    found = average.state_dict()
    assert found["module.labels"].tolist() == [4, 0]
    assert bool(found["module.trained"])
    assert int(found["module.1.num_batches_tracked"]) == 1
    assert found.keys() == {f"module.{name}" for name in model.state_dict()}


def test_a_step_that_failed_leaves_every_bit() -> None:
    model = network()
    average = WeightAverage(model)
    train(model)
    average.update(0.5, KEEP)
    before = {name: tensor.clone() for name, tensor in average.state_dict().items()}
    model[0].weight.data.fill_(torch.nan)
    average.update(0.5, SKIP)
    assert all(torch.equal(average.state_dict()[name], tensor) for name, tensor in before.items())
