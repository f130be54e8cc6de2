"""CPN compared with its description: shapes, parameter counts by hand, backbones, and learning."""

from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from fschemas.failures import UsageError
from ftrain.data.config import BackboneConfig
from ftrain.layers.backbone import load_backbone_state, outputs_at
from ftrain.tasks.keypoints.network import PYRAMID_STRIDES, CascadedPyramidNetwork, GlobalNet, RefineNet

RESNET50_WIDTHS = (256, 512, 1024, 2048)


def num_parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_global_net_has_the_parameters_of_its_description():
    lateral = (256 + 512 + 1024 + 2048) * 256 + 4 * 2 * 256
    top_down = 3 * (256 * 256 + 256)
    predictors = 4 * (256 * 256 + 2 * 256 + 256 * 9 * 24 + 24)
    assert lateral + top_down + predictors == 1_667_936
    assert num_parameters(GlobalNet(RESNET50_WIDTHS, num_points=24, channels=256)) == 1_667_936


def test_refine_net_has_the_parameters_of_its_description():
    bottleneck = 256 * 128 + 2 * 128 + 128 * 9 * 128 + 2 * 128 + 128 * 256 + 2 * 256
    join = 1024 * 128 + 2 * 128 + 128 * 9 * 128 + 2 * 128 + 128 * 256 + 2 * 256 + 1024 * 256 + 2 * 256
    prediction = 256 * 9 * 24 + 24
    assert (0 + 1 + 2 + 3) * bottleneck + join + prediction == 1_914_392
    network = RefineNet(num_levels=4, num_points=24, channels=256, inner_channels=128)
    assert num_parameters(network) == 1_914_392
    assert [len(level) for level in network.levels] == [0, 1, 2, 3]


def test_resnet50_network_has_the_parameters_of_its_parts():
    network = CascadedPyramidNetwork(num_points=24, backbone=BackboneConfig(backbone="resnet50"))
    assert num_parameters(network.backbone) == 25_557_032 - (2048 * 1000 + 1000)  # ResNet-50 without its classifier
    assert num_parameters(network) == 23_508_032 + 1_667_936 + 1_914_392


@pytest.mark.parametrize(
    ("backbone", "height", "width"),
    [
        ("resnet18", 64, 96),
        ("mobilenetv3_small_100", 64, 64),
        ("efficientnet_lite0", 64, 64),
        ("convnext_atto", 64, 96),
        ("test_mambaout", 64, 96),  # returns its features channels last
        ("vgg11", 64, 64),  # also has levels at strides 1 and 2
    ],
)
def test_every_backbone_gives_quarter_size_maps_near_zero_and_trains_every_weight(backbone, height, width):
    torch.manual_seed(0)
    network = CascadedPyramidNetwork(num_points=5, backbone=BackboneConfig(backbone=backbone), channels=16)
    maps = network(torch.randn(2, 3, height, width))
    assert len(maps.global_maps) == 4
    for predicted in (*maps.global_maps, maps.refined):
        assert predicted.shape == (2, 5, height // 4, width // 4)
        assert 0 < predicted.abs().max() < 0.1
    sum((predicted - 1).square().mean() for predicted in (*maps.global_maps, maps.refined)).backward()
    idle = [name for name, parameter in network.named_parameters() if parameter.grad is None]
    assert idle == []


def test_of_several_features_at_one_stride_the_deepest_serves():
    info = SimpleNamespace(reduction=lambda: [2, 4, 4, 8, 16, 16, 32], channels=lambda: [1, 2, 3, 4, 5, 6, 7])
    assert outputs_at("made up", SimpleNamespace(feature_info=info), PYRAMID_STRIDES) == ((2, 3, 5, 6), (3, 4, 6, 7))


def test_levels_are_listed_finest_first():
    torch.manual_seed(1)
    network = CascadedPyramidNetwork(num_points=1, backbone=BackboneConfig(backbone="test_resnet"), channels=8).eval()
    for layer in network.global_net.predict:
        nn.init.normal_(layer.weight)
    with torch.no_grad():
        maps = network(torch.randn(1, 3, 128, 128)).global_maps
    roughness = [float(level.diff(dim=-1).square().mean() / level.var()) for level in maps]
    assert roughness == sorted(roughness, reverse=True)


@pytest.mark.slow
def test_compiles_whole_and_runs_in_bfloat16_and_channels_last():
    torch.manual_seed(0)
    network = CascadedPyramidNetwork(num_points=3, backbone=BackboneConfig(backbone="test_resnet"), channels=16).eval()
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected = network(image)
        compiled = torch.compile(network, backend="eager", fullgraph=True)(image)
        assert torch.equal(compiled.refined, expected.refined)
        network.to(memory_format=torch.channels_last)
        last = network(image.to(memory_format=torch.channels_last))
        assert last.refined.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(last.refined, expected.refined, rtol=1e-3, atol=1e-5)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            half = network(image)
    assert half.refined.dtype == torch.bfloat16
    torch.testing.assert_close(half.refined.float(), expected.refined, rtol=0.1, atol=5e-3)


def test_takes_backbone_weights_of_the_classifier_and_names_what_does_not_fit(tmp_path):
    timm = pytest.importorskip("timm")
    torch.manual_seed(1)
    classifier = timm.create_model("convnext_atto", pretrained=False)
    path = tmp_path / "weights.safetensors"
    save_file(classifier.state_dict(), path)
    network = CascadedPyramidNetwork(2, BackboneConfig(backbone="convnext_atto", weights=str(path)), channels=8)
    assert torch.equal(network.backbone.state_dict()["stem_0.weight"], classifier.state_dict()["stem.0.weight"])
    with pytest.raises(UsageError, match=r"have no stem_0\.weight"):
        load_backbone_state(network.backbone, {})
    wrong = {**classifier.state_dict(), "stem.0.weight": torch.zeros(1)}
    with pytest.raises(UsageError, match=r"stem_0\.weight has shape \(1,\)"):
        load_backbone_state(network.backbone, wrong)


@pytest.mark.parametrize(
    ("backbone", "sentence"),
    [("resnet81", "did you mean resnet"), ("efficientvit_m0", "none at"), ("!", "timm.list_models")],
)
def test_an_unfit_backbone_is_a_sentence(backbone, sentence):
    with pytest.raises(UsageError, match=sentence):
        CascadedPyramidNetwork(num_points=2, backbone=BackboneConfig(backbone=backbone))


def test_an_odd_image_size_is_a_sentence():
    network = CascadedPyramidNetwork(num_points=2, backbone=BackboneConfig(backbone="test_resnet"), channels=8)
    with pytest.raises(UsageError, match="100x64 pixels"):
        network(torch.zeros(1, 3, 64, 100))
