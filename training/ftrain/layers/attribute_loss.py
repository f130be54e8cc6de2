"""Losses of attributes: balanced binary cross-entropy that leaves unknown ids out, and a softmax per group of exclusive ones.

Every loss is a mean over the rows of a batch, rows without a known id counting as 0: what a row adds does not depend on
the others, so that micro-batches and ranks add up to the loss of the whole batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

_NEVER = -1e4  # a logit whose exponential is 0, and which times 0 is not NaN


def attribute_targets(annotation: Mapping[str, Any], num_attributes: int) -> np.ndarray:
    """int8 A of a sample's annotation: 1 positive, 0 known to be absent, -1 unknown (ids listed as unknown or as maybe).

    Raises `ValueError` or `IndexError` for ids that are none.
    """
    targets = np.zeros(num_attributes, np.int8)
    for name, value in (("attributes_unknown", -1), ("attributes_maybe", -1), ("attributes_positive", 1)):
        ids = np.asarray(annotation.get(name, ()), np.int64)
        if ids.size and ids.min() < 0:  # would count from the end
            raise ValueError(f"{name} holds {ids.min()}")
        targets[ids] = value
    return targets


def binary_loss(
    logits: Tensor, targets: Tensor, *, balanced: bool = True, positive_rate: float | None = None
) -> Tensor:
    """Sigmoid cross-entropy of `logits` B, A against `targets` B, A (1, 0, or -1 for unknown ids, which are left out).

    `balanced` weighs positives by the rate of negatives and negatives by the rate of positives (Liu et al., CVPR 2016,
    section 3.2), so that the few positives of an image count as much as its hundreds of negatives. The rate is that of the
    image's own known ids, or `positive_rate`, the share of positives in the training set. Not `balanced`: a plain mean over
    known ids. Logits of 0 cost log 2 whatever the rate (an image without positives: half of that).
    """
    positive, negative = targets == 1, targets == 0
    costs = F.binary_cross_entropy_with_logits(logits.float(), positive.float(), reduction="none")
    num_positive, num_negative = positive.sum(dim=1), negative.sum(dim=1)
    if not balanced:
        return ((costs * (targets >= 0)).sum(dim=1) / (num_positive + num_negative).clamp_min(1)).mean()
    if positive_rate is not None:
        weights = positive * (0.5 / positive_rate) + negative * (0.5 / (1 - positive_rate))
        return ((costs * weights).sum(dim=1) / (num_positive + num_negative).clamp_min(1)).mean()
    of_positives = (costs * positive).sum(dim=1) / num_positive.clamp_min(1)
    of_negatives = (costs * negative).sum(dim=1) / num_negative.clamp_min(1)
    return 0.5 * (of_positives + of_negatives).mean()


def exclusive_loss(logits: Tensor, targets: Tensor, groups: Sequence[Sequence[int]], smoothing: float = 0.0) -> Tensor:
    """Softmax cross-entropy within each group of ids, of which an image has exactly one: mean over its known groups.

    `logits` and `targets` are B, A as in `binary_loss`. A group without a positive id is unknown and left out; so is an unknown
    id of a group with one (FashionAI's "maybe"): it is neither wanted nor punished. `smoothing` is the share of the target that
    is spread over the known ids of the group (Szegedy et al., CVPR 2016, section 7).
    """
    costs: list[Tensor] = []
    known: list[Tensor] = []
    for members in groups:
        own = targets[:, list(members)]
        positive, allowed = (own == 1).float(), (own >= 0).float()
        scores = torch.where(own >= 0, logits[:, list(members)].float(), _NEVER)
        log_shares = scores.log_softmax(dim=1)
        wanted = (1 - smoothing) * positive / positive.sum(dim=1, keepdim=True).clamp_min(1)
        wanted = wanted + smoothing * allowed / allowed.sum(dim=1, keepdim=True).clamp_min(1)
        has = positive.amax(dim=1)
        costs.append(-(wanted * log_shares).sum(dim=1) * has)
        known.append(has)
    num_known = torch.stack(known).sum(dim=0).clamp_min(1)
    return (torch.stack(costs).sum(dim=0) / num_known).mean()


def exclusive_shares(logits: Tensor, groups: Sequence[Sequence[int]]) -> Tensor:
    """Probabilities B, A: a softmax within each group; ids in no group get a sigmoid."""
    shares = logits.float().sigmoid()
    for members in groups:
        shares[:, list(members)] = logits[:, list(members)].float().softmax(dim=1)
    return shares


def class_loss(logits: Tensor, labels: Tensor, smoothing: float = 0.0) -> Tensor:
    """Softmax cross-entropy of `logits` B, C against `labels` B, -1 for unknown ones: a mean over all rows, unknown ones as 0."""
    costs = F.cross_entropy(logits.float(), labels, ignore_index=-1, label_smoothing=smoothing, reduction="sum")
    return costs / len(labels)
