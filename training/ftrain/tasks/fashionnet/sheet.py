"""Contact sheet of a FashionNet evaluation."""

from collections.abc import Sequence

import numpy as np

from ftrain.data.types import EvaluatedSplit
from ftrain.metrics.normalized_error import PointErrors
from ftrain.plots.legend import side_entries
from ftrain.plots.overlay import side_color
from ftrain.plots.sheet import MARKS, MARKS_ENTRY, ORDER_ENTRY, Tile, mistaken, sheet
from ftrain.reports import label_report
from ftrain.tasks.fashionnet.answer import named_attributes
from ftrain.tasks.fashionnet.labels import FashionNetLabels


def prediction_sheet(
    learned: FashionNetLabels, evaluated: EvaluatedSplit, errors: PointErrors, chosen: Sequence[int], subtitle: str
) -> bytes:
    """Return a PNG of the chosen images with predicted landmarks, and predicted and true category and attributes."""
    tiles = [_tile(learned, evaluated, errors, number) for number in chosen]
    legend = [*side_entries(learned.landmarks), *([MARKS_ENTRY] if learned.attributes else []), ORDER_ENTRY]
    meaning = {"good": "green frame: category correct", "bad": "red frame: wrong"}
    return sheet(tiles, "Landmarks, category and attributes", subtitle, meaning=meaning, legend=legend)


def _tile(learned: FashionNetLabels, evaluated: EvaluatedSplit, errors: PointErrors, number: int) -> Tile:
    results = evaluated.results
    pixels, _ = label_report.image_of(evaluated, number)
    present = results["visibility_scores"][number].argmax(axis=1) < 2
    count = int(errors.counted[number].sum())
    lines, good = [], None
    if learned.categories:
        target, predicted = int(results["category"][number]), int(results["category_scores"][number].argmax())
        good = None if target < 0 else target == predicted
        lines.append(mistaken(learned.categories[predicted], learned.categories[target] if good is False else None))
    lines.append(
        f"landmarks: NE {100 * errors.distances[number].sum() / count:.1f}%" if count else "no visible landmark"
    )
    if learned.attributes:
        targets = results["attributes"][number]
        named = [one["name"] for one in named_attributes(learned, results, number)]
        words = [
            f"{MARKS[int(targets[list(learned.attributes).index(name)])]} {name.rpartition('/')[2]}" for name in named
        ]
        lines += [", ".join(words[start : start + 2]) for start in range(0, len(words), 2)]
    colors = [side_color(learned.landmarks, point) for point in np.flatnonzero(present).tolist()]
    return Tile(pixels, lines, good, points=results["points"][number][present], point_colors=colors)
