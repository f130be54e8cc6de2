"""A timm network split in two: a trunk shared by several branches, and deep stages for each branch."""

from collections import OrderedDict
from typing import Any

import torch.nn.functional as F
from timm.models._features import FeatureGetterNet, FeatureListNet
from torch import Tensor, nn

from fschemas.failures import UsageError
from ftrain.layers.backbone import Backbone, channels_of, gives_channels_last, strides_of


class DeepStages(nn.Module):
    """The stages of a timm network after a cut: B, C, H, W to B, `width`, H', W' at `stride` relative to the image.

    Tensors keep timm's names, so that a weight file of the whole network can be loaded (`load_backbone_state`).
    """

    def __init__(self, stages: OrderedDict[str, nn.Module], network: Any) -> None:
        super().__init__()
        self.feature_info, self.config = network.feature_info, network.config
        self.width, self.stride = channels_of(network)[-1], strides_of(network)[-1]
        self._channels_last = gives_channels_last(network)
        for name, stage in stages.items():
            self.add_module(name.replace(".", "_"), stage)

    def forward(self, features: Tensor) -> Tensor:
        """Map features B, C, H, W at the cut to B, `width`, H', W'."""
        if self._channels_last:
            features = features.permute(0, 2, 3, 1)
        for stage in self.children():
            features = stage(features)
        return features.permute(0, 3, 1, 2) if self._channels_last else features


class NewStage(nn.Module):
    """A new stage for networks that cannot be cut: B, `width`, h, w to B, `width`, h / 2, w / 2.

    The residual bottleneck that begins a stage of ResNet-D (He et al., CVPR 2019).
    """

    def __init__(self, width: int, stride: int) -> None:
        super().__init__()
        self.width, self.stride = width, 2 * stride
        inner = max(1, width // 4)
        self.residual = nn.Sequential(
            nn.Conv2d(width, inner, 1, bias=False), nn.BatchNorm2d(inner), nn.ReLU(inplace=True),
            nn.Conv2d(inner, inner, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(inner), nn.ReLU(inplace=True),
            nn.Conv2d(inner, width, 1, bias=False), nn.BatchNorm2d(width),
        )  # fmt: skip
        self.shortcut = nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(width, width, 1, bias=False), nn.BatchNorm2d(width))

    def forward(self, features: Tensor) -> Tensor:
        """Map features B, C, h, w to B, C, h / 2, w / 2."""
        return F.relu(self.residual(features) + self.shortcut(features))


def cut_after(backbone: Backbone, name: str, stride: int) -> DeepStages | NewStage:
    """Remove the stages after `stride` from a backbone and return them.

    The backbone then computes the features before the cut, which follows the last stage at `stride` (conv4_3 of VGG-16
    at stride 8). A vision transformer is left whole, as its blocks need class tokens and position embeddings besides
    the map: it is the trunk, and a branch begins with a new stage. Raises `UsageError` for other networks that are not
    sequential, such as HRNet, or that have no stages after the cut.
    """
    features: Any = backbone.features
    if isinstance(features, FeatureGetterNet):
        return NewStage(backbone.widths[-1], stride)
    strides = strides_of(features)
    assert stride in strides, (stride, strides)
    output = len(strides) - 1 - strides[::-1].index(stride)
    chain = _chain(features, output)
    if chain is None or output == len(strides) - 1:
        raise UsageError(
            f"backbone {name!r} cannot be cut after stride {stride}; choose a sequential network such as vgg16, resnet50 or "
            "tf_efficientnet_lite0, and a smaller model.trunk_stride"
        )
    return DeepStages(chain, features)


def _chain(features: Any, output: int) -> OrderedDict[str, nn.Module] | None:
    """Remove and return the modules after the given output; None if the network is not sequential."""
    if isinstance(features, FeatureListNet):
        names = list(features.keys())
        # timm lists the modules of its outputs in order.
        behind = names[names.index(list(features.return_layers)[output]) + 1 :]
        return OrderedDict((name, features.pop(name)) for name in behind)
    if hasattr(features, "blocks") and hasattr(features, "_stage_out_idx"):  # EfficientNets and MobileNets
        stage = int(features.feature_info.get_dicts()[output]["stage"])
        behind_blocks = list(features.blocks)[stage:]
        features.blocks = features.blocks[:stage]
        return OrderedDict((f"blocks.{stage + depth}", block) for depth, block in enumerate(behind_blocks))
    return None
