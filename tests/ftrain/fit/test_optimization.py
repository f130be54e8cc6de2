"""Layer-wise learning rates compared with timm's grouping, and all other parameters unchanged."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ftrain.data.config import FitConfig
from ftrain.fit.optimization import ema_decay_at, layer_heights, make_optimizer, set_rate

DECAY = 0.7


class Model(nn.Module):
    """A network and a head, with the attribute names of the tasks."""

    def __init__(self, name: str, prefix: str) -> None:
        import timm

        super().__init__()
        network = timm.create_model(name, features_only=True)
        if prefix == "network.backbone":
            self.network = nn.ModuleDict({"backbone": network})
        else:
            self.backbone = nn.ModuleDict({"features": network})
        self.head = nn.Linear(4, 2)


def rates_of(optimizer: torch.optim.Optimizer, model: nn.Module) -> dict[str, float]:
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {names[id(parameter)]: group["lr"] for group in optimizer.param_groups for parameter in group["params"]}


@pytest.mark.parametrize("prefix", ["network.backbone", "backbone.features"])
@pytest.mark.parametrize(
    "network", ["resnet10t", "test_efficientnet", "test_convnext", "test_vit", "swin_s3_tiny_224", "vgg11"]
)
def test_layers_decay_as_those_of_timm(network: str, prefix: str) -> None:
    import timm
    from timm.optim import param_groups_layer_decay

    with torch.device("meta"):
        model, classifier = Model(network, prefix), timm.create_model(network, num_classes=2)
    optimizer = make_optimizer(model, FitConfig(layer_lr_decay=DECAY))
    set_rate(optimizer, 1.0, {})
    rates = rates_of(optimizer, model)
    names = {id(parameter): name for name, parameter in classifier.named_parameters()}
    scales = {
        names[id(parameter)].replace(".", "_"): group["lr_scale"]
        for group in param_groups_layer_decay(classifier, layer_decay=DECAY)
        for parameter in group["params"]
    }
    assert rates["head.weight"] == rates["head.bias"] == 1.0
    inside = {name.removeprefix(f"{prefix}."): rate for name, rate in rates.items() if not name.startswith("head")}
    expected = {name: scales[name.removeprefix("model.").replace(".", "_")] for name in inside}
    top = max(expected.values())  # timm counts the layers between the last block and the head as one more
    assert {name: rate / DECAY for name, rate in inside.items()} == pytest.approx(
        {name: scale / top for name, scale in expected.items()}
    )
    assert len(set(inside.values())) > 3


def test_without_decay_there_are_the_same_groups_and_rates_as_ever() -> None:
    model = Model("resnet10t", "network.backbone")
    optimizer = make_optimizer(model, FitConfig(backbone_lr_scale=0.5, weight_decay=0.1, optimizer="sgd"))
    set_rate(optimizer, 0.2, {})
    assert [(group["share"], group["weight_decay"]) for group in optimizer.param_groups] == [
        (1.0, 0.0), (1.0, 0.1), (0.5, 0.0), (0.5, 0.1),
    ]  # fmt: skip
    rates = rates_of(optimizer, model)
    assert all(rate == (0.2 if name.startswith("head") else 0.1) for name, rate in rates.items())
    assert len(rates) == len(list(model.parameters()))


def test_backbone_rate_and_decay_multiply() -> None:
    optimizer = make_optimizer(
        Model("resnet10t", "backbone.features"), FitConfig(backbone_lr_scale=0.5, layer_lr_decay=0.5)
    )
    assert {group["share"] for group in optimizer.param_groups} == {1.0, *(0.5 * 0.5**height for height in range(1, 6))}


def test_two_backbones_have_heights_of_their_own() -> None:
    names = [
        "backbone.conv1.weight",
        "backbone.layer1.0.weight",
        "backbone.layer1.0.bn.weight",
        "local.backbone_b.blocks.0.weight",
    ]
    assert list(layer_heights([*names, "head.weight"]).items()) == [
        (names[0], 2),
        (names[1], 1),
        (names[2], 1),
        (names[3], 1),
    ]


@pytest.mark.parametrize(("steps", "decay"), [(20, 0.998), (690, 0.998), (690, 0.9), (10_000, 0.999)])
def test_an_average_forgets_how_it_began(steps: int, decay: float) -> None:
    """With a constant decay of .998, a quarter of the initial weights would be left after 690 steps."""
    left = 1.0
    for step in range(1, steps):
        assert 0 < ema_decay_at(decay, step) <= decay
        left *= ema_decay_at(decay, step)
    assert left < 1e-4
    assert ema_decay_at(decay, 100_000) == decay
