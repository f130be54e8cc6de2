"""From a map of features to one vector."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

_LEAST = 1e-6


class GeneralizedMean(nn.Module):
    """GeM pooling (Radenovic et al., TPAMI 2019): the p-th root of the mean of p-th powers, with a learnt p.

    p = 1 is the average, large p the maximum. Values below 0 count as 0. Computed in float32.
    """

    def __init__(self, power: float = 3.0) -> None:
        super().__init__()
        self.power = nn.Parameter(torch.tensor(power))

    def forward(self, features: Tensor) -> Tensor:
        """B, C, H, W to B, C."""
        with torch.autocast(features.device.type, enabled=False):
            exponents = self.power * features.float().clamp_min(_LEAST).log().flatten(
                2
            )  # powers themselves would overflow
            return ((exponents.logsumexp(dim=2) - math.log(exponents.shape[2])) / self.power).exp()


class AveragePooling(nn.Module):
    """The mean over all places: B, C, H, W to B, C."""

    def forward(self, features: Tensor) -> Tensor:
        """See the class."""
        return features.mean(dim=(2, 3))


def strength(features: Tensor) -> Tensor:
    """How strongly a network answers at each place of B, C, H, W: B, H, W float32 in 0 … 1, 0 at the weakest place."""
    length = features.float().square().sum(dim=1).sqrt()
    least, most = length.amin(dim=(1, 2), keepdim=True), length.amax(dim=(1, 2), keepdim=True)
    return (length - least) / (most - least).clamp_min(_LEAST)
