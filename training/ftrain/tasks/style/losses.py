"""Losses for images with at most one known value per attribute."""

from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ftrain.layers.metric_learning import Mining, triplet_loss
from ftrain.tasks.style.arcface import ArcFace


def value_loss(
    heads: Iterable[nn.Module], seen: Sequence[Tensor], values: Tensor, num_values: Sequence[int], smoothing: float
) -> Tensor:
    """Cross-entropy of the known values: mean over the attributes of an image, then over images (0 if none is known).

    For each of A attributes, `heads` has the classifier and `seen` its input B, D; `values` is int64 B, A, -1 unknown.
    """
    costs = torch.zeros(values.shape[0], device=values.device)
    for number, (head, evaluated) in enumerate(zip(heads, seen, strict=True)):
        true = values[:, number]
        if isinstance(head, ArcFace):
            logits = head.with_margin(evaluated, F.one_hot(true.clamp_min(0), num_values[number]).bool())
        else:
            logits = head(evaluated).float()
        costs = costs + F.cross_entropy(logits, true, ignore_index=-1, label_smoothing=smoothing, reduction="none")
    return (costs / (values >= 0).sum(dim=1).clamp_min(1)).mean()


def value_triplets(embedding: Tensor, values: Tensor, *, margin: float, mining: Mining) -> Tensor:
    """Triplet loss per attribute of embeddings B, A, E, mined in the batch, weighted by the known values B, A."""
    known = (values >= 0).sum(dim=0)
    losses = [
        triplet_loss(embedding[:, number], values[:, number], margin=margin, mining=mining)
        for number in range(values.shape[1])
    ]
    return (torch.stack(losses) * known).sum() / known.sum().clamp_min(1)
