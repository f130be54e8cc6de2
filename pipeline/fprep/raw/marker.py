"""Marker file of synthetic raw trees: the generators write it, convert and doctor look for it."""

MARKER = "SYNTHETIC.txt"
"""File at the root of a synthetic raw tree; `fprep convert` records in the table that its images are synthetic."""

MARKER_TEXT = "Synthetic garments, rendered by `fprep sample`. Metrics measured on them say little about photographs.\n"
