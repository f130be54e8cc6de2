"""Visualization of attention: bright where it is high, dark where it is low."""

import numpy as np

from ftrain.data.types import EvaluatedSplit
from ftrain.reports.label_report import image_of
from ftrain.tasks.style.answer import glow

ATTENTION_NOTE = "bright: high attention, dark: low attention"


def attended_image(evaluated: EvaluatedSplit, number: int, attribute: int) -> np.ndarray:
    """Return image `number` of the results with the attention of an attribute, uint8 H, W, 3."""
    results, (image, _) = evaluated.results, image_of(evaluated, number)
    height, width = image.shape[:2]
    factor = np.array([width, height, width, height]) / np.tile(results["size"][number], 2)
    grid = results["attention"][number, attribute].astype(np.float32)
    stretched = (grid - grid.min()) / max(float(grid.max() - grid.min()), 1e-9)
    return glow(image, stretched, results["region"][number] * factor)
