"""Batches on a device, copied beside its computation.

The copies have their own stream and are two batches ahead, so that a step never waits for one. A slot of the ring goes
back to the workers once it is copied. The buffers on the device are filled in turn: a copy waits on the device, not on
the host, for the step that used the buffer before. This also bounds how far the host runs ahead of the device, and
keeps the addresses of batches the same for CUDA graphs.
"""

from collections import deque
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
import torch

from fschemas.failures import EnvironmentProblem

Batch = dict[str, torch.Tensor]
NUM_BUFFERS = 3  # the batch in use and the two ahead


class DeviceBuffer(Protocol):
    """Place for a batch on a device; tests replace it to check the order of the calls."""

    def fill(self, batch: Batch) -> None:
        """Start to copy a batch here, to run after the work on the previous one."""
        ...

    def take(self) -> Batch:
        """Return the batch on the device; work issued from now on runs after the copy."""
        ...

    def release(self) -> None:
        """Note that all work on the batch has been issued."""
        ...

    def wait(self) -> None:
        """Wait until the copy is done."""
        ...


class CudaBuffer:
    """Place for a batch on a GPU, filled on the stream `copies`."""

    def __init__(self, device: torch.device, copies: torch.cuda.Stream) -> None:
        self.device, self.copies = device, copies
        self.batch: Batch = {}
        self.copied, self.used = torch.cuda.Event(), torch.cuda.Event()

    def fill(self, batch: Batch) -> None:
        """Start to copy a batch from pinned memory, to run after the work on the previous one."""
        if not self.batch:
            self.batch = {name: torch.empty_like(tensor, device=self.device) for name, tensor in batch.items()}
            self.release()  # kernels in progress may still use this memory for a tensor that was freed
        with torch.cuda.stream(self.copies):
            self.copies.wait_event(self.used)
            for name, tensor in batch.items():
                self.batch[name].copy_(tensor, non_blocking=True)
            self.copied.record(self.copies)

    def take(self) -> Batch:
        """Return the batch; work issued from now on to the current stream runs after the copy."""
        torch.cuda.current_stream(self.device).wait_event(self.copied)
        return self.batch

    def release(self) -> None:
        """Note that all work on the batch has been issued to the current stream."""
        self.used.record(torch.cuda.current_stream(self.device))

    def wait(self) -> None:
        """Wait until the copy is done."""
        self.copied.synchronize()


def cuda_buffers(device: torch.device) -> list[CudaBuffer]:
    """Return buffers that share a stream for copies."""
    copies = torch.cuda.Stream(device)
    return [CudaBuffer(device, copies) for _ in range(NUM_BUFFERS)]


def device_batches(batches: Generator[Batch], buffers: Sequence[DeviceBuffer], held: int) -> Generator[Batch]:
    """Yield the batches on the device of `buffers`, each valid until the next one is requested.

    One buffer has the yielded batch, the others those copied ahead. `batches` may overwrite a batch when `held` more
    are requested; by then, it has been copied. It is closed at the end, after the last copy, also on errors.
    """
    free, filled = deque(buffers), deque[DeviceBuffer]()
    uncopied = deque[DeviceBuffer]()  # whose source may still be read

    def copy_next() -> None:
        if len(uncopied) == held:
            uncopied.popleft().wait()
        if (batch := next(batches, None)) is not None:
            buffer = free.popleft()
            uncopied.append(buffer)
            filled.append(buffer)
            buffer.fill(batch)

    try:
        for _ in buffers:
            copy_next()
        while filled:
            yield filled[0].take()
            filled[0].release()
            free.append(filled.popleft())
            copy_next()
    finally:
        for buffer in uncopied:
            buffer.wait()
        batches.close()


@contextmanager
def pinned(arrays: Iterable[np.ndarray]) -> Generator[None]:
    """Pin the memory of arrays for copies to a GPU that run beside other work.

    After forks, not before: forked processes need no part in it. Raises `EnvironmentProblem` if the memory cannot be
    pinned.
    """
    cuda: Any = torch.cuda.cudart()
    pins: list[int] = []
    try:
        for array in filter(np.size, arrays):
            if error := int(cuda.cudaHostRegister(array.ctypes.data, array.nbytes, 0)):
                raise EnvironmentProblem(
                    f"cannot pin {array.nbytes / 2**20:.0f} MiB of memory for the GPU (CUDA error {error}); "
                    "raise the limit of locked memory (ulimit -l) or use a smaller batch size"
                )
            pins.append(array.ctypes.data)
        yield
    finally:
        for pin in pins:
            cuda.cudaHostUnregister(pin)
