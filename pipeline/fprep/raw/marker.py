"""How a raw folder says that its images are synthetic: the writers put a file there, convert and doctor look for it."""

MARKER = "DRAWN.txt"
"""File at the root of a drawn raw tree; `fprep convert` writes into the table that its images are drawn."""

MARKER_TEXT = "Garments drawn by `fprep sample`. Figures that a model reaches on them say little about photographs.\n"
