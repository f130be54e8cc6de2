"""What FashionNet says of one image: as plain values, drawn on the image, and as a tile of the sheet of an evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from fschemas.landmarks import LandmarkSet
from ftrain.data.types import EvaluatedSplit, Results
from ftrain.metrics.normalised_error import PointErrors
from ftrain.plots import label_report
from ftrain.plots.drawing import INK, WHITE, draw_answer, side_color, side_entries
from ftrain.plots.sheet import MARKS, MARKS_ENTRY, ORDER_ENTRY, Tile, mistaken, sheet
from ftrain.tasks.fashionnet.metrics import Answers

_FIRST_CATEGORIES, _FIRST_ATTRIBUTES = 3, 6
_LEAST_ATTRIBUTE = 0.5  # score from which on an attribute is named
_VISIBILITIES = ("visible", "occluded", "absent")


def answer(answers: Answers, results: Results, number: int, category: str | None, least_score: float) -> dict[str, Any]:
    """Size, category with its score (`category` if given), attributes, and the landmarks that are thought to be in the image.

    `recognized` is false, and nothing is named, where no landmark is thought to be there, or where the score is below `least_score`:
    `category_score`, or without categories `landmark_score`, the mean certainty of the landmarks that are there. Coordinates are pixels.
    """
    width, height = (int(side) for side in results["size"][number])
    points = _points(answers.landmarks, results, number)
    score = float(np.mean([point["score"] for point in points])) if points else 0.0
    said: dict[str, Any] = {"width": width, "height": height}
    if answers.categories:
        shares = results["category_scores"][number]
        order = np.argsort(-shares, kind="stable")[:_FIRST_CATEGORIES]
        said["categories"] = [{"name": answers.categories[one], "score": _rounded(shares[one])} for one in order]
        chosen = int(order[0]) if category is None else list(answers.categories).index(category)
        score = float(shares[chosen])
        said["category"] = answers.categories[chosen]
    name = "category_score" if answers.categories else "landmark_score"
    said |= {name: _rounded(score), "recognized": category is not None or (bool(points) and score >= least_score)}
    if not said["recognized"]:
        return {**said, **({"category": None} if "category" in said else {}), "attributes": [], "points": []}
    return {**said, "attributes": _attributes(answers, results, number), "points": points}


def draw(pixels: np.ndarray, answer: dict[str, Any], landmarks: LandmarkSet) -> np.ndarray:
    """The landmarks of an answer on its image, what the garment is above them, and its attributes below."""
    name = answer.get("category") or ("garment" if answer["recognized"] else "nothing recognized")
    drawn = draw_answer(pixels, {**answer, "garment": name, "garment_score": answer.get("category_score")}, landmarks)
    lines = [one["name"].rpartition("/")[2].replace("_", " ") for one in answer["attributes"]]
    lines = [line for line in lines if line.isascii()]
    if not lines:
        return drawn
    image = Image.fromarray(drawn)
    unit = max(image.size) / 800
    font = ImageFont.truetype(f"{mpl.get_data_path()}/fonts/ttf/DejaVuSans.ttf", max(6.0, 15 * unit))
    pen, pad, step = ImageDraw.Draw(image), 8 * unit, 20 * unit
    width, top = max(pen.textlength(line, font) for line in lines), image.height - step * len(lines) - 2 * pad
    pen.rectangle((0, top, width + 2 * pad, image.height), INK)
    for place, line in enumerate(lines):
        pen.text((pad, top + pad + (place + 0.5) * step), line, WHITE, font, anchor="lm")
    return np.asarray(image)


def prediction_sheet(
    answers: Answers, evaluated: EvaluatedSplit, errors: PointErrors, chosen: Sequence[int], subtitle: str
) -> bytes:
    """PNG of the chosen images with their predicted landmarks, the category and the attributes beside the true ones."""
    tiles = [_tile(answers, evaluated, errors, number) for number in chosen]
    legend = [*side_entries(answers.landmarks), *([MARKS_ENTRY] if answers.attributes else []), ORDER_ENTRY]
    meaning = {"good": "green frame: category right", "bad": "red frame: wrong"}
    return sheet(tiles, "Landmarks, category and attributes", subtitle, meaning=meaning, legend=legend)


def _tile(answers: Answers, evaluated: EvaluatedSplit, errors: PointErrors, number: int) -> Tile:
    results = evaluated.results
    pixels, _ = label_report.image_of(evaluated, number)
    present = results["visibility_scores"][number].argmax(axis=1) < 2
    count = int(errors.counted[number].sum())
    lines, good = [], None
    if answers.categories:
        truth, said = int(results["category"][number]), int(results["category_scores"][number].argmax())
        good = None if truth < 0 else truth == said
        lines.append(mistaken(answers.categories[said], answers.categories[truth] if good is False else None))
    lines.append(
        f"landmarks: NE {100 * errors.distances[number].sum() / count:.1f} %" if count else "no visible landmark"
    )
    if answers.attributes:
        targets = results["attributes"][number]
        named = [one["name"] for one in _attributes(answers, results, number)]
        words = [
            f"{MARKS[int(targets[list(answers.attributes).index(name)])]} {name.rpartition('/')[2]}" for name in named
        ]
        lines += [", ".join(words[place : place + 2]) for place in range(0, len(words), 2)]
    colors = [side_color(answers.landmarks, point) for point in np.flatnonzero(present).tolist()]
    return Tile(pixels, lines, good, points=results["points"][number][present], point_colors=colors)


def _points(landmarks: LandmarkSet, results: Results, number: int) -> list[dict[str, Any]]:
    """The landmarks that are more likely in the image than not: `score` is that probability."""
    points: list[dict[str, Any]] = []
    for point, name in enumerate(landmarks.points):
        shares = results["visibility_scores"][number, point]
        score = float(1 - shares[2])
        if score >= 0.5:
            x, y = (round(float(value), 2) for value in results["points"][number, point])
            seen = _VISIBILITIES[int(shares[:2].argmax())]
            points.append({"name": name, "x": x, "y": y, "score": _rounded(score), "visibility": seen})
    return points


def _attributes(answers: Answers, results: Results, number: int) -> list[dict[str, Any]]:
    """Of exclusive groups the likeliest of each; else the first few that are more likely than not."""
    if "attribute_scores" not in results:
        return []
    shares = results["attribute_scores"][number]
    if answers.exclusive:
        found = [(list(ids)[int(shares[list(ids)].argmax())], group) for group, ids in answers.types.items()]
        return [
            {"name": answers.attributes[one], "group": group, "score": _rounded(shares[one])} for one, group in found
        ]
    order = np.argsort(-shares, kind="stable")[:_FIRST_ATTRIBUTES]
    return [
        {"name": answers.attributes[one], "score": _rounded(shares[one])}
        for one in order
        if shares[one] >= _LEAST_ATTRIBUTE
    ]


def _rounded(value: Any) -> float:
    return round(float(value), 4)
