"""Data types shared by tasks, metrics and reports."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from fschemas.shard_set import ShardSet

Results = dict[str, np.ndarray]


@dataclass(frozen=True)
class Rows:
    """Rows of a shard set, for checks before the first training step."""

    shards: ShardSet
    rows: np.ndarray

    def names(self, column: str) -> np.ndarray:
        """Known values of a label column of the index, without ""; empty if the set does not have the column."""
        values = self.shards.columns.get(column)
        return np.empty(0, dtype=str) if values is None else values[self.rows][values[self.rows] != ""]

    def numbers(self, column: str) -> np.ndarray:
        """Values of a label column as numbers, int64 N: equal for equal names, -1 for "" (unknown)."""
        values = self.shards.columns[column][self.rows]
        return np.where(values == "", -1, np.unique(values, return_inverse=True)[1])

    def annotations(self) -> Iterator[dict[str, Any]]:
        """Yield the annotations one by one, without reading the images."""
        for row in self.rows:
            yield self.shards.read_annotation(int(row))


@dataclass(frozen=True)
class EvaluatedSplit:
    """Predictions for one split and their source: the input of a report."""

    results: Results  # predictions in the format of the task's `compute_metrics`, sorted by `row`
    shards: ShardSet
    split: str
    training_rows: np.ndarray  # training rows without augmented copies; empty if the set has none
    # predictions of `Task.untrained` for the same rows; None if the task has no such baseline
    untrained: Results | None = None
