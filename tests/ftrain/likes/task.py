"""A task that embeds images without training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import simplejpeg
import torch

from ftrain.data.config import TaskConfig
from ftrain.data.stream import Batch, RawSample
from ftrain.tasks.task import Task


class SearchConfig(TaskConfig):
    """`says` selects the output of `predict`: an embedding, with colors too, without either, or zeros."""

    says: str = "embedding"


@dataclass(frozen=True)
class SmallImage:
    def __call__(self, sample: RawSample, generator: np.random.Generator | None) -> dict[str, np.ndarray]:
        return {"image": self.of(simplejpeg.decode_jpeg(sample.image, "RGB"))}

    def of(self, image: np.ndarray) -> np.ndarray:
        return cv2.resize(image, (4, 4), interpolation=cv2.INTER_AREA)


class Likes(Task):
    """The embedding is the image at 4 x 4 pixels, minus gray."""

    needs = ("category",)
    Config = SearchConfig
    selected_by = ("accuracy", "max")

    def __init__(self, config: SearchConfig, dataset: dict[str, Any]) -> None:
        super().__init__(config, dataset)
        self.says = config.says
        self.encoder = SmallImage()
        self.gain = torch.nn.Parameter(torch.ones(1))

    def forward(self, batch: Batch) -> dict[str, torch.Tensor]:
        return {"loss": self.gain.sum()}

    def predict(self, batch: Batch) -> Batch:
        flat = (batch["image"].float().flatten(1) - 128) * self.gain
        if self.says == "nothing":
            return {"scores": flat}
        found = {"embedding": flat * (self.says != "zeros")}
        return found | ({"color": batch["image"].float().mean(dim=(1, 2))} if self.says == "color" else {})

    def encode_image(self, image: np.ndarray, box: Any = None) -> dict[str, np.ndarray]:
        assert isinstance(self.encoder, SmallImage)
        return {"image": self.encoder.of(image)}
