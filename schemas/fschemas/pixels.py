"""Conversion of images to RGB, the same in prediction and in shard sets."""

import numpy as np
from PIL import Image


def as_rgb(image: Image.Image) -> np.ndarray:
    """Convert an open image of any mode to uint8 (H, W, 3): 16-bit gray is scaled, transparency is white."""
    if image.mode.startswith("I"):  # 16-bit gray, which Pillow's own conversion clips
        gray = np.clip(np.rint(np.asarray(image, np.float64) / 257), 0, 255).astype(np.uint8)
        return np.repeat(gray[:, :, None], 3, axis=2)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        return np.asarray(Image.alpha_composite(white, image).convert("RGB"))
    return np.asarray(image.convert("RGB"))
