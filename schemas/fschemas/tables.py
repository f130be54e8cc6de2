"""Table schemas, validated by dataframely. Only this module and `fprep` import polars.

A class corresponds to one kind of annotation, a column group; `table_class` combines the groups of a dataset. `filter`
of a class returns the accepted rows, and the rejected rows with the rules they broke. Label columns are never null: an
unknown name is "", an unknown number -1, and unknown attributes are in `attributes_unknown`.
"""

import functools
import types
from typing import cast

import dataframely as dy
import polars as pl

from fschemas.failures import UsageError
from fschemas.image_limits import FORMATS, MAX_SIDE, MIN_SIDE
from fschemas.landmarks import LandmarkSet, Visibility
from fschemas.splits import SPLITS


class SampleTable(dy.Schema):
    """Columns of every table: one row per image."""

    key = dy.String(primary_key=True, regex=r"^[A-Za-z0-9_-]{1,94}$")  # name of the sample in shards: ASCII, no dots
    image = dy.String(nullable=False, min_length=1)  # path relative to the raw root, "/" between folders
    # Pixels as displayed (EXIF orientation applied); null: image not read.
    width = dy.Int32(nullable=True, min=MIN_SIDE, max=MAX_SIDE)
    height = dy.Int32(nullable=True, min=MIN_SIDE, max=MAX_SIDE)
    split = dy.Enum(SPLITS, nullable=False)
    group = dy.String(nullable=False, min_length=1)  # must not be in several splits: item, shoot, or the image itself
    sha256 = dy.String(nullable=True, regex=r"^[0-9a-f]{64}$")  # of the image's bytes; null: image not read
    image_format = dy.Enum(FORMATS, nullable=True)  # by content, not by extension
    image_mode = dy.String(nullable=True)  # Pillow mode: RGB, L, CMYK, P …
    image_orientation = dy.Int8(nullable=True, min=1, max=8)  # EXIF; 1 is upright
    source_file = dy.String(nullable=False)  # annotation file, relative to the raw root
    source_line = dy.Int32(nullable=False, min=1)  # line in it, from 1

    @dy.rule()
    def image_path_leaves_root(cls) -> pl.Expr:
        """No absolute path, no `..`, no backslash."""
        return ~pl.col("image").str.contains(r"^/|^[A-Za-z]:|\\|(^|/)\.\.(/|$)")

    @dy.rule()
    def size_half_known(cls) -> pl.Expr:
        """Width and height are both known or both unknown."""
        return pl.col("width").is_null() == pl.col("height").is_null()


class LandmarkColumns(SampleTable):
    """Landmarks of one landmark set, in its fixed order, which is in the table's metadata."""

    garment = dy.String(nullable=False, min_length=1)  # a garment of the landmark set
    landmark_x = dy.List(dy.Float32(), nullable=False)  # pixels, 0 is the center of the left column; 0 if missing
    landmark_y = dy.List(dy.Float32(), nullable=False)  # pixels, 0 is the center of the top row; 0 if missing
    landmark_visibility = dy.List(dy.Int8(), nullable=False)  # fschemas.landmarks.Visibility

    @dy.rule()
    def landmark_lists_differ_in_length(cls) -> pl.Expr:
        """The three lists have one entry per landmark."""
        length = pl.col("landmark_x").list.len()
        return (pl.col("landmark_y").list.len() == length) & (pl.col("landmark_visibility").list.len() == length)

    @dy.rule()
    def bad_visibility(cls) -> pl.Expr:
        """Only the four codes of `Visibility`."""
        codes = pl.col("landmark_visibility").list
        return (codes.min() >= Visibility.NOT_APPLICABLE.value) & (codes.max() <= Visibility.VISIBLE.value)

    @dy.rule()
    def point_outside(cls) -> pl.Expr:
        """Coordinates are inside the image, with one pixel of tolerance: annotators click on the border."""
        return _inside("landmark_x", "width") & _inside("landmark_y", "height")


