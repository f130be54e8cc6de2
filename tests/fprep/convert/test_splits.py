"""Rows of the same image are found, whether a row is an image or one garment of it."""

import polars as pl
import pytest

from fprep.convert.splits import IDENTITY, duplicate_rows

MD5 = "0123456789abcdef0123456789abcdef"
ROWS = [  # image, digest, split
    ("a/1.jpg", "d1", "train"),
    ("a/1.jpg", "d1", "train"),  # another garment, or the same image again
    ("b/2.jpg", "d1", "test"),  # a copy
    ("c/3.jpg", None, "train"),
]


def frame(rows: list[tuple[str, str | None, str]]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema={"image": pl.String, "sha256": pl.String, "split": pl.String}, orient="row")


@pytest.mark.parametrize(
    ("instances", "rows", "expected"),
    [
        (False, ROWS, [(0, 2, "leaked_image"), (1, 2, "leaked_image")]),
        (True, ROWS, [(0, 2, "leaked_image"), (1, 2, "leaked_image")]),
        (False, ROWS[:2], [(1, 0, "duplicate_image")]),
        (True, ROWS[:2], []),
        (True, [ROWS[2], *ROWS[:2]], [(1, 0, "leaked_image"), (2, 0, "leaked_image")]),
        (True, [ROWS[0], ROWS[1], ("b/2.jpg", "d1", "train"), ("b/2.jpg", "d1", "train")],
         [(2, 0, "duplicate_image"), (3, 0, "duplicate_image")]),
    ],
)  # fmt: skip
def test_duplicate_rows(instances, rows, expected):
    assert duplicate_rows(frame(rows), instances=instances) == expected


@pytest.mark.parametrize(
    ("image", "digest", "identity"),
    [
        ("x/1.jpg", "d", "d"), (f"x/{MD5}.jpg", None, MD5), (f"x/{MD5}", None, MD5), (f"{MD5}.tar.gz", None, f"{MD5}.tar.gz"),
        (f"{MD5}/1.jpg", None, f"{MD5}/1.jpg"), (f"x/{MD5[1:]}.jpg", None, f"x/{MD5[1:]}.jpg"), (".jpg", None, ".jpg"),
    ],
)  # fmt: skip
def test_identity(image, digest, identity):
    assert frame([(image, digest, "train")]).select(IDENTITY).item() == identity
