"""Attribute losses: balanced binary cross-entropy that ignores unknown ids, and softmax over exclusive groups.

Every loss is a mean over the rows of a batch; rows without a known id contribute 0. The contribution of a row does not
depend on the other rows, so that micro-batches and ranks add up to the loss of the whole batch.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

_FOCUS, _SHIFT = 4, 0.05  # of negatives in the asymmetric loss
_NEVER = -1e4  # a logit with an exponential of 0 that does not become NaN when multiplied by 0


def attribute_targets(annotation: Mapping[str, Any], num_attributes: int) -> np.ndarray:
    """Return the targets of an annotation, int8 A: 1 positive, 0 negative, -1 unknown (ids listed as unknown or maybe).

    Raises `ValueError` or `IndexError` for ids that do not exist.
    """
    targets = np.zeros(num_attributes, np.int8)
    for name, value in (("attributes_unknown", -1), ("attributes_maybe", -1), ("attributes_positive", 1)):
        ids = annotation.get(name)
        if ids:
            if min(ids) < 0:  # a negative index would count from the end
                raise ValueError(f"{name} holds {min(ids)}")
            targets[ids] = value
    return targets


def binary_loss(
    logits: Tensor, targets: Tensor, *, balanced: bool = True, positive_rate: float | None = None
) -> Tensor:
    """Binary cross-entropy of `logits` B, A against `targets` B, A (1, 0, or -1 for unknown ids, which are ignored).

    `balanced` weights positives by the rate of negatives and vice versa (Liu et al., CVPR 2016, section 3.2), so that
    the few positives of an image count as much as its hundreds of negatives. The rate is computed from the known ids of
    each image, unless `positive_rate`, the share of positives in the training set, is given. If not `balanced`, returns
    the plain mean over known ids. Logits of 0 cost log 2 at any rate (half of that for an image without positives).
    """
    positive, negative = targets == 1, targets == 0
    losses = F.binary_cross_entropy_with_logits(logits.float(), positive.float(), reduction="none")
    num_positive, num_negative = positive.sum(dim=1), negative.sum(dim=1)
    if not balanced:
        return ((losses * (targets >= 0)).sum(dim=1) / (num_positive + num_negative).clamp_min(1)).mean()
    if positive_rate is not None:
        weights = positive * (0.5 / positive_rate) + negative * (0.5 / (1 - positive_rate))
        return ((losses * weights).sum(dim=1) / (num_positive + num_negative).clamp_min(1)).mean()
    of_positives = (losses * positive).sum(dim=1) / num_positive.clamp_min(1)
    of_negatives = (losses * negative).sum(dim=1) / num_negative.clamp_min(1)
    return 0.5 * (of_positives + of_negatives).mean()


def asymmetric_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Asymmetric loss (Ridnik et al., ICCV 2021, equation 7) of `logits` B, A against `targets` B, A as above.

    With the settings of the paper for MS-COCO: positives cost -log p, negatives -q^4 log(1 - q) with q = max(p - 0.05, 0),
    so that easy negatives cost little, and very easy ones nothing. Summed over the known ids of an image, averaged over
    images.
    """
    scores = logits.float().sigmoid()
    shifted = (scores - _SHIFT).clamp_min(0)
    of_positives = -F.logsigmoid(logits.float())
    of_negatives = -(shifted**_FOCUS) * (1 - shifted).log()
    losses = torch.where(targets == 1, of_positives, torch.where(targets == 0, of_negatives, 0.0))
    return losses.sum(dim=1).mean()


def group_masks(groups: Iterable[Sequence[int]], num_attributes: int) -> Tensor:
    """Return a mask bool G, A of the ids of every group, for the functions below."""
    members = [list(group) for group in groups]
    masks = torch.zeros(len(members), num_attributes, dtype=torch.bool)
    for mask, ids in zip(masks, members, strict=True):
        mask[ids] = True
    return masks


def exclusive_loss(logits: Tensor, targets: Tensor, groups: Tensor, smoothing: float = 0.0) -> Tensor:
    """Softmax cross-entropy within each group of exclusive ids, averaged over the known groups of an image.

    `logits` and `targets` are B, A as in `binary_loss`, `groups` bool G, A as of `group_masks`. A group without a
    positive id is unknown and ignored. Unknown ids of a known group (FashionAI's "maybe") are masked: they are neither
    rewarded nor penalized. `smoothing` is the share of the target that is spread over the known ids of the group
    (Szegedy et al., CVPR 2016, section 7).
    """
    positive, allowed = (targets == 1)[:, None] & groups, (targets >= 0)[:, None] & groups  # B, G, A
    log_probabilities = torch.where(allowed, logits.float()[:, None], _NEVER).log_softmax(dim=2)
    target = (1 - smoothing) * positive / positive.sum(dim=2, keepdim=True).clamp_min(1)
    target = target + smoothing * allowed / allowed.sum(dim=2, keepdim=True).clamp_min(1)
    known = positive.any(dim=2)
    losses = -(target * log_probabilities).sum(dim=2) * known
    return (losses.sum(dim=1) / known.sum(dim=1).clamp_min(1)).mean()


def exclusive_probabilities(logits: Tensor, groups: Tensor) -> Tensor:
    """Return probabilities B, A of logits B, A: softmax within each group (bool G, A), sigmoid for ids without one."""
    independent = logits.float().sigmoid()
    if not len(groups):
        return independent
    shares = torch.where(groups, logits.float()[:, None], -torch.inf).softmax(dim=2).sum(dim=1)
    return torch.where(groups.any(dim=0), shares, independent)


def class_loss(logits: Tensor, labels: Tensor, smoothing: float = 0.0, adjustment: Tensor | None = None) -> Tensor:
    """Return the mean of `class_losses` over all rows (unknown: 0)."""
    return class_losses(logits, labels, smoothing, adjustment).sum() / len(labels)


def class_losses(logits: Tensor, labels: Tensor, smoothing: float = 0.0, adjustment: Tensor | None = None) -> Tensor:
    """Return the softmax cross-entropy B of `logits` B, C against `labels` B (-1: unknown, whose loss is 0).

    `adjustment` C is added to the logits (see `logit_adjustment`). Labels are then smoothed toward the adjusted class
    frequencies: uniform smoothing asks for more images of a rare class than there are, and a classifier that fits this
    prefers rare classes everywhere once the adjustment is taken off.
    """
    adjusted = logits.float() if adjustment is None else logits.float() + adjustment
    losses = F.cross_entropy(adjusted, labels, ignore_index=-1, label_smoothing=smoothing, reduction="none")
    if adjustment is None:
        return losses
    shift = adjusted @ (1 / len(adjustment) - adjustment.softmax(dim=0))  # from uniform to those frequencies
    return losses + smoothing * shift.where(labels >= 0, 0)


def logit_adjustment(counts: np.ndarray, weight: float) -> Tensor:
    """Return `weight` times the log of the class frequencies, float32 C, to be added to the logits in training only.

    The classifier then needs a larger margin for rare classes, and its unadjusted scores minimize the balanced error
    (Menon et al., ICLR 2021, equation 10). A weight of 1 is the balanced softmax (Ren et al., NeurIPS 2020, equation
    4). `counts` C are training images per class; a class without any counts as one.
    """
    known = np.maximum(counts, 1)
    return torch.from_numpy(weight * np.log(known / known.sum())).float()
