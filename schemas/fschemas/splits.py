"""The splits of a table, and which of them are queries and which the gallery."""

from __future__ import annotations

SPLITS = ("train", "val", "test", "query", "gallery", "val_query", "val_gallery", "unlabelled")

# What a data set for retrieval has instead of one split: its queries, and the gallery that they are searched in.
QUERY_AND_GALLERY = {"test": ("query", "gallery"), "val": ("val_query", "val_gallery")}
QUERY_SPLITS, GALLERY_SPLITS = zip(*QUERY_AND_GALLERY.values(), strict=True)

# The side that a split is on: train, val, test or unlabelled. Items may occur on one side only, but in both roles there.
SIDES = {split: split for split in SPLITS} | {split: side for side, pair in QUERY_AND_GALLERY.items() for split in pair}
HELD_OUT = ("val", "test")  # sides that nobody trains on
