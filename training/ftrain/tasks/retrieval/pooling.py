"""Pooling of feature maps to vectors."""

import math

import torch
from torch import Tensor, nn

_MIN = 1e-6


class GeneralizedMean(nn.Module):
    """GeM pooling (Radenovic et al., TPAMI 2019): the p-th root of the mean of p-th powers, with a learnable p.

    p = 1 is the average, large p approaches the maximum. Negative values count as 0. Computed in float32.
    """

    def __init__(self, power: float = 3.0) -> None:
        super().__init__()
        self.power = nn.Parameter(torch.tensor(power))

    def forward(self, features: Tensor) -> Tensor:
        """Pool B, C, H, W to B, C."""
        with torch.autocast(features.device.type, enabled=False):
            # Powers themselves would overflow.
            exponents = self.power * features.float().clamp_min(_MIN).log().flatten(2)
            return ((exponents.logsumexp(dim=2) - math.log(exponents.shape[2])) / self.power).exp()


class AveragePooling(nn.Module):
    """Mean over all positions: B, C, H, W to B, C."""

    def forward(self, features: Tensor) -> Tensor:
        """Pool B, C, H, W to B, C."""
        return features.mean(dim=(2, 3))


def activation_map(features: Tensor) -> Tensor:
    """Return the activation strength of features B, C, H, W: float32 B, H, W, scaled to 0 … 1 per image."""
    length = features.float().square().sum(dim=1).sqrt()
    least, most = length.amin(dim=(1, 2), keepdim=True), length.amax(dim=(1, 2), keepdim=True)
    return (length - least) / (most - least).clamp_min(_MIN)
