"""Cross-batch memory: pairs of the current batch with the images of many earlier ones, for a contrastive loss.

Wang et al., "Cross-batch memory for embedding learning" (XBM), CVPR 2020: embeddings drift slowly, so those of the last
batches are still valid negatives and positives.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fschemas.failures import UsageError

_SIMILAR = 0.5  # negatives below this cosine are ignored, as in the paper


class CrossBatchMemory(nn.Module):
    """Embeddings, labels and row numbers of the last `size` images, the current batch included; oldest overwritten first.

    They are buffers, so that checkpoints contain them and a resumed run is exact. Every process holds the same memory,
    because the batches it is filled with are global.
    """

    def __init__(self, size: int, dim: int) -> None:
        super().__init__()
        self.register_buffer("embedding", torch.zeros(size, dim))
        self.register_buffer("labels", torch.full((size,), -1))
        self.register_buffer("rows", torch.full((size,), -1))
        self.register_buffer("next", torch.tensor(0))
        self.embedding: Tensor
        self.labels: Tensor
        self.rows: Tensor
        self.next: Tensor

    @torch.no_grad()
    def exchange(self, embedding: Tensor, labels: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return the embeddings N, D and labels N of earlier batches, then store this one: B, D, B and B (row numbers).

        Unused and overwritten entries have the label -1. All micro-batches of a step exchange the same global batch: the
        repetition is recognized by its rows, overwrites the same entries and returns the same memory. Raises `UsageError`
        for a batch that fills the memory, since nothing earlier would be left.
        """
        size = len(self.labels)
        if len(rows) >= size:
            raise UsageError(
                f"model.memory_size={size} leaves no earlier image beside a batch of {len(rows)}; use several times fit.batch_size"
            )
        embedding = F.normalize(embedding.float(), dim=1)
        own = torch.arange(len(rows), device=rows.device)
        repeated = (self.rows[(self.next - len(rows) + own) % size] == rows).all()
        start = torch.where(repeated, self.next - len(rows), self.next)
        positions = (start + own) % size
        known = self.embedding.clone(), self.labels.index_fill(0, positions, -1)
        self.embedding.index_copy_(0, positions, embedding)
        self.labels.index_copy_(0, positions, labels)
        self.rows.index_copy_(0, positions, rows)
        self.next.copy_((start + len(rows)) % size)
        return known


def contrastive_loss(embedding: Tensor, labels: Tensor, others: Tensor, labels_of_others: Tensor) -> Tensor:
    """Sum over `others` of 1 - s for positives and of s for negatives above 0.5, averaged over the known images.

    s is the cosine of the embeddings B, D and N, D; labels are int64, below 0 unknown. Equation 3 of the paper, in its
    linear form. Returns 0 with a gradient of 0 if nothing can be compared.
    """
    with torch.autocast(embedding.device.type, enabled=False):
        cosine = F.normalize(embedding.float(), dim=1) @ F.normalize(others.float(), dim=1).T
    comparable = (labels >= 0)[:, None] & (labels_of_others >= 0)[None, :]
    same = labels[:, None] == labels_of_others[None, :]
    pull = torch.where(comparable & same, 1 - cosine, 0.0)
    push = torch.where(comparable & ~same & (cosine > _SIMILAR), cosine, 0.0)
    return (pull + push).sum() / (labels >= 0).sum().clamp_min(1)
