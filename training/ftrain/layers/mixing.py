"""mixup and CutMix: training on mixtures of two images, with the losses of both."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.distributions import Beta

from fschemas.failures import UsageError


@dataclass(frozen=True)
class MixedPairs:
    """Which images were mixed: `partner` int64 B, and the `share` (0 … 1) of the first of both."""

    partner: Tensor
    share: Tensor


class Mixing(nn.Module):
    """Mix each image with another of its micro-batch, in training mode only.

    `mixup` adds the images (Zhang et al., ICLR 2018), `cutmix` pastes a rectangle (Yun et al., ICCV 2019, section 3); each
    is the alpha of the Beta distribution of the share of the first image, or 0. With both, every micro-batch draws one.
    The share is the same for all images of a micro-batch, as published, so any loss of labels can be mixed. Numbers come
    from the generator of the device, which is seeded by the position in the run. Raises `UsageError` for a single image.
    """

    def __init__(self, mixup: float, cutmix: float) -> None:
        super().__init__()
        self.mixup, self.cutmix = mixup, cutmix

    def forward(self, images: Tensor) -> tuple[Tensor, MixedPairs | None]:
        """Return images, uint8 B, S, S, 3, as float32 mixtures, and what was mixed; None if nothing is."""
        if not (self.training and (self.mixup or self.cutmix)):
            return images, None
        if len(images) == 1:
            raise UsageError(
                "model.mixup and model.cutmix mix the images of a micro-batch, and these have one each; raise fit.batch_size"
            )
        device, side = images.device, images.shape[1]
        partner = torch.randperm(len(images), device=device)
        kept = torch.ones(side, side, device=device)
        if self.mixup:
            kept = kept * _beta(self.mixup, device)
        if self.cutmix:
            half = (1 - _beta(self.cutmix, device)).sqrt() * side / 2
            center = torch.rand(2, 1, device=device) * side
            far = (torch.arange(side, device=device) + 0.5 - center).abs() > half
            outside = (far[0][:, None] | far[1]).float()
            kept = torch.where(torch.rand((), device=device) < 0.5, kept, outside) if self.mixup else outside
        mixed = torch.lerp(images[partner].float(), images.float(), kept[:, :, None])
        return mixed, MixedPairs(partner, kept.mean())


def mixed_loss(loss_of: Callable[[Tensor], Tensor], labels: Tensor, pairs: MixedPairs | None) -> Tensor:
    """Return `loss_of(labels)`, or, of mixtures, its weighted mean over the labels B, ... of both images."""
    if pairs is None:
        return loss_of(labels)
    return torch.lerp(loss_of(labels[pairs.partner]), loss_of(labels), pairs.share)


def _beta(alpha: float, device: torch.device) -> Tensor:
    """Draw from Beta(alpha, alpha) without waiting for the device; a small alpha needs the range of float64."""
    parameter = torch.full((), alpha, dtype=torch.float64, device=device)
    return Beta(parameter, parameter, validate_args=False).sample().float()
