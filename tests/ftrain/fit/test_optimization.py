"""Layer-wise learning rates compared with timm's grouping, and all other parameters unchanged."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fschemas.failures import UsageError
from ftrain.data.config import BackboneConfig, FitConfig
from ftrain.fit.optimization import ema_decay_at, layer_heights, make_optimizer, set_rate
from ftrain.layers.backbone import Backbone
from ftrain.tasks.fashionnet.config import NetworkConfig
from ftrain.tasks.fashionnet.network import FashionNetwork, Heads

DECAY = 0.7


class Model(nn.Module):
    """A network and a head, with the attribute names of the tasks."""

    def __init__(self, name: str, prefix: str) -> None:
        super().__init__()
        backbone = Backbone(BackboneConfig(backbone=name, input_size=224))
        if prefix == "network.backbone":
            self.network = nn.ModuleDict({"backbone": backbone.features})
        else:
            self.backbone = backbone
        self.head = nn.Linear(4, 2)


def rates_of(optimizer: torch.optim.Optimizer, model: nn.Module) -> dict[str, float]:
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {names[id(parameter)]: group["lr"] for group in optimizer.param_groups for parameter in group["params"]}


@pytest.mark.parametrize("prefix", ["network.backbone", "backbone.features"])
@pytest.mark.parametrize(
    "network",
    [
        "resnet10t", "test_efficientnet", "test_convnext", "swin_s3_tiny_224", "vgg11", "densenet121", "coatnet_nano_cc_224", "hiera_tiny_224",
        "test_vit", "vit_small_patch14_reg4_dinov2", "vit_base_patch16_siglip_224", "vit_small_patch16_dinov3", "eva02_tiny_patch14_224",
    ],
)  # fmt: skip
def test_layers_decay_as_those_of_timm(network: str, prefix: str) -> None:
    import timm
    from timm.optim import param_groups_layer_decay

    with torch.device("meta"):
        model, classifier = Model(network, prefix), timm.create_model(network)
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
    assert inside == pytest.approx(expected)
    assert len(set(inside.values())) > 3


def test_embeddings_do_not_decay() -> None:
    model = Model("test_vit", "backbone.features")
    optimizer = make_optimizer(model, FitConfig(weight_decay=0.1))
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    decayed = {names[id(p)] for group in optimizer.param_groups if group["weight_decay"] for p in group["params"]}
    assert "backbone.features.model.blocks.0.attn.qkv.weight" in decayed
    assert not [name for name in decayed if name.endswith(("pos_embed", "cls_token", "norm.weight", "bias"))]


def test_new_levels_and_stages_learn_at_the_rate_of_the_head() -> None:
    """A feature pyramid and the stage behind a transformer have no pretrained weights."""
    network = FashionNetwork(NetworkConfig(backbone="test_vit", input_size=64), Heads(points=2, category=3))
    optimizer = make_optimizer(network, FitConfig(backbone_lr_scale=0.5, layer_lr_decay=0.5))
    rates = {names: group["share"] for group in optimizer.param_groups for names in map(id, group["params"])}
    of = {name: rates[id(parameter)] for name, parameter in network.named_parameters()}
    assert {rate for name, rate in of.items() if not name.startswith("backbone.features.")} == {1.0}
    assert any(name.startswith("backbone.levels.") for name in of)
    assert any(name.startswith("pose.backbone.") for name in of)
    assert max(rate for name, rate in of.items() if name.startswith("backbone.features.")) == 0.5 * 0.5  # last block


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


def test_stages_behind_a_cut_are_nearer_to_the_head() -> None:
    network = FashionNetwork(NetworkConfig(backbone="resnet10t", input_size=64), Heads(points=2, category=3))
    heights = layer_heights(network)
    assert {heights[f"{branch}.backbone.layer4.0.conv1.weight"] for branch in ("pose", "whole")} == {1}
    assert heights["backbone.features.layer3.0.conv1.weight"] == 2
    assert heights["backbone.features.conv1.0.weight"] == 5


def test_layers_that_timm_does_not_list_are_a_sentence() -> None:
    with torch.device("meta"):
        model = Model("poolformer_s12", "backbone.features")
    with pytest.raises(UsageError, match=r"layers of 'poolformer_s12'; set fit\.layer_lr_decay=1"):
        make_optimizer(model, FitConfig(layer_lr_decay=0.5))


@pytest.mark.parametrize(("steps", "decay"), [(20, 0.998), (690, 0.998), (690, 0.9), (10_000, 0.999)])
def test_an_average_forgets_how_it_began(steps: int, decay: float) -> None:
    """With a constant decay of .998, a quarter of the initial weights would be left after 690 steps."""
    left = 1.0
    for step in range(1, steps):
        assert 0 < ema_decay_at(decay, step) <= decay
        left *= ema_decay_at(decay, step)
    assert left < 1e-4
    assert ema_decay_at(decay, 100_000) == decay
