"""Processes of a run: rank, world size and collectives in a fixed order.

Without torchrun, one process and no transfers.
"""

import os
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import cv2
import torch
import torch.distributed as dist

from fschemas.cores import available_cores, compute_threads, data_workers
from fschemas.failures import IntegrityError, UsageError, explain

T = TypeVar("T")
_TIMEOUT = timedelta(minutes=10)  # after which a process that does not answer has failed


@dataclass(frozen=True)
class Processes:
    """Rank, world size and device of this process among those started by torchrun."""

    rank: int
    world_size: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and prints (rank 0)."""
        return self.rank == 0

    def gather(self, tensor: torch.Tensor) -> list[torch.Tensor]:
        """Tensors of all ranks in rank order; shapes must be equal."""
        if self.world_size == 1:
            return [tensor]
        tensor = tensor.contiguous()
        parts = [torch.empty_like(tensor) for _ in range(self.world_size)]
        dist.all_gather(parts, tensor)
        return parts

    def mean(self, values: torch.Tensor) -> torch.Tensor:
        """Mean over all ranks, on the device; equal on all ranks, and not finite if a value of any rank is not."""
        if self.world_size > 1:
            values = values.clone()
            dist.all_reduce(values)
            values /= self.world_size
        return values

    def share(self, tensors: Iterable[torch.Tensor]) -> None:
        """Broadcast the tensors of rank 0 to all ranks, in place."""
        if self.world_size > 1:
            for tensor in tensors:
                flat = tensor.contiguous()
                dist.broadcast(flat, src=0)
                tensor.copy_(flat)

    def wait(self) -> None:
        """Wait until all ranks have reached this point."""
        if self.world_size > 1:
            dist.barrier()

    def share_dict(self, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return the tensors of rank 0 of several, by name, on the CPU of every rank; those of others are ignored."""
        like = self.on_main(lambda: {name: (tensor.shape, tensor.dtype) for name, tensor in tensors.items()})
        shared: dict[str, torch.Tensor] = {}
        for name, (shape, dtype) in like.items():
            own = torch.empty(shape, dtype=dtype, device=self.device)
            if self.is_main:  # copied, because channels_last moments have another order in memory
                own.copy_(tensors[name])
            dist.broadcast(own, src=0)
            shared[name] = own.cpu()
        return shared

    def on_main(self, action: Callable[[], T]) -> T:
        """Run `action` on rank 0 and return its result, a picklable value, on every rank.

        If it fails, rank 0 raises its error, and the other ranks exit with the same code without repeating it.
        """
        if self.world_size == 1:
            return action()
        outcome: list[Any] = [None, 0]
        try:
            if self.is_main:
                outcome[0] = action()
        except BaseException as error:
            explained = explain(error)
            dist.broadcast_object_list([None, int(explained[0]) if explained else 1], src=0, device=self.device)
            raise
        dist.broadcast_object_list(outcome, src=0, device=self.device)
        if outcome[1]:
            raise SystemExit(outcome[1])
        return outcome[0]

    def require_same(self, what: str, digest: str) -> None:
        """Stop all ranks, with an `IntegrityError` on rank 0, if a digest (hexadecimal) is not the same everywhere."""
        if self.world_size == 1:
            return
        number = torch.tensor(int(digest[:15], 16), device=self.device)
        different = [rank for rank, other in enumerate(self.gather(number)) if not torch.equal(other, number)]

        def check() -> None:
            if different:
                raise IntegrityError(f"process {different[0]} was started with another {what} than process 0")

        self.on_main(check)


class Agreement:
    """The maximum of a number, such as a signal, over all ranks, exchanged by the CPUs in a group of their own.

    Neither the device nor the collectives of a step are waited for. All ranks create it and call it alike.
    """

    def __init__(self, processes: Processes) -> None:
        self.group: Any = dist.new_group(backend="gloo", timeout=_TIMEOUT) if processes.world_size > 1 else None
        self.pending: tuple[torch.Tensor, dist.Work] | None = None

    def of_last_call(self, number: int) -> int:
        """Start to exchange a number and return the maximum of the previous one; 0 at first. Alone, this number."""
        if self.group is None:
            return number
        previous, values = self._result(), torch.tensor(number)
        work = dist.all_reduce(values, dist.ReduceOp.MAX, self.group, async_op=True)
        assert work is not None
        self.pending = values, work
        return previous

    def now(self, number: int) -> int:
        """Return the maximum of this number and the previous one."""
        return max(self.of_last_call(number), self._result() if self.group is not None else 0)

    def _result(self) -> int:
        """Wait for the exchange in progress and end it."""
        if self.pending is None:
            return 0
        (values, work), self.pending = self.pending, None
        work.wait()
        return int(values)


def rank_and_world_size() -> tuple[int, int]:
    """Rank of this process and number of processes, as torchrun started them."""
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


def find_device(device: str) -> torch.device:
    """Device of this process: `cpu`, `cuda` or `auto`. Raises `UsageError` for a GPU that torch cannot find."""
    if device == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device cuda: torch finds no GPU here; use --device cpu or auto")
    use_gpu = device == "cuda" or (device == "auto" and torch.cuda.is_available())
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0"))) if use_gpu else torch.device("cpu")


def workers_or_default(workers: int | None, device: str) -> int:
    """`workers`, or if it is None, the number of data workers that suits the device and the cores of this process.

    Can be called before workers are forked: it does not use CUDA if the driver's management library counts the GPUs.
    """
    if workers is not None:
        return workers
    return data_workers(available_cores() // _local_world_size(), gpu=device != "cpu" and torch.cuda.device_count() > 0)


def _local_world_size() -> int:
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


@contextmanager
def processes(device: str = "auto", workers: int = 0, threads: int | None = None) -> Generator[Processes]:
    """Join the process group of torchrun's environment (nccl on GPUs, gloo on CPUs) and leave it at the end.

    The model computes with `threads` threads; by default with OMP_NUM_THREADS, or with `compute_threads`.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    elif "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(compute_threads(workers, _local_world_size()))
    rank, world_size = rank_and_world_size()
    this_device = find_device(device)
    use_gpu = this_device.type == "cuda"
    if use_gpu:
        torch.cuda.set_device(this_device)
    if world_size > 1:
        dist.init_process_group("nccl" if use_gpu else "gloo", timeout=_TIMEOUT)
    try:
        yield Processes(rank, world_size, this_device)
    finally:
        if world_size > 1:
            dist.destroy_process_group()


@contextmanager
def one_process(device: str, workers: int = 0, threads: int | None = None) -> Iterator[torch.device]:
    """Device of a command that runs in a single process, possibly with data workers; see `processes`."""
    if rank_and_world_size()[1] > 1:
        raise UsageError("this command runs in one process; start it without torchrun")
    cv2.setNumThreads(0)
    with processes(device, workers, threads) as group:
        yield group.device
