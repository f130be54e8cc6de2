"""Batches from shards in plan order, decoded and encoded in worker processes and passed through shared memory.

Workers write into slots of shared memory that was mapped before they were forked, so nothing is copied, pickled or left
over in /dev/shm. Step s uses slot s mod `SLOTS`. A task of a worker is a piece of a step, a few samples, so the number
of slots does not depend on the number of workers: they fill the same few steps together.
"""

import ctypes
import math
import mmap
import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import cv2
import numpy as np
import torch

from fschemas.failures import EnvironmentProblem, FashionkitError, IntegrityError
from fschemas.shard_set import ShardSet
from ftrain.data.feed import Batch, cuda_buffers, device_batches, pinned
from ftrain.data.plan import TrainingPlan, evaluation_batches
from ftrain.data.workers import WorkerPool

HELD = 2  # batches whose slots the caller may use: the last one and the one before
_AHEAD = 3  # steps that workers may be ahead of the last one
SLOTS = HELD + _AHEAD
_PIECES = 32  # approximate number of pieces of a step
_CPU = torch.device("cpu")
WORKER_TIMEOUT = 120.0  # seconds without a response after which a data worker counts as hung
# Raised by encoders for an annotation that does not have the expected form.
_UNUSABLE = (ValueError, KeyError, TypeError, IndexError, OverflowError, cv2.error)


@dataclass(frozen=True)
class RawSample:
    """A sample as stored in the shards.

    The encoder may write its array `image` into `out`, which saves a copy. If there is a `canvas`, the device renders the
    view from a decoded image of at most that side (see `ftrain.data.device_view`).
    """

    row: int
    image: bytes
    annotation: dict[str, Any]
    out: np.ndarray | None = None
    canvas: int | None = None


class Encoder(Protocol):
    """Converts a sample to arrays of fixed shapes, in a worker. `generator` is None if nothing may be random."""

    def __call__(self, sample: RawSample, generator: np.random.Generator | None) -> dict[str, np.ndarray]:
        """Return arrays by name; the stream adds the batch dimension and `row`."""
        ...


class Generators:
    """Random generators of augmentation, keyed by the seed and the position of the sample in the run.

    Independent of worker and rank. One generator is reset for each key: creating a new one is slower, because numpy
    first reads entropy from the system.
    """

    def __init__(self, seed: int, batch_size: int, positions: np.ndarray) -> None:
        self.batch_size, self.positions = batch_size, positions
        self.seed_word = (seed & (2**63 - 1)) + 2**63
        self.generator = np.random.Generator(np.random.Philox(key=np.array([self.seed_word, 0], dtype=np.uint64)))
        self.start = self.generator.bit_generator.state

    def of(self, step: int, position: int) -> np.random.Generator:
        """Return the generator of one sample, valid until the next call."""
        drawn = step * self.batch_size + int(self.positions[position])
        self.start["state"]["key"] = np.array([self.seed_word, drawn], dtype=np.uint64)
        self.generator.bit_generator.state = self.start
        return self.generator


