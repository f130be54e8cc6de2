"""What tasks, metrics and reports hand to each other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from fschemas.shard_set import ShardSet

Results = dict[str, np.ndarray]


@dataclass(frozen=True)
class Rows:
    """Some rows of a shard set, as checks before the first step look at them."""

    shards: ShardSet
    rows: np.ndarray

    def names(self, column: str) -> np.ndarray:
        """The values of a column of labels of the index, without "" for unknown; none where the set does not have it."""
        values = self.shards.columns.get(column)
        return np.empty(0, dtype=str) if values is None else values[self.rows][values[self.rows] != ""]

    def annotations(self) -> Iterator[dict[str, Any]]:
        """The annotations one by one, without the images; whoever finds what it looks for stops."""
        for row in self.rows:
            yield self.shards.read_annotation(int(row))


@dataclass(frozen=True)
class EvaluatedSplit:
    """Predictions of one split and where they come from: what a report is made of."""

    results: Results  # as `Task.measure` takes them, sorted by `row`
    shards: ShardSet
    split: str
    training_rows: np.ndarray  # plain (not augmented) rows that the run trained on; empty where the set has none
    untrained: Results | None = (
        None  # what `Task.untrained` predicted for the same rows; None where the task has no such baseline
    )
