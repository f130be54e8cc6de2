"""Contact sheet of a keypoint evaluation: predicted and true landmarks on about 20 images."""

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fschemas.landmarks import LandmarkSet, Visibility
from fschemas.palette import SIDE_COLORS
from ftrain.data.image import decode_exactly
from ftrain.data.types import EvaluatedSplit
from ftrain.metrics.normalized_error import UNITS, PointErrors, own_unit
from ftrain.plots.figures import STYLE, to_png
from ftrain.plots.legend import Entry, Head, side_entries
from ftrain.plots.overlay import side_color
from ftrain.plots.sheet import mistaken

_ERROR = "#e0245e"
_RIM = "#22262a"
_SHEET_IMAGES, _MIN_COLUMNS = 20, 4


def contact_sheet(landmarks: LandmarkSet, evaluated: EvaluatedSplit, errors: PointErrors, subtitle: str) -> bytes:
    """Return a PNG of about 20 images with predicted and true points, from the best to the worst of each garment."""
    chosen = _chosen(landmarks, errors)
    num_columns = max(_MIN_COLUMNS, *(len(tiles) for tiles in chosen)) if len(chosen) > 2 else 5
    rows = [tiles[start : start + num_columns] for tiles in chosen for start in range(0, len(tiles), num_columns)]
    width, height = 2.35 * num_columns, 2.62 * len(rows)
    legend = [
        *side_entries(landmarks),
        Entry("ring", _ERROR, "true landmark, with a line to the predicted one"),
        Entry("text", "", "white lines: outline through the predicted landmarks"),
        Entry(
            "text",
            "",
            f"NE: mean error, in % of {UNITS[own_unit(landmarks)]}; from the best to the worst of each garment",
        ),
    ]
    top = Head("Predicted and true landmarks", subtitle, legend, width, 0.12)
    head = top.height
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(width, height + head))
        top.draw(figure)
        grid = figure.add_gridspec(
            len(rows), num_columns, left=0.04 / width, right=1 - 0.04 / width, bottom=0.04 / (height + head),
            top=height / (height + head) - 0.22 / (height + head), wspace=0.03, hspace=0.12,
        )  # fmt: skip
        for row, tiles in enumerate(rows):
            for column, number in enumerate(tiles):
                _tile(figure.add_subplot(grid[row, column]), landmarks, evaluated, errors, number)
        return to_png(figure, dpi=130)


def _chosen(landmarks: LandmarkSet, errors: PointErrors) -> list[list[int]]:
    """Return image indices per garment, evenly spaced from the best to the worst."""
    counts = errors.counted.sum(axis=1)
    means = errors.distances.sum(axis=1) / np.maximum(counts, 1)
    present = [index for index in range(len(landmarks.garments)) if (counts[errors.garments == index] > 0).any()]
    share = -(-_SHEET_IMAGES // max(1, len(present)))
    chosen: list[list[int]] = []
    for index in present:
        members = np.flatnonzero((errors.garments == index) & (counts > 0))
        members = members[np.argsort(means[members], kind="stable")]
        steps = np.unique(np.linspace(0, len(members) - 1, min(share, len(members))).round().astype(int))
        chosen.append(members[steps].tolist())
    return chosen


def _tile(axes: Axes, landmarks: LandmarkSet, evaluated: EvaluatedSplit, errors: PointErrors, number: int) -> None:
    results = evaluated.results
    image, annotation = evaluated.shards.read(int(results["row"][number]))
    pixels = decode_exactly(image)
    garment = str(annotation["garment"])
    target, predicted = results["target"][number], results["points"][number]
    seen = results["visibility"][number] >= Visibility.OCCLUDED
    axes.imshow(pixels, interpolation="lanczos")
    axes.set_xlim(-0.5, pixels.shape[1] - 0.5)
    axes.set_ylim(pixels.shape[0] - 0.5, -0.5)
    # skip landmarks without ground truth
    valid = [point for point in landmarks.valid_landmarks(garment) if seen[point]]
    edges = np.array([edge for edge in landmarks.skeleton if edge[0] in valid and edge[1] in valid], int).reshape(-1, 2)
    for color, width in (("white", 1.9), ("#3d454d", 0.8)):
        axes.plot(*_broken_line(predicted[edges]), color=color, lw=width, solid_capstyle="round")
    axes.plot(*_broken_line(np.stack([target[valid], predicted[valid]], axis=1)), color=_ERROR, lw=1.3)
    for color, width in (("white", 2.4), (_ERROR, 1.1)):
        axes.plot(*target[valid].T, "o", mfc="none", mec=color, ms=7.0, mew=width)
    for color in SIDE_COLORS.values():
        same = [point for point in valid if side_color(landmarks, point) == color]
        axes.plot(*predicted[same].T, "o", mfc=color, mec=_RIM, ms=4.8, mew=0.8)
    count = errors.counted[number].sum()
    error = 100 * errors.distances[number].sum() / count
    garment_predicted = list(landmarks.garments)[int(results["garment_scores"][number].argmax())]
    axes.set_title(f"{mistaken(garment_predicted, garment)}  NE {error:.1f}%", size=8, pad=3, loc="left")
    axes.axis("off")


def _broken_line(segments: np.ndarray) -> np.ndarray:
    """Join segments N, 2, 2 to one line of x and y coordinates, interrupted by NaN: 2, 3 N."""
    gaps = np.full((len(segments), 1, 2), np.nan)
    return np.concatenate([segments, gaps], axis=1).reshape(-1, 2).T