@dataclass
class BatchStream:
    """Numbered batches in slots of shared memory. `rows_at(step)` are the rows of a batch; -1 is padding.

    With a `canvas`, the device renders the views (see `RawSample`).
    """

    shards: ShardSet
    encoder: Encoder
    rows_at: Callable[[int], np.ndarray]
    generators: Generators | None
    batch_size: int
    example_row: int
    canvas: int | None = None

    def __post_init__(self) -> None:
        self.example = self._encode(self.example_row, None, None)
        self.piece = max(2, self.batch_size // _PIECES)  # samples
        self.pieces = -(-self.batch_size // self.piece)
        arrays = {"row": np.zeros((), np.int64), **self.example}
        shape = SLOTS, self.batch_size
        self.views = {name: shared_zeros((*shape, *array.shape), array.dtype) for name, array in arrays.items()}
        self.tensors = {name: torch.from_numpy(view) for name, view in self.views.items()}

    def fill(self, number: int) -> None:
        """Read, encode and write the samples of piece `number` of all steps."""
        step, piece = divmod(number, self.pieces)
        rows = self.rows_at(step)
        for position in range(piece * self.piece, min((piece + 1) * self.piece, self.batch_size)):
            self._write(step, position, int(rows[position]))

    def _write(self, step: int, position: int, row: int) -> None:
        """Write a sample into its place; padding gets the example, never old content."""
        slot = step % SLOTS
        self.views["row"][slot, position] = row
        generator = self.generators.of(step, position) if self.generators else None
        out = self.views["image"][slot, position] if "image" in self.views else None
        encoded = self.example if row < 0 else self._encode(row, generator, out)
        assert encoded.keys() == self.example.keys(), f"the encoder gave {sorted(encoded)}"
        for name, array in encoded.items():
            shape = self.example[name].shape
            assert array.shape == shape, f"the encoder gave {name} of shape {array.shape}, not {shape}"
            if array is not out:
                self.views[name][slot, position] = array

    def _encode(self, row: int, generator: np.random.Generator | None, out: np.ndarray | None) -> dict[str, np.ndarray]:
        return encode_row(self.shards, self.encoder, row, generator, out=out, canvas=self.canvas)

    def filled(self, step: int) -> Batch:
        """Return the batch of a step that was filled, as views of the shared memory."""
        batch = {name: buffer[step % SLOTS] for name, buffer in self.tensors.items()}
        if not np.array_equal(batch["row"].numpy(), self.rows_at(step)):
            raise EnvironmentProblem(
                f"the batch of step {step} does not hold the planned samples; report this as a bug"
            )
        return batch


class BatchPool(WorkerPool):
    """Batches of several streams, prepared by the same workers.

    Start it before the process group and before CUDA: neither survives a fork.
    """

    def __init__(self, streams: Sequence[BatchStream], workers: int) -> None:
        super().__init__([stream.fill for stream in streams], workers, self._prepare_worker)
        self.streams, self.pinned = streams, False
        self._pins = ExitStack()

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        self._pins.close()
        self.pinned = False

    def batches(self, stream: int, steps: range, device: torch.device = _CPU) -> Generator[Batch]:
        """Yield the batches of these consecutive steps of a stream (its index) on a device.

        A batch holds tensors (B, …) by name, and `row` (B). It is valid until the next one is requested: on the CPU, it
        is the slot itself. Every batch is compared with the plan. Raises `IntegrityError` for a damaged sample and
        `EnvironmentProblem` for a worker that died or hung.
        """
        slots = self.slots(stream, steps)
        if device.type == "cpu":
            return slots
        self.start()
        self._pin()
        return device_batches(slots, cuda_buffers(device), HELD)

    def _pin(self) -> None:
        """Pin the slots until the pool is left."""
        if not self.pinned:
            self.pinned = True
            self._pins.enter_context(pinned(view for stream in self.streams for view in stream.views.values()))

    def slots(self, stream: int, steps: range) -> Generator[Batch]:
        """Yield batches in shared memory, each valid until `HELD` more are requested."""
        source, pieces = self.streams[stream], self.streams[stream].pieces
        numbers = range(steps.start * pieces, steps.stop * pieces)
        with closing(self.in_order(stream, numbers, _AHEAD * pieces, WORKER_TIMEOUT)) as filled:
            for number in filled:
                if number % pieces == pieces - 1:
                    yield source.filled(number // pieces)

    def _prepare_worker(self) -> None:
        for stream in self.streams:
            stream.shards.close()  # each worker opens its own files
        cv2.setNumThreads(0)
        torch.set_num_threads(1)
        keep_freed_memory()


def encode_row(
    shards: ShardSet, encoder: Encoder, row: int, generator: np.random.Generator | None, **options: Any
) -> dict[str, np.ndarray]:
    """Encode a row of the index; `options` are fields of `RawSample`.

    Raises `IntegrityError` for a sample that the encoder cannot use.
    """
    image, annotation = shards.read(row)
    with usable_annotations(shards, row):
        return encoder(RawSample(row, image, annotation, **options), generator)


@contextmanager
def usable_annotations(shards: ShardSet, row: int | None = None) -> Generator[None]:
    """Report an annotation of the wrong form, that of `row` if known, as an `IntegrityError` of the set."""
    try:
        yield
    except FashionkitError:
        raise
    except _UNUSABLE as error:
        what = "an annotation" if row is None else f"sample {shards.columns['key'][row]}"
        reason = f"{error} is missing or unknown" if isinstance(error, KeyError) else error
        problem = f"{what} cannot be used ({reason})"
        raise IntegrityError(f"{shards.location}: {problem}; run `fprep lint` on the set") from error


def training_stream(
    shards: ShardSet, encoder: Encoder, plan: TrainingPlan, positions: np.ndarray, canvas: int | None = None
) -> BatchStream:
    """Return the batches of a plan for one rank; `positions` are its positions in a global batch."""
    generators, rows_at = Generators(plan.seed, plan.batch_size, positions), lambda step: plan.batch(step)[positions]
    return BatchStream(shards, encoder, rows_at, generators, positions.size, int(plan.rows[0]), canvas)


def evaluation_stream(
    shards: ShardSet,
    encoder: Encoder,
    rows: np.ndarray,
    *,
    batch_size: int,
    rank: int,
    world_size: int,
    canvas: int | None = None,
) -> tuple[BatchStream, range]:
    """Return batches with every row of `rows` exactly once over all ranks, without augmentation, and their steps.

    `batch_size` counts all ranks. Padding has `row` = -1.
    """
    per_rank = min(max(1, batch_size // world_size), len(rows))
    batches = evaluation_batches(rows, per_rank, rank, world_size)
    stream = BatchStream(shards, encoder, batches.__getitem__, None, len(batches[0]), int(rows[0]), canvas)
    return stream, range(len(batches))


def keep_freed_memory() -> None:
    """Let glibc reuse the memory of freed images instead of returning it to the kernel, which zeroes every page again.

    Decoding, cropping and color-jittering a 512-pixel image takes 2.2 ms of CPU time without this and 0.9 ms with it on
    a virtual machine, where page faults are expensive (docs/log.md). No effect with other C libraries.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(-3, 32 << 20)  # M_MMAP_THRESHOLD, at the maximum accepted by glibc
        mallopt(-1, 1 << 30)  # M_TRIM_THRESHOLD


def shared_zeros(shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray:
    """Zeros shared by forked processes: an anonymous mapping, not limited by /dev/shm and not leaked by kills."""
    buffer = mmap.mmap(-1, max(1, math.prod(shape) * dtype.itemsize))
    return np.frombuffer(buffer, dtype, count=math.prod(shape)).reshape(shape)
