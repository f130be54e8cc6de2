"""Files of synthetic trees: images, lists, and the words of a data set."""

import tomllib
from collections.abc import Iterable
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

JPEG_QUALITY = 88


@cache
def read_words(module_file: str) -> dict[str, dict[str, Any]]:
    """Read the TOML file next to a layout: the data set's names of kinds, prints, colors and parts of garments."""
    return tomllib.loads(Path(module_file).with_suffix(".toml").read_text(encoding="utf-8"))


def write_image(path: Path, image: NDArray[np.uint8], quality: int = JPEG_QUALITY) -> None:
    """Write an RGB image, uint8 (H, W, 3), as JPEG. Creates parent folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(jpeg_bytes(image, quality))


def jpeg_bytes(image: NDArray[np.uint8], quality: int = JPEG_QUALITY) -> bytes:
    """Encode an RGB image, uint8 (H, W, 3), as JPEG."""
    done, buffer = cv2.imencode(".jpg", np.ascontiguousarray(image[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert done, "a rendered image can be encoded"
    return buffer.tobytes()


def write_text(path: Path, lines: Iterable[str], *, newline: str = "\n", encoding: str = "utf-8") -> None:
    """Write lines to a file, creating parent folders. No lines means no file, because readers reject empty ones."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = iter(lines)
    first = next(lines, None)
    if first is None:
        return
    with path.open("w", encoding=encoding, newline="") as file:
        file.writelines(line + newline for line in chain([first], lines))
