"""The smallest task with every source of error: convolutions, batch normalization, dropout, a buffer, two losses."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import simplejpeg
import torch
import torch.nn.functional as F
from torch import nn

from fschemas.landmarks import DEEPFASHION_8
from ftrain.data.config import TaskConfig
from ftrain.data.stream import Batch, RawSample
from ftrain.tasks.task import Task

GARMENTS = tuple(DEEPFASHION_8.garments)


class TinyConfig(TaskConfig):
    """`poison` is a row with a NaN loss, or only such a `poisoned_term`; `delay` slows down the encoder, in seconds."""

    channels: int = 6
    dropout: float = 0.2
    poison: int = -1
    poisoned_term: bool = False
    delay: float = 0.0


@dataclass(frozen=True)
class TinyEncoder:
    size: int = 16
    delay: float = 0.0

    def __call__(self, sample: RawSample, generator: np.random.Generator | None) -> dict[str, np.ndarray]:
        if self.delay:
            time.sleep(self.delay)
        image = cv2.resize(simplejpeg.decode_jpeg(sample.image, "RGB"), (self.size, self.size))
        noise = np.zeros(3, np.float32)
        if generator is not None:
            image = image[:, ::-1] if generator.random() < 0.5 else image
            noise = generator.normal(size=3).astype(np.float32)
        garment = GARMENTS.index(sample.annotation["garment"])
        return {
            "image": np.ascontiguousarray(image), "noise": noise, "garment": np.int64(garment),
            "hint": np.eye(len(GARMENTS), dtype=np.float32)[garment],
            "is_wide": np.bool_(sample.annotation["width"] > sample.annotation["height"]),
        }  # fmt: skip


class Tiny(Task):
    needs = ("landmarks",)
    Config = TinyConfig
    selected_by = ("accuracy", "max")

    def __init__(self, config: TinyConfig, dataset: dict[str, Any]) -> None:
        super().__init__(config, dataset)
        self.config: TinyConfig = config
        self.encoder = TinyEncoder(delay=config.delay)
        width = config.channels
        self.backbone = nn.Sequential(nn.Conv2d(3, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
        self.neck = nn.Sequential(
            nn.Dropout2d(config.dropout),
            nn.Conv2d(width, width, 3, stride=2, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
        )
        self.head = nn.Linear(width + len(GARMENTS), len(GARMENTS))
        self.wide = nn.Linear(width, 1)
        self.register_buffer("mean", torch.full((3,), 0.1), persistent=False)
        self.mean: torch.Tensor

    def features(self, batch: Batch) -> torch.Tensor:
        image = batch["image"].permute(0, 3, 1, 2).float() / 255 - self.mean.view(1, 3, 1, 1)
        return self.neck(self.backbone(image + 0.1 * batch["noise"].view(-1, 3, 1, 1))).mean(dim=(2, 3))

    def forward(self, batch: Batch) -> dict[str, torch.Tensor]:
        features = self.features(batch)
        garment = F.cross_entropy(self.head(torch.cat([features, batch["hint"]], dim=1)), batch["garment"])
        wide = F.binary_cross_entropy_with_logits(self.wide(features)[:, 0], batch["is_wide"].float())
        poison = torch.where((batch["row"] == self.config.poison).any(), torch.nan, 1.0)
        loss = garment + wide if self.config.poisoned_term else garment * poison + wide
        return {"loss": loss, "garment": garment * poison, "wide": wide}

    def predict(self, batch: Batch) -> Batch:
        scores = self.head(torch.cat([self.features(batch), batch["hint"]], dim=1))
        return {"scores": scores, "garment": batch["garment"], "is_wide": batch["is_wide"], "image": batch["image"]}
