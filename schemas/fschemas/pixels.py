"""What any image looks like as RGB: a photograph that is predicted must look as it would in a shard set."""

from __future__ import annotations

import numpy as np
from PIL import Image


def as_rgb(image: Image.Image) -> np.ndarray:
    """uint8 (H, W, 3) of an opened image of any mode: 16-bit gray scaled, transparency on white."""
    if image.mode.startswith("I"):  # 16 bits of gray; Pillow's own conversion clips them
        grey = np.clip(np.rint(np.asarray(image, np.float64) / 257), 0, 255).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        return np.asarray(Image.alpha_composite(white, image).convert("RGB"))
    return np.asarray(image.convert("RGB"))
