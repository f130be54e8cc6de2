"""Encoder of the style task: samples to network inputs and labels."""

from dataclasses import dataclass

import numpy as np

from ftrain.data.config import ViewConfig
from ftrain.data.search_roles import role_of
from ftrain.data.stream import RawSample
from ftrain.data.view import view_of_sample
from ftrain.tasks.style.config import StyleConfig
from ftrain.tasks.style.labels import StyleLabels


@dataclass(frozen=True)
class StyleEncoder:
    """Turn a sample into network input."""

    config: StyleConfig
    labels: StyleLabels
    categories: dict[str, int]  # class of each category, -1 for ""; empty if categories are not learned

    def __call__(self, sample: RawSample, generator: np.random.Generator | None) -> dict[str, np.ndarray]:
        """Return `image` uint8 S, S, 3, `matrix` 2, 3 (source to input), `size` 2 of the source, and labels.

        S is `input_size`, with a local branch `local_zoom` times that. Labels: `values` A (one per attribute, -1
        unknown), `local_attribute` (the attribute that trains the local branch), `role` in the search; for attributes
        `positive` V uint8 (all values of the image), and `category` if it is learned.
        """
        note, view = sample.annotation, view_of_sample(prepared_view(self.config), sample, generator)
        values = self.labels.values_of(note, generator)
        known = np.flatnonzero(values >= 0)
        chosen = 0 if not len(known) else known[0] if generator is None else generator.choice(known)
        arrays = {
            "image": view.image, "matrix": view.matrix, "size": np.array([note["width"], note["height"]], np.float32),
            "values": values, "local_attribute": np.array(chosen, np.int64), "role": np.array(role_of(note), np.int8),
        }  # fmt: skip
        if self.categories:
            arrays["category"] = np.array(self.categories[note["category"]], np.int64)
        return arrays if self.labels.classes is not None else {**arrays, "positive": self.labels.positive(note)}


def prepared_view(config: StyleConfig) -> ViewConfig:
    """Return the view that workers prepare: enlarged if the local branch crops from it."""
    if not config.local_backbone:
        return config
    return config.model_copy(update={"input_size": config.input_size * config.local_zoom})
