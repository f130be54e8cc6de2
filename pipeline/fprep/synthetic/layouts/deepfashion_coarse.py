"""What the lists of the coarse benchmark say, for the writers of lists, of the fine annotation and of defects."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fprep.synthetic.garments.items import Item, draw_item
from fprep.synthetic.layouts.deepfashion_words import KIND_WEIGHTS


@dataclass(frozen=True)
class Product:
    """A folder of images of one item; `first` is the row of the first of `count` images in every list."""

    number: int
    name: str
    kind: str
    first: int
    count: int

    @property
    def paths(self) -> list[str]:
        """The images as the lists name them."""
        return [f"img/{self.name}/img_{number:08d}.jpg" for number in range(1, self.count + 1)]


@dataclass(frozen=True)
class Coarse:
    """Everything that the lists say: products in order, marks (N, 31) of all images, their splits and paths."""

    products: list[Product]
    marks: NDArray[np.int32]
    splits: list[str]
    paths: list[str]


def item_of(seed: int, number: int) -> Item:
    """Item `number` of a sample of this benchmark."""
    return draw_item(seed, number, KIND_WEIGHTS)
