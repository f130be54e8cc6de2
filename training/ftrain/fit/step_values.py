"""Losses and gradient norms of the last steps, on their way from the device."""

from collections import deque
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

MOST_PENDING = 8  # steps: a step that went wrong is noticed this many steps later, at the latest


class StepValues:
    """Values of steps in order, read some steps later, so that the host does not wait for the device.

    On a GPU, each step's values are copied to pinned memory behind the work of the step. Reading waits for that copy.
    """

    def __init__(self) -> None:
        self.pending: deque[tuple[int, Sequence[str], Tensor, torch.cuda.Event | None]] = deque()

    def add(self, step: int, names: Sequence[str], values: Tensor) -> None:
        """Start the copy of the values of a step, a vector with one number per name."""
        copied = None
        if values.device.type == "cuda":
            values = torch.empty(values.shape, dtype=values.dtype, pin_memory=True).copy_(values, non_blocking=True)
            copied = torch.cuda.Event()
            copied.record()
        self.pending.append((step, names, values, copied))

    def read(self, keep: int = 0) -> Iterator[tuple[int, dict[str, float]]]:
        """Yield step and values of the oldest steps until `keep` are left."""
        while len(self.pending) > keep:
            step, names, values, copied = self.pending.popleft()
            if copied is not None:
                copied.synchronize()
            yield step, dict(zip(names, values.numpy().tolist(), strict=True))
