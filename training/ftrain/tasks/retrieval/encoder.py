"""Encoder of the retrieval task: samples to network inputs and labels."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from ftrain.data.search_roles import role_of
from ftrain.data.stream import RawSample
from ftrain.data.view import item_number, view_of_sample
from ftrain.tasks.retrieval.config import RetrievalConfig


@dataclass(frozen=True)
class RetrievalEncoder:
    """Turn a sample into network input and numeric labels."""

    config: RetrievalConfig
    categories: dict[str, int]  # -1 for "" and, in a set without categories, for every name
    items: dict[str, int]  # training items, if the losses need them as classes

    def __call__(self, sample: RawSample, generator: np.random.Generator | None) -> dict[str, np.ndarray]:
        """Return `image` uint8 S, S, 3 and the `labels`."""
        return {"image": view_of_sample(self.config, sample, generator).image, **self.labels(sample.annotation)}

    def labels(self, note: dict[str, Any]) -> dict[str, np.ndarray]:
        """Return int64 scalars `identity`, `category`, `item_class` (-1 unknown) and the `role` in the search."""
        item, category = str(note.get("item", "")), self.categories.get(note.get("category", ""), -1)
        numbers = {
            "identity": item_number(item) if self.config.identity == "item" else category,
            "category": category,
            "item_class": self.items.get(item, -1),
            "role": role_of(note),
        }
        return {name: np.array(value, dtype=np.int64) for name, value in numbers.items()}