class BoxColumns(SampleTable):
    """Bounding box of the garment."""

    # x1, y1, x2, y2: centers of the corner pixels, inclusive
    box = dy.List(dy.Float32(), nullable=False, min_length=4, max_length=4)

    @dy.rule()
    def box_inverted(cls) -> pl.Expr:
        """x1 < x2, y1 < y2: not inverted, not empty."""
        corner = pl.col("box").list
        return (corner.get(2, null_on_oob=True) > corner.get(0, null_on_oob=True)) & (
            corner.get(3, null_on_oob=True) > corner.get(1, null_on_oob=True)
        )

    @dy.rule()
    def box_outside(cls) -> pl.Expr:
        """Inside the image, with one pixel of tolerance on each side."""
        corner = pl.col("box").list
        low = pl.min_horizontal(corner.get(0, null_on_oob=True), corner.get(1, null_on_oob=True)) >= -1
        right = pl.col("width").is_null() | (corner.get(2, null_on_oob=True) <= pl.col("width"))
        bottom = pl.col("height").is_null() | (corner.get(3, null_on_oob=True) <= pl.col("height"))
        return low & right & bottom


class AttributeColumns(SampleTable):
    """Attributes of the vocabulary "attributes"; those neither positive nor unknown are known to be absent."""

    attributes_positive = dy.List(dy.Int16(), nullable=False)  # ids of the vocabulary, ascending
    attributes_unknown = dy.List(dy.Int16(), nullable=False)  # ids that the source does not annotate, ascending

    @dy.rule()
    def attribute_both_positive_and_unknown(cls) -> pl.Expr:
        """An id is in at most one of the lists."""
        return pl.col("attributes_positive").list.set_intersection("attributes_unknown").list.len() == 0


class GarmentsColumns(SampleTable):
    """Several garments in one image: parallel lists, one entry per garment."""

    garments = dy.List(dy.String(), nullable=False)  # names in the vocabulary "part"
    garment_boxes = dy.List(dy.Float32(), nullable=False)  # x1, y1, x2, y2 of each garment, concatenated
    # x, y, x, y … of each garment; empty if it has none
    garment_polygons = dy.List(dy.List(dy.Float32()), nullable=False)

    @dy.rule()
    def garment_lists_differ_in_length(cls) -> pl.Expr:
        """Four box coordinates and one polygon per garment."""
        length = pl.col("garments").list.len()
        return (pl.col("garment_boxes").list.len() == 4 * length) & (pl.col("garment_polygons").list.len() == length)

    @dy.rule()
    def garment_box_outside(cls) -> pl.Expr:
        """Inside the image, with one pixel of tolerance on each side, as for `box`."""
        corners = pl.col("garment_boxes").list
        across, down = corners.gather_every(2, 0).list, corners.gather_every(2, 1).list
        right = pl.col("width").is_null() | (across.max() <= pl.col("width"))
        bottom = pl.col("height").is_null() | (down.max() <= pl.col("height"))
        return ((corners.min() >= -1) & right & bottom).fill_null(value=True)


def _inside(coordinates: str, size: str) -> pl.Expr:
    values = pl.col(coordinates).list
    return (values.min() >= -1) & (pl.col(size).is_null() | (values.max() <= pl.col(size)))


