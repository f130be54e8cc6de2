"""Sample of the FashionAI key points challenge: its archives, names, CSV dialect and quirks, with images of our own.

Layout and encoding follow the round-1 archives (Tianchi 2018): `train.csv` inside `Annotations/` with 26 columns, `test.csv`
with two, the answers of test a beside the archives, images under `Images/<category>/<md5 of the bytes>.jpg`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from fprep.raw.marker import MARKER, MARKER_TEXT
from fprep.synthetic.garments.design import CATEGORIES
from fprep.synthetic.layouts.fashionai_defects import plant_defects
from fprep.synthetic.layouts.fashionai_rows import (
    TEST_A,
    TRAIN,
    TRAIN_CSV,
    by_category,
    draw_rows,
    header,
    is_test,
    write_lines,
)
from fschemas.failures import UsageError
from fschemas.folders import claim_output
from fschemas.publish import new_folder, publish
from fschemas.wording import are, count

TEST_CSV = f"{TEST_A}/test.csv"
ANSWER_CSV = "fashionAI_key_points_test_a_answer_20180426.csv"
PUBLISHED_IMAGES = 31_631
MIN_IMAGES_FOR_DEFECTS = 48


def write_sample(
    out: Path,
    *,
    images: int,
    seed: int,
    workers: int,
    defects: bool = False,
    with_images: bool = True,
    progress: Callable[[int], None] | None = None,
) -> dict[str, int]:
    """Write a sample of `images` images, four fifths of them for training, and return how many rows each file holds.

    Image i depends on (seed, i) only, so that every number of workers writes the same bytes. `defects` plants the quirks of
    real archives and lists them in `defects.json`. `progress` is called with 1 for each image written. The folder
    appears under its name when it is complete. Raises `UsageError` for an occupied folder, too few images, and for no
    `with_images` at all: their names are digests of their bytes.
    """
    out = Path(out)
    if not with_images:
        raise UsageError("fashionai-keypoints names images after their bytes and cannot be written with --no-images")
    least = MIN_IMAGES_FOR_DEFECTS if defects else 1
    if images < least:
        raise UsageError(
            f"{count(images, 'image')} {are(images)} too few{' for --defects' if defects else ''}; ask for {least} or more"
        )
    if workers < 1:
        raise UsageError(f"{workers} workers cannot draw anything; ask for 1 or more")
    out = claim_output(out, "sample")
    if out.exists() and any(out.iterdir()):
        raise UsageError(f"{out}: exists already; remove it or choose another folder")
    with new_folder(out), publish(out) as folder:
        for archive in (TRAIN, TEST_A):
            for category in CATEGORIES:
                (folder / archive / "Images" / category).mkdir(parents=True)
        (folder / TRAIN_CSV).parent.mkdir()
        rows = draw_rows(folder, range(images), seed, workers, progress)
        train = by_category([row for index, row in enumerate(rows) if not is_test(index)])
        test = by_category([row for index, row in enumerate(rows) if is_test(index)])
        counts = {"train": len(train), "test": len(test)}
        (folder / MARKER).write_text(MARKER_TEXT)
        write_lines(folder / TEST_CSV, ["image_id,image_category", *(f"{row.image_id},{row.category}" for row in test)])
        write_lines(folder / ANSWER_CSV, [header(), *(row.text() for row in test)])
        if defects:
            counts |= plant_defects(folder, train, test, images=images, seed=seed)
        else:
            write_lines(folder / TRAIN_CSV, [header(), *(row.text() for row in train)])
    return counts
