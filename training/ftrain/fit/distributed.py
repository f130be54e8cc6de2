"""Processes of one run: who we are, and sums in a fixed order. Without torchrun there is one process and nothing is sent."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import cv2
import torch
import torch.distributed as dist

from fschemas.cores import compute_threads
from fschemas.failures import UsageError


@dataclass(frozen=True)
class Processes:
    """The place of this process among those that torchrun started."""

    rank: int
    world_size: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and prints."""
        return self.rank == 0

    def gather(self, tensor: torch.Tensor) -> list[torch.Tensor]:
        """The tensors of all ranks, in rank order; shapes must be equal."""
        if self.world_size == 1:
            return [tensor]
        tensor = tensor.contiguous()
        parts = [torch.empty_like(tensor) for _ in range(self.world_size)]
        dist.all_gather(parts, tensor)
        return parts

    def mean(self, values: dict[str, float]) -> dict[str, float]:
        """The mean of every figure over all ranks, summed in rank order."""
        if self.world_size == 1:
            return values
        vector = torch.tensor(list(values.values()), dtype=torch.float64, device=self.device)
        mean = torch.stack(self.gather(vector)).sum(dim=0) / self.world_size
        return dict(zip(values, mean.tolist(), strict=True))

    def maximum(self, *numbers: int) -> list[int]:
        """The largest of each number over all ranks: what all agree on."""
        if self.world_size == 1:
            return list(numbers)
        values = torch.tensor(numbers, device=self.device)
        dist.all_reduce(values, op=dist.ReduceOp.MAX)
        return [int(value) for value in values.tolist()]

    def any(self, flag: bool) -> bool:
        """Whether the flag is set on any rank."""
        return bool(self.maximum(int(flag))[0])

    def share(self, tensors: Iterable[torch.Tensor]) -> None:
        """Give all ranks the tensors of rank 0, in place."""
        if self.world_size > 1:
            for tensor in tensors:
                flat = tensor.contiguous()
                dist.broadcast(flat, src=0)
                tensor.copy_(flat)

    def wait(self) -> None:
        """Let all ranks arrive here."""
        if self.world_size > 1:
            dist.barrier()


def find_device(device: str) -> torch.device:
    """The device of this process: `cpu`, `cuda` or `auto`; raises `UsageError` for a GPU that torch cannot find."""
    if device == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device cuda: torch finds no GPU here; use --device cpu or auto")
    use_gpu = device == "cuda" or (device == "auto" and torch.cuda.is_available())
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0"))) if use_gpu else torch.device("cpu")


@contextmanager
def processes(device: str = "auto", workers: int = 0, threads: int | None = None) -> Generator[Processes]:
    """Join the group that torchrun announces in the environment (nccl on GPUs, gloo on CPUs) and leave it at the end.

    The model computes on `threads`; without a number on the cores that `workers` data workers leave, or as OMP_NUM_THREADS says.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    elif "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(compute_threads(workers, int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))
    world_size, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    place = find_device(device)
    use_gpu = place.type == "cuda"
    if use_gpu:
        torch.cuda.set_device(place)
    if world_size > 1:
        dist.init_process_group("nccl" if use_gpu else "gloo", timeout=timedelta(minutes=10))
    try:
        yield Processes(rank, world_size, place)
    finally:
        if world_size > 1:
            dist.destroy_process_group()


@contextmanager
def one_process(device: str, workers: int = 0) -> Iterator[torch.device]:
    """The device of a command that does not share its work among processes, but may have data workers."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UsageError("this command runs in one process; start it without torchrun")
    cv2.setNumThreads(0)
    with processes(device, workers) as group:
        yield group.device