_VARIATIONS = ("normal", "medium-pose", "large-pose", "medium-zoom", "large-zoom", "unknown")
# Groups without rules; unless stated otherwise, an unknown value is "".
_PLAIN: dict[str, dict[str, dy.Column]] = {
    "category": {"category": dy.String(nullable=False)},  # name in the vocabulary "category"
    # Attributes marked as possible by annotators (FashionAI's "m"): soft targets, neither positive nor unknown.
    "maybe": {"attributes_maybe": dy.List(dy.Int16(), nullable=False)},  # ids of the vocabulary "attributes", ascending
    # Product shown in the image, unique in the table; images of the same item are positives in retrieval.
    "item": {"item": dy.String(nullable=False)},
    "domain": {"domain": dy.Enum(("shop", "consumer", "unknown"), nullable=False)},
    # Images that the source pairs with this one: paths as in `image`, ascending.
    "pairs": {"pairs": dy.List(dy.String(), nullable=False)},
    "shop": {
        "gender": dy.Enum(("women", "men", "unknown"), nullable=False),
        "pose": dy.String(nullable=False),  # view: front, side, back, full, flat, additional
        "color": dy.String(nullable=False),
        "description": dy.String(nullable=False),
    },
    # Style of the whole image: names in the vocabulary "style"; `substyle` is a second one.
    "style": {"style": dy.String(nullable=False), "substyle": dy.String(nullable=False)},
    "variation": {"variation": dy.Enum(_VARIATIONS, nullable=False)},  # difficulty: DeepFashion's variation type
    # Body joints of the wearer, in the order of the vocabulary "joint": pixel centers (0 if missing), and as landmarks.
    "joints": {
        "joint_x": dy.List(dy.Float32(), nullable=False),
        "joint_y": dy.List(dy.Float32(), nullable=False),
        "joint_visibility": dy.List(dy.Int8(), nullable=False),
    },
    # Outline of the garment: polygons, each x, y, x, y … in pixel centers.
    "polygons": {"polygons": dy.List(dy.List(dy.Float32()), nullable=False)},
    # Split in the Category and Attribute benchmark on the same images, so that its test set is never trained on.
    "coarse_split": {"coarse_split": dy.String(nullable=False)},
}


def _plain_class(group: str) -> type[SampleTable]:
    return cast(
        "type[SampleTable]", types.new_class(group, (SampleTable,), exec_body=lambda body: body.update(_PLAIN[group]))
    )


_RULED = {"attributes": AttributeColumns, "box": BoxColumns, "landmarks": LandmarkColumns, "garments": GarmentsColumns}
_ORDER = (  # of columns in shards
    "category", "attributes", "maybe", "box", "landmarks", "item", "domain", "pairs", "shop", "style", "variation", "joints",
    "garments", "polygons", "coarse_split",
)  # fmt: skip
GROUPS: dict[str, type[SampleTable]] = {group: _RULED.get(group) or _plain_class(group) for group in _ORDER}
# Columns of each kind of annotation; a task lists the groups that it needs.
COLUMN_GROUPS: dict[str, tuple[str, ...]] = {
    group: tuple(name for name in columns.column_names() if name not in SampleTable.column_names())
    for group, columns in GROUPS.items()
}


@functools.cache
def table_class(*groups: str) -> type[SampleTable]:
    """Table class with these column groups, in this order; its name joins their names with `+`."""
    if not groups:
        return SampleTable
    return cast("type[SampleTable]", types.new_class("+".join(groups), tuple(GROUPS[group] for group in groups)))


def table_named(name: str) -> type[SampleTable]:
    """Table class with the name in a table's metadata. Raises `UsageError` for an unknown group."""
    if name == SampleTable.__name__:
        return SampleTable
    groups = name.split("+")
    unknown = [group for group in groups if group not in GROUPS]
    if unknown:
        raise UsageError(f"unknown column group {unknown[0]!r}; choose from {', '.join(GROUPS)}")
    return table_class(*groups)


def landmark_rules(landmarks: LandmarkSet) -> dict[str, pl.Expr]:
    """Rules that depend on the landmark set, by name in reports; each expression is true for a valid row."""
    visibility = pl.col("landmark_visibility").list
    garments = list(landmarks.garments)
    expected = pl.Series([[index in valid for index in range(len(landmarks))] for valid in landmarks.garments.values()])
    number = pl.col("garment").cast(pl.String).replace_strict(garments, range(len(garments)), default=None)
    fits = visibility.eval(pl.element() != Visibility.NOT_APPLICABLE.value) == pl.lit(expected).gather(number)
    return {
        "unknown_garment": pl.col("garment").is_in(garments),
        "wrong_number_of_points": visibility.len() == len(landmarks),
        "not_applicable_point": fits | (visibility.len() != len(landmarks)),
    }
