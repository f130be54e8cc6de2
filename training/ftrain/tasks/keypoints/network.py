"""Cascaded Pyramid Network for keypoints (Chen et al., CVPR 2018, sections 3.2 and 3.3) on a timm feature pyramid.

GlobalNet is a feature pyramid that predicts maps at every level; RefineNet merges the levels and predicts again, for
the points that are hard for GlobalNet. Two deviations do not affect expressiveness: the 1x1 convolution of the top-down
path precedes its upsampling (they commute, because there is neither normalization nor activation), where it is four
times cheaper; and the last convolutions are initialized near zero, so that the initial maps are empty.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from fschemas.failures import UsageError
from ftrain.data.config import BackboneConfig
from ftrain.layers.backbone import feature_pyramid

PYRAMID_STRIDES = (4, 8, 16, 32)


class KeypointMaps(NamedTuple):
    """Predicted heat maps, each B, K, H / 4, W / 4.

    `global_maps` are the four predictions of GlobalNet, from the finest level (stride 4); `refined` is that of
    RefineNet.
    """

    global_maps: list[Tensor]
    refined: Tensor


def _convolution(num_inputs: int, num_outputs: int, kernel: int, *, activate: bool = True) -> nn.Sequential:
    """Convolution without bias, batch normalization and optional ReLU."""
    layers: list[nn.Module] = [
        nn.Conv2d(num_inputs, num_outputs, kernel, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(num_outputs),
    ]
    return nn.Sequential(*layers, nn.ReLU(inplace=True)) if activate else nn.Sequential(*layers)


def _prediction(num_inputs: int, num_points: int) -> nn.Conv2d:
    """3x3 convolution at the end of a branch with one map per point; initialized near zero."""
    layer = nn.Conv2d(num_inputs, num_points, 3, padding=1)
    nn.init.normal_(layer.weight, std=1e-3)
    nn.init.zeros_(layer.bias)  # pyright: ignore[reportArgumentType]
    return layer


def _initialize(module: nn.Module) -> None:
    """He initialization of every convolution, before the prediction layers are added."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def _resize(features: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear, without aligned corners: cell centers keep their position in the image (see `heatmap`)."""
    if (features.shape[-2], features.shape[-1]) == size:
        return features
    return functional.interpolate(features, size=size, mode="bilinear", align_corners=False)


def _size(features: Tensor) -> tuple[int, int]:
    return features.shape[-2], features.shape[-1]


class Bottleneck(nn.Module):
    """Residual 1x1, 3x3, 1x1 block (He et al., CVPR 2016), with a 1x1 convolution as shortcut if the width changes."""

    def __init__(self, num_inputs: int, num_outputs: int, num_inner: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            _convolution(num_inputs, num_inner, 1),
            _convolution(num_inner, num_inner, 3),
            _convolution(num_inner, num_outputs, 1, activate=False),
        )
        same = num_inputs == num_outputs
        self.shortcut = nn.Identity() if same else _convolution(num_inputs, num_outputs, 1, activate=False)

    def forward(self, features: Tensor) -> Tensor:
        """Map B, num_inputs, h, w to B, num_outputs, h, w."""
        return functional.relu(self.shortcut(features) + self.residual(features))


class GlobalNet(nn.Module):
    """Feature pyramid with a predictor per level (CPN, section 3.2).

    From the coarsest level: lateral 1x1 convolution, plus the level above after a 1x1 convolution and bilinear
    upsampling. The predictor is a 1x1 and a 3x3 convolution; its maps are resized to the finest level.
    """

    def __init__(self, backbone_channels: tuple[int, ...], num_points: int, channels: int) -> None:
        super().__init__()
        levels = range(len(backbone_channels))
        self.lateral = nn.ModuleList(_convolution(width, channels, 1) for width in backbone_channels)
        self.top_down = nn.ModuleList(nn.Conv2d(channels, channels, 1) for _ in levels[1:])
        self.reduce = nn.ModuleList(_convolution(channels, channels, 1) for _ in levels)
        _initialize(self)
        self.predict = nn.ModuleList(_prediction(channels, num_points) for _ in levels)

    def forward(self, pyramid: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Return fused features per level and maps per level at the finest size, from backbone features, finest first.

        Features are B, C, h, w; maps are B, K, H / 4, W / 4.
        """
        fused: list[Tensor] = []
        for level in reversed(range(len(pyramid))):
            features = self.lateral[level](pyramid[level])
            if fused:
                features = features + _resize(self.top_down[level](fused[0]), _size(features))
            fused.insert(0, features)
        finest = _size(fused[0])
        maps = [
            _resize(predict(reduce(features)), finest)
            for features, reduce, predict in zip(fused, self.reduce, self.predict, strict=True)
        ]
        return fused, maps


class RefineNet(nn.Module):
    """Merges all levels (CPN, section 3.3): i bottlenecks on level i, resize, concatenate, one bottleneck, 3x3 K."""

    def __init__(self, num_levels: int, num_points: int, channels: int, inner_channels: int) -> None:
        super().__init__()
        self.levels = nn.ModuleList(
            nn.Sequential(*(Bottleneck(channels, channels, inner_channels) for _ in range(level)))
            for level in range(num_levels)
        )
        self.join = Bottleneck(num_levels * channels, channels, inner_channels)
        _initialize(self)
        self.predict = _prediction(channels, num_points)

    def forward(self, fused: list[Tensor]) -> Tensor:
        """Map fused features per level (B, C, h, w, finest first) to maps B, K, h, w of the finest size."""
        finest = _size(fused[0])
        joined = [_resize(branch(features), finest) for branch, features in zip(self.levels, fused, strict=True)]
        return self.predict(self.join(torch.cat(joined, dim=1)))


class CascadedPyramidNetwork(nn.Module):
    """GlobalNet and RefineNet on a timm backbone with features at strides 4, 8, 16 and 32.

    `channels` is the width of the pyramid (256 in the paper; 64 to 96 for a small network); inside RefineNet's
    bottlenecks it is half. Raises `UsageError` for an unknown backbone, a backbone without these strides, and weights that
    do not fit.
    """

    def __init__(self, num_points: int, backbone: BackboneConfig, channels: int = 256) -> None:
        super().__init__()
        self.backbone, self.levels = feature_pyramid(backbone, PYRAMID_STRIDES)
        widths = self.levels.widths
        self.coarsest_channels = widths[-1]
        self.global_net = GlobalNet(widths, num_points, channels)
        self.refine_net = RefineNet(len(widths), num_points, channels, max(1, channels // 2))

    def forward(self, image: Tensor) -> KeypointMaps:
        """Map images B, 3, H, W, normalized for the backbone, to keypoint maps; H and W are multiples of 32."""
        return self.maps_and_features(image)[0]

    def maps_and_features(self, image: Tensor) -> tuple[KeypointMaps, Tensor]:
        """Like `forward`, plus the backbone features at stride 32: B, `coarsest_channels`, H / 32, W / 32."""
        if image.shape[-2] % PYRAMID_STRIDES[-1] or image.shape[-1] % PYRAMID_STRIDES[-1]:
            size = f"{image.shape[-1]}x{image.shape[-2]}"
            raise UsageError(f"the image is {size} pixels; width and height must be multiples of 32")
        pyramid = self.levels(self.backbone(image), image)
        fused, maps = self.global_net(pyramid)
        return KeypointMaps(global_maps=maps, refined=self.refine_net(fused)), pyramid[-1]
