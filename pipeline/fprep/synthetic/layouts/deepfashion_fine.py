"""Sample of DeepFashion's fine annotation alone: `Anno_fine` and its images, as in the tree of the category benchmark."""

from __future__ import annotations

from pathlib import Path

from fprep.synthetic.layouts.deepfashion_category import IMAGES, draw_coarse
from fprep.synthetic.layouts.deepfashion_fine_lists import FINE, write_fine
from fprep.synthetic.layouts.tree import Progress, Request, sample_folder
from fschemas.failures import UsageError

PUBLISHED_IMAGES = 40_000  # half of the images drawn get the fine annotation


def write_sample(
    out: Path, *, images: int, seed: int, workers: int, defects: bool = False, with_images: bool = True,
    progress: Progress | None = None,
) -> dict[str, int]:  # fmt: skip
    """Write `Anno_fine` for half of `images` images, the other half being unlisted; returns the rows of each split.

    Raises `UsageError` for an occupied folder, and for `defects`, which the sample of the category benchmark has.
    """
    if defects:
        raise UsageError("deepfashion-fine has no --defects of its own; use those of deepfashion-category")
    request = Request(images, seed, workers, defects, with_images, progress)
    with sample_folder(Path(out), request) as folder:
        return write_fine(folder, draw_coarse(folder, request), seed)


__all__ = ["FINE", "IMAGES", "PUBLISHED_IMAGES", "write_sample"]
