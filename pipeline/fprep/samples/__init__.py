"""Sample data in the raw layouts of the datasets, drawn by us: the default of a first run, of the tests and of the benchmarks."""

MARKER = "DRAWN.txt"
"""File at the root of a drawn raw tree; `fprep convert` writes into the table that its images are drawn."""

MARKER_TEXT = "Garments drawn by `fprep sample`. Figures that a model reaches on them say little about photographs.\n"
