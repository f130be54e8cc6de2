"""Sample of DeepFashion's fine annotation alone: `Anno_fine` and its images, in the tree of the category benchmark.

Half of the rendered images have the fine annotation; the others are not listed.
"""

from fprep.synthetic.layouts.deepfashion_category import render_coarse, write_fine
from fprep.synthetic.skeleton import Layout

LAYOUT = Layout(
    published=40_000,
    write=lambda folder, request: write_fine(folder, render_coarse(folder, request), request.seed),
    defects_elsewhere="deepfashion-category",
)
