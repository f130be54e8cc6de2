"""FashionNet (Liu et al., DeepFashion, CVPR 2016): one trunk, and a pose, a local and a global branch.

    image -> trunk (conv1-4) -+-> conv5_pose -> fc6, fc7 -> landmarks, visibility
                                +-> windows around these landmarks -> fc6_local   --+
                                +-> conv5_global -> fc6_global                    --+-> fc7_fusion -> category, attributes, embedding

Beyond the paper, any sequential timm network can provide trunk and conv5; landmarks may be predicted by heat maps with
soft-argmax instead of a fully connected layer; and `fc_input: pool` replaces the layers on flattened maps, which hold most
parameters of the original.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ftrain.layers.backbone import Backbone
from ftrain.layers.cut_backbone import DeepStages, NewStage, cut_after
from ftrain.tasks.fashionnet.config import Gate, NetworkConfig
from ftrain.tasks.fashionnet.landmark_pooling import gates, pool_landmarks
from ftrain.tasks.fashionnet.soft_argmax import soft_argmax

NUM_VISIBILITIES = 3  # visible, occluded, absent
_POSE_CHANNELS = 128  # channels of the map for the pose branch with `fc_input: pool`, which keeps positions


@dataclass(frozen=True)
class Heads:
    """Output sizes; 0 omits a head. `auxiliary` is the category head of the pose branch."""

    points: int
    category: int = 0
    attributes: int = 0
    embedding: int = 0
    auxiliary: int = 0


@dataclass(frozen=True)
class PoseOutputs:
    """`points` B, K, 2 in input pixels; logits `visibility` B, K, 3, `auxiliary` B, C and `maps` B, K, h, w."""

    points: Tensor
    visibility: Tensor
    auxiliary: Tensor | None
    maps: Tensor | None


@dataclass(frozen=True)
class FashionNetOutputs:
    """Outputs of the network: logits `category` B, C and `attributes` B, A, and `embedding` B, D, L2-normalized."""

    pose: PoseOutputs
    category: Tensor | None
    attributes: Tensor | None
    embedding: Tensor | None


class FashionNetwork(nn.Module):
    """uint8 images B, S, S, 3 to landmarks, and from local and global features to category, attributes, embedding."""

    def __init__(self, config: NetworkConfig, heads: Heads) -> None:
        super().__init__()
        self.config = config
        finest = config.map_stride if config.landmark_head == "heatmap" else config.trunk_stride
        strides = tuple(stride for stride in (4, 8, 16) if finest <= stride <= config.trunk_stride)
        self.backbone = Backbone(config, strides)
        deep = cut_after(self.backbone, config.backbone, config.trunk_stride)
        self.pose = PoseBranch(config, heads, deep, self.backbone.widths)
        self.local = LocalBranch(config, heads.points, self.backbone.widths[-1])
        self.whole = GlobalBranch(config, copy.deepcopy(deep))
        self.fusion = Fusion(config, heads, config.local_dim + config.global_dim)

    def forward(self, image: Tensor) -> FashionNetOutputs:
        """Map images, uint8 B, S, S, 3, to the outputs of all branches and heads."""
        levels = self.backbone(image)
        pose = self.pose(levels)
        local = self.local(levels[-1], pose)
        return self.fusion(torch.cat([self.whole(levels[-1]), local], dim=1), pose)


class PoseBranch(nn.Module):
    """conv5_pose, fc6, fc7: landmark positions and visibility. `levels` are the trunk's features, finest first."""

    def __init__(self, config: NetworkConfig, heads: Heads, deep: DeepStages | NewStage, widths: Sequence[int]) -> None:
        super().__init__()
        self.input_size, self.num_points, self.map_stride = config.input_size, heads.points, config.map_stride
        self.backbone = deep
        channels = deep.width
        self.reduce: nn.Module = nn.Identity()
        if config.fc_input == "pool":
            channels = min(_POSE_CHANNELS, channels)
            self.reduce = _conv(deep.width, channels, 1)
        cells = config.input_size // deep.stride
        layers, width = [], channels * cells**2
        for next_width in config.pose_dims:
            layers += _dense(width, next_width, config)
            width = next_width
        self.layers = nn.Sequential(*layers)
        self.visibility = nn.Linear(width, heads.points * NUM_VISIBILITIES)
        self.auxiliary = nn.Linear(width, heads.auxiliary) if heads.auxiliary else None
        self.places = nn.Linear(width, heads.points * 2) if config.landmark_head == "regression" else None
        self.decoder = None
        if config.landmark_head == "heatmap":
            self.decoder = MapDecoder(deep.width, widths, config.map_channels, heads.points)

    def forward(self, levels: Sequence[Tensor]) -> PoseOutputs:
        """Map trunk features B, C, h, w, finest first, to points B, K, 2 and visibility logits B, K, 3."""
        deep = self.backbone(levels[-1])
        hidden = self.layers(self.reduce(deep).flatten(1))
        visibility = self.visibility(hidden).unflatten(1, (self.num_points, NUM_VISIBILITIES))
        auxiliary = None if self.auxiliary is None else self.auxiliary(hidden)
        if self.places is not None:
            shares = self.places(hidden).float().unflatten(1, (self.num_points, 2)).sigmoid()
            return PoseOutputs(shares * self.input_size - 0.5, visibility, auxiliary, None)
        assert self.decoder is not None
        maps = self.decoder(deep, levels)
        return PoseOutputs(soft_argmax(maps, self.map_stride), visibility, auxiliary, maps)


