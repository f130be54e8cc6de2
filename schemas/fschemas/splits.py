"""Splits of a table, and their roles as queries and galleries."""

SPLITS = ("train", "val", "test", "query", "gallery", "val_query", "val_gallery", "unlabeled")

# Retrieval data sets have two splits instead of one: the queries, and the gallery that is searched.
QUERY_AND_GALLERY = {"test": ("query", "gallery"), "val": ("val_query", "val_gallery")}
QUERY_SPLITS, GALLERY_SPLITS = zip(*QUERY_AND_GALLERY.values(), strict=True)

# Side of a split: train, val, test or unlabeled. An item may occur on one side only, but in both roles there.
SIDES = {split: split for split in SPLITS} | {split: side for side, pair in QUERY_AND_GALLERY.items() for split in pair}
HELD_OUT = ("val", "test")  # sides that are never trained on
