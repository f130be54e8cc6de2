"""What the retrieval task is given: its configuration, and samples as its network sees them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ftrain.data.search_roles import role_of
from ftrain.data.stream import RawSample
from ftrain.data.view import item_number, view_of_sample
from ftrain.tasks.retrieval.config import RetrievalConfig


@dataclass(frozen=True)
class RetrievalEncoder:
    """Sample to network input and its labels as numbers."""

    config: RetrievalConfig
    categories: dict[str, int]  # "" and, in a set without categories, every name: -1
    items: dict[str, int]  # of training, where the losses need classes of them

    def __call__(self, sample: RawSample, generator: np.random.Generator | None) -> dict[str, np.ndarray]:
        """`image` S, S, 3 uint8 and the `labels`."""
        return {"image": view_of_sample(self.config, sample, generator).image, **self.labels(sample.annotation)}

    def labels(self, note: dict[str, Any]) -> dict[str, np.ndarray]:
        """Numbers of `identity`, `category` and `item_class` (-1 unknown) of an annotation, and its `role` in a search."""
        item, category = str(note.get("item", "")), self.categories.get(note.get("category", ""), -1)
        numbers = {
            "identity": item_number(item) if self.config.labels == "item" else category,
            "category": category,
            "item_class": self.items.get(item, -1),
            "role": role_of(note),
        }
        return {name: np.array(value, dtype=np.int64) for name, value in numbers.items()}