class MapDecoder(nn.Module):
    """Feature pyramid decoder (Lin et al., FPN, CVPR 2017) from deep and trunk features to one map per landmark."""

    def __init__(self, deep_width: int, widths: Sequence[int], channels: int, num_points: int) -> None:
        super().__init__()
        self.top = _conv(deep_width, channels, 1)
        self.lateral = nn.ModuleList(_conv(width, channels, 1) for width in widths)
        self.smooth = nn.ModuleList(_conv(channels, channels, 3) for _ in widths)
        self.maps = nn.Conv2d(channels, num_points, 1, bias=False)  # softmax over positions is invariant to a bias
        nn.init.normal_(self.maps.weight, std=1e-3)  # initially flat maps with every point in the center

    def forward(self, deep: Tensor, levels: Sequence[Tensor]) -> Tensor:
        """Return maps B, K, h, w of the size of the finest level.

        `deep` and `levels` (finest first) are B, C, h, w.
        """
        features = self.top(deep)
        for lateral, smooth, level in zip(reversed(self.lateral), reversed(self.smooth), reversed(levels), strict=True):
            larger = F.interpolate(features, size=level.shape[-2:], mode="bilinear", align_corners=False)
            features = smooth(larger + lateral(level))
        return self.maps(features)


class LocalBranch(nn.Module):
    """Landmark pooling on the trunk, around the predicted points, and fc6_local."""

    def __init__(self, config: NetworkConfig, num_points: int, width: int) -> None:
        super().__init__()
        self.stride, self.size = config.trunk_stride, config.window_cells
        self.gate: Gate = config.visibility_gate
        self.window = config.window_size * config.input_size
        self.reduce: nn.Module = nn.Identity()
        if config.local_channels:
            width, self.reduce = config.local_channels, _conv(width, config.local_channels, 1)
        self.layer = nn.Linear(num_points * width * config.window_cells**2, config.local_dim)

    def forward(self, features: Tensor, pose: PoseOutputs) -> Tensor:
        """Map trunk features B, C, h, w to B, local_dim."""
        windows = pool_landmarks(
            self.reduce(features), pose.points, gates(pose.visibility, self.gate),
            stride=self.stride, window=self.window, size=self.size,
        )  # fmt: skip
        return self.layer(windows.flatten(1))


class GlobalBranch(nn.Module):
    """conv5_global and fc6_global."""

    def __init__(self, config: NetworkConfig, deep: DeepStages | NewStage) -> None:
        super().__init__()
        self.backbone, self.fc_input = deep, config.fc_input
        cells = (config.input_size // deep.stride) ** 2 if config.fc_input == "flatten" else 1
        self.layer = nn.Linear(deep.width * cells, config.global_dim)

    def forward(self, features: Tensor) -> Tensor:
        """Map trunk features B, C, h, w to B, global_dim."""
        deep = self.backbone(features)
        return self.layer(deep.flatten(1) if self.fc_input == "flatten" else deep.mean(dim=(2, 3)))


class Fusion(nn.Module):
    """fc7_fusion and its heads."""

    def __init__(self, config: NetworkConfig, heads: Heads, width: int) -> None:
        super().__init__()
        layers = _active(width, config)
        if config.fusion_dim:
            layers += _dense(width, config.fusion_dim, config)
            width = config.fusion_dim
        self.layers = nn.Sequential(*layers)
        self.category = nn.Linear(width, heads.category) if heads.category else None
        self.attributes = nn.Linear(width, heads.attributes) if heads.attributes else None
        self.embedding = nn.Linear(width, heads.embedding) if heads.embedding else None

    def forward(self, joined: Tensor, pose: PoseOutputs) -> FashionNetOutputs:
        """Compute the outputs from the concatenated global and local features B, width."""
        hidden = self.layers(joined)
        category, attributes, embedding = (
            None if head is None else head(hidden).float() for head in (self.category, self.attributes, self.embedding)
        )
        return FashionNetOutputs(
            pose, category, attributes, None if embedding is None else F.normalize(embedding, dim=1)
        )


def _conv(width: int, channels: int, size: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(width, channels, size, padding=size // 2, bias=False), nn.BatchNorm2d(channels), nn.ReLU(inplace=True)
    )


def _dense(width: int, channels: int, config: NetworkConfig) -> list[nn.Module]:
    return [nn.Linear(width, channels), *_active(channels, config)]


def _active(width: int, config: NetworkConfig) -> list[nn.Module]:
    layers: list[nn.Module] = [nn.BatchNorm1d(width)] if config.norm else []
    return [*layers, nn.ReLU(inplace=True), *([nn.Dropout(config.dropout)] if config.dropout else [])]
