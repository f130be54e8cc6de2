"""Table classes: what a row must hold, checked by dataframely. The only modules that import polars are this one and `fprep`.

A class stands for one kind of annotation; a dataset picks the class that carries its column groups. `filter` of a class gives
the accepted rows and the rejected ones with the rule that each broke.
"""

from __future__ import annotations

import dataframely as dy
import polars as pl

from fschemas.landmarks import LandmarkSet, Visibility

SPLITS = ("train", "val", "test", "query", "gallery", "unlabelled")
IMAGE_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")

# Which columns make up an annotation; a task names the groups that it needs.
COLUMN_GROUPS: dict[str, tuple[str, ...]] = {
    "landmarks": ("garment", "landmark_x", "landmark_y", "landmark_visibility"),
    "box": ("box",),
    "attributes": ("attributes_positive", "attributes_negative"),
}


class SampleTable(dy.Schema):
    """Columns of every table: one row a picture."""

    key = dy.String(primary_key=True, regex=r"^[A-Za-z0-9_-]{1,94}$")  # sample name in shards: ASCII, no dots
    image = dy.String(nullable=False, min_length=1)  # path relative to the raw root, "/" between folders
    width = dy.Int32(nullable=True, min=8, max=16384)  # pixels as displayed (EXIF orientation applied); null: not looked at
    height = dy.Int32(nullable=True, min=8, max=16384)  # pixels as displayed
    split = dy.Enum(SPLITS, nullable=False)
    group = dy.String(nullable=False, min_length=1)  # what must not straddle splits: item, shoot, or the picture itself
    sha256 = dy.String(nullable=True, regex=r"^[0-9a-f]{64}$")  # of the picture's bytes; null: not looked at
    image_format = dy.Enum(IMAGE_FORMATS, nullable=True)  # by content, not by extension
    image_mode = dy.String(nullable=True)  # Pillow's name: RGB, L, CMYK, P …
    image_orientation = dy.Int8(nullable=True, min=1, max=8)  # EXIF; 1 is upright
    source_file = dy.String(nullable=False)  # annotation file, relative to the raw root
    source_line = dy.Int32(nullable=False, min=1)  # 1-based line in it

    @dy.rule()
    def image_path_leaves_root(cls) -> pl.Expr:
        """No absolute path, no `..`, no backslash."""
        return ~pl.col("image").str.contains(r"^/|^[A-Za-z]:|\\|(^|/)\.\.(/|$)")

    @dy.rule()
    def size_half_known(cls) -> pl.Expr:
        """Width and height are both known or both unknown."""
        return pl.col("width").is_null() == pl.col("height").is_null()


class LandmarkTable(SampleTable):
    """Rows with landmarks of one landmark set, the fixed order of which is in the table's metadata."""

    garment = dy.String(nullable=False, min_length=1)  # a garment of the landmark set
    landmark_x = dy.List(dy.Float32(), nullable=False)  # pixels, centre of the left column is 0; 0 where absent
    landmark_y = dy.List(dy.Float32(), nullable=False)  # pixels, centre of the top row is 0; 0 where absent
    landmark_visibility = dy.List(dy.Int8(), nullable=False)  # fschemas.landmarks.Visibility

    @dy.rule()
    def landmark_lists_differ_in_length(cls) -> pl.Expr:
        """The three lists have one entry per point."""
        length = pl.col("landmark_x").list.len()
        return (pl.col("landmark_y").list.len() == length) & (pl.col("landmark_visibility").list.len() == length)

    @dy.rule()
    def bad_visibility(cls) -> pl.Expr:
        """Only the four codes of `Visibility`."""
        codes = pl.col("landmark_visibility").list
        return (codes.min() >= Visibility.NOT_APPLICABLE.value) & (codes.max() <= Visibility.VISIBLE.value)

    @dy.rule()
    def point_outside(cls) -> pl.Expr:
        """Coordinates lie in the picture. One pixel more is allowed: annotators click on the border, and 0 … width occurs."""
        return _inside("landmark_x", "width") & _inside("landmark_y", "height")


class FineTable(LandmarkTable):
    """DeepFashion fine annotation: landmarks, box and one attribute of each group."""

    # x1, y1, x2, y2: centres of the corner pixels, inclusive
    box = dy.List(dy.Float32(), nullable=False, min_length=4, max_length=4)
    attributes_positive = dy.List(dy.Int16(), nullable=False)  # ids of the vocabulary, ascending
    attributes_negative = dy.List(dy.Int16(), nullable=False)  # ids known to be absent; the rest is unknown

    @dy.rule()
    def box_inverted(cls) -> pl.Expr:
        """Right of left, below top, not empty."""
        corner = pl.col("box").list
        return (corner.get(2, null_on_oob=True) > corner.get(0, null_on_oob=True)) & (
            corner.get(3, null_on_oob=True) > corner.get(1, null_on_oob=True)
        )

    @dy.rule()
    def box_outside(cls) -> pl.Expr:
        """Inside the picture, one pixel of tolerance on each side."""
        corner = pl.col("box").list
        low = pl.min_horizontal(corner.get(0, null_on_oob=True), corner.get(1, null_on_oob=True)) >= -1
        right = pl.col("width").is_null() | (corner.get(2, null_on_oob=True) <= pl.col("width"))
        bottom = pl.col("height").is_null() | (corner.get(3, null_on_oob=True) <= pl.col("height"))
        return low & right & bottom


def _inside(coordinates: str, size: str) -> pl.Expr:
    values = pl.col(coordinates).list
    return (values.min() >= -1) & (pl.col(size).is_null() | (values.max() <= pl.col(size)))


def landmark_rules(landmarks: LandmarkSet) -> dict[str, pl.Expr]:
    """Rules that need the landmark set: each expression is true for a good row. Keys are the rule names in reports."""
    visibility = pl.col("landmark_visibility").list
    not_applicable: list[pl.Expr] = []
    for garment, valid in landmarks.garments.items():
        strangers = [index for index in range(len(landmarks)) if index not in valid]
        fits = [visibility.get(index, null_on_oob=True) == Visibility.NOT_APPLICABLE.value for index in strangers]
        fits += [visibility.get(index, null_on_oob=True) != Visibility.NOT_APPLICABLE.value for index in valid]
        not_applicable.append((pl.col("garment") != garment) | pl.all_horizontal(fits))
    return {
        "unknown_garment": pl.col("garment").is_in(list(landmarks.garments)),
        "wrong_number_of_points": visibility.len() == len(landmarks),
        "not_applicable_point": pl.all_horizontal(not_applicable),
    }


TABLES: dict[str, type[SampleTable]] = {table.__name__: table for table in (SampleTable, LandmarkTable, FineTable)}
