"""Batches of a single stream, with its own pool of workers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from fschemas.shard_set import ShardSet
from ftrain.data.plan import TrainingPlan
from ftrain.data.stream import Batch, BatchPool, Encoder, evaluation_stream, training_stream


def training_batches(
    shards: ShardSet,
    encoder: Encoder,
    plan: TrainingPlan,
    *,
    positions: np.ndarray,
    start: int,
    stop: int,
    workers: int,
) -> Iterator[Batch]:
    with BatchPool([training_stream(shards, encoder, plan, positions)], workers) as pool:
        yield from pool.batches(0, range(start, stop))


def evaluated_batches(
    shards: ShardSet, encoder: Encoder, rows: np.ndarray, *, workers: int, **options: Any
) -> Iterator[Batch]:
    stream, steps = evaluation_stream(shards, encoder, rows, **options)
    with BatchPool([stream], workers) as pool:
        yield from pool.batches(0, steps)
