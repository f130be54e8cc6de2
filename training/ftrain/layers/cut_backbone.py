"""A timm network split in two: a trunk shared by several branches, and deep stages copied for each branch."""

from collections import OrderedDict
from typing import Any

from timm.models._features import FeatureListNet
from torch import Tensor, nn

from fschemas.failures import UsageError
from ftrain.layers.backbone import Backbone, gives_channels_last


class DeepStages(nn.Module):
    """The stages of a timm network after a cut: B, C, H, W to B, `width`, H', W' at `stride` relative to the image.

    Tensors keep timm's names, so that a weight file of the whole network can be loaded (`load_backbone_state`).
    """

    def __init__(self, stages: OrderedDict[str, nn.Module], feature_info: Any, *, channels_last: bool) -> None:
        super().__init__()
        self.feature_info = feature_info
        self.width, self.stride = int(feature_info.channels()[-1]), int(feature_info.reduction()[-1])
        self._channels_last = channels_last
        for name, stage in stages.items():
            self.add_module(name.replace(".", "_"), stage)

    def forward(self, features: Tensor) -> Tensor:
        """Map features B, C, H, W at the cut to B, `width`, H', W'."""
        if self._channels_last:
            features = features.permute(0, 2, 3, 1)
        for stage in self.children():
            features = stage(features)
        return features.permute(0, 3, 1, 2) if self._channels_last else features


def cut_after(backbone: Backbone, name: str, stride: int) -> DeepStages:
    """Remove the stages after `stride` from a backbone and return them.

    The backbone then computes the features before the cut, which follows the last stage at `stride` (conv4_3 of VGG-16
    at stride 8). Raises `UsageError` for a network that is not sequential, such as HRNet, or that has no stages after
    the cut.
    """
    features: Any = backbone.features
    strides: list[int] = features.feature_info.reduction()
    assert stride in strides, (stride, strides)
    output = len(strides) - 1 - strides[::-1].index(stride)
    chain = _chain(features, output)
    if chain is None or output == len(strides) - 1:
        raise UsageError(
            f"backbone {name!r} cannot be cut after stride {stride}; choose a sequential network such as vgg16, resnet50 or "
            "tf_efficientnet_lite0, and a smaller model.trunk_stride"
        )
    return DeepStages(chain, features.feature_info, channels_last=gives_channels_last(features))


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
