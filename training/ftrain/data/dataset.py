"""A shard set as a `torch.utils.data.IterableDataset`, for other training loops."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.distributed as dist
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from fschemas.failures import UsageError
from fschemas.wording import count
from ftrain.data.image import decode
from ftrain.data.plan import Sampler, TrainingPlan, evaluation_batches, micro_batches_of_rank, shuffled
from ftrain.data.remote import open_shards
from ftrain.data.stream import Encoder, Generators, RawSample, encode_row


class ShardDataset(IterableDataset[dict[str, Any]]):
    """Samples of a split, in the exact order of `ftrain`'s training stream, for any number of workers and ranks.

    Without an `encoder`, a sample is a dict:

    - `row` (int): row in the index of the set; `key` (str): name of the sample
    - `image`: RGB uint8 (H, W, 3) at its stored size, or its JPEG bytes with `decode=False`
    - `annotation` (dict): content of `<key>.json`, with the same keys for every sample of a set: `key`, `split`,
      `group`, `width`, `height`, and its labels, such as `category`, `box` (x1, y1, x2, y2) and `landmark_x`,
      `landmark_y`, `landmark_visibility` (K numbers each); coordinates are pixel centers of the stored image

    With an `encoder`, a sample is the output of the encoder, arrays of fixed shapes by name, plus `row` (int64). An
    encoder is a picklable function `(sample, generator) -> dict[str, np.ndarray]`. `sample` has `row`, `image` (JPEG
    bytes) and `annotation`. `generator` is the only source of randomness for augmentation: a `np.random.Generator`
    keyed by `seed` and position, or None without `shuffle`. The encoder of a trained task is
    `ftrain.load(run).task.encoder`.

    One pass is one epoch. With `shuffle`, it is the epoch chosen by `set_epoch`, in random order, without its last
    incomplete batch. Otherwise it is every sample of the split once, in index order. With several ranks (from
    `torch.distributed`, if initialized, or from `rank` and `world_size`), each rank takes its slice of every global
    batch.

    `loader()` returns the DataLoader. To build one yourself, pass `batch_size=dataset.batch_size` and no `shuffle`:
    workers take whole batches in turn, so another batch size would change the order (but still yield every sample
    once).
    """

    def __init__(
        self, shards: str | Path, split: str = "train", *, batch_size: int = 32, shuffle: bool = True, seed: int = 0,
        encoder: Encoder | None = None, decode: bool = True, sampler: Sampler = shuffled, rows: Sequence[int] | np.ndarray | None = None,
        rank: int | None = None, world_size: int | None = None,
    ) -> None:  # fmt: skip
        """Open a shard set in a folder or at any fsspec URL.

        `batch_size` is the size of a global batch over all ranks, like `fit.batch_size`. `rows` of the index replace
        the split. `sampler` orders an epoch (see `ftrain.data.plan`). Raises `UsageError` if the set or the split does
        not exist or if the batch size is not divisible by the number of ranks, and `IntegrityError` if the set is
        damaged. Iteration raises `IntegrityError` for a damaged sample.
        """
        super().__init__()
        self.shards, self.encoder, self.decode, self.shuffle = open_shards(str(shards)), encoder, decode, shuffle
        """The open set: `metadata` is dataset.json, `columns` the index."""
        in_group = dist.is_available() and dist.is_initialized()
        self.rank = rank if rank is not None else dist.get_rank() if in_group else 0
        self.world_size = world_size if world_size is not None else dist.get_world_size() if in_group else 1
        if batch_size < 1 or batch_size % self.world_size or not 0 <= self.rank < self.world_size:
            raise UsageError(
                f"batch_size={batch_size} must divide among {count(self.world_size, 'rank')}, of which this is {self.rank}; change one of them"
            )
        self.batch_size = batch_size // self.world_size
        """Batch size of this rank, to pass to a DataLoader."""
        self.rows = np.asarray(self.shards.rows(split) if rows is None else rows, np.int64)
        self._positions = micro_batches_of_rank(batch_size, self.world_size, self.rank, self.world_size).reshape(-1)
        self._plan = TrainingPlan(self.rows, batch_size, seed, sampler) if shuffle else None
        self._generators = Generators(seed, batch_size, self._positions)
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()  # shared with persistent workers

    def set_epoch(self, epoch: int) -> None:
        """Select the epoch of the next pass, counted from 0; persistent workers follow."""
        self._epoch.fill_(epoch)

    def loader(self, num_workers: int = 0, **options: Any) -> DataLoader[Any]:
        """Return a DataLoader over the batches of this rank; `options` are passed on to DataLoader."""
        return DataLoader(self, batch_size=self.batch_size, num_workers=num_workers, **options)

    def __len__(self) -> int:
        """Number of samples in one pass of this rank."""
        if self._plan is not None:
            return self._plan.steps_per_epoch * self.batch_size
        return sum(len(batch) for batch in self._batches())

    def __iter__(self) -> Iterator[dict[str, Any]]:
        worker = get_worker_info()
        if worker is not None:
            self.shards.close()  # each worker opens its own files
            cv2.setNumThreads(0)
        number, workers = (worker.id, worker.num_workers) if worker else (0, 1)
        for step, batch in enumerate(self._batches()):
            if step % workers == number:
                for position, row in enumerate(batch):
                    yield self._sample(int(row), step, position)

    def _batches(self) -> list[np.ndarray]:
        """Rows of the batches of this rank in one pass."""
        if self._plan is None:
            batches = evaluation_batches(self.rows, self.batch_size, self.rank, self.world_size)
            return [batch[batch >= 0] for batch in batches]  # drop the padding
        steps = self._plan.steps_per_epoch
        first = int(self._epoch) * steps
        return [self._plan.batch(step)[self._positions] for step in range(first, first + steps)]

    def _sample(self, row: int, step: int, position: int) -> dict[str, Any]:
        if self.encoder is not None:
            generator = None
            if self._plan is not None:
                generator = self._generators.of(int(self._epoch) * self._plan.steps_per_epoch + step, position)
            return {"row": np.int64(row), **encode_row(self.shards, self.encoder, row, generator)}
        return encode_row(self.shards, self._as_stored, row, None)

    def _as_stored(self, sample: RawSample, generator: np.random.Generator | None) -> dict[str, Any]:
        del generator
        image = decode(sample.image) if self.decode else sample.image
        key = str(self.shards.columns["key"][sample.row])
        return {"row": sample.row, "key": key, "image": image, "annotation": sample.annotation}
