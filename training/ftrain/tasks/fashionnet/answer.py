"""Predictions of the fashionnet task for one image: as JSON, and drawn on the image."""

from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from fschemas.failures import UsageError
from fschemas.landmarks import LandmarkSet
from ftrain.data.types import Results
from ftrain.plots.overlay import INK, WHITE, draw_landmarks, label_font
from ftrain.tasks.fashionnet.labels import FashionNetLabels
from ftrain.tasks.fashionnet.task import FashionNet

_FIRST_CATEGORIES, _FIRST_ATTRIBUTES = 3, 6
_MIN_ATTRIBUTE = 0.5  # minimum score at which an attribute is reported
_VISIBILITIES = ("visible", "occluded", "absent")


def describe(task: FashionNet, results: Results, index: int, category: str | None = None) -> dict[str, Any]:
    """Return size, category with score (`category` if given), attributes, and the landmarks predicted to be present.

    `recognized` is false, and attributes and landmarks are empty, if no landmark is predicted or the score is below
    `score_threshold`. The score is `category_score` or, without categories, `landmark_score`, the mean presence
    probability of the landmarks. Coordinates are pixels.
    """
    learned, least_score = task.labels, task.config.score_threshold
    width, height = (int(side) for side in results["size"][index])
    points = _points(learned.landmarks, results, index)
    score = float(np.mean([point["score"] for point in points])) if points else 0.0
    prediction: dict[str, Any] = {"width": width, "height": height}
    if learned.categories:
        shares = results["category_scores"][index]
        order = np.argsort(-shares, kind="stable")[:_FIRST_CATEGORIES]
        prediction["categories"] = [{"name": learned.categories[one], "score": _rounded(shares[one])} for one in order]
        chosen = int(order[0]) if category is None else list(learned.categories).index(category)
        score = float(shares[chosen])
        prediction["category"] = learned.categories[chosen]
    name = "category_score" if learned.categories else "landmark_score"
    prediction |= {name: _rounded(score), "recognized": category is not None or (bool(points) and score >= least_score)}
    if not prediction["recognized"]:
        unknown = {"category": None} if "category" in prediction else {}
        return {**prediction, **unknown, "attributes": [], "points": []}
    return {**prediction, "attributes": named_attributes(learned, results, index), "points": points}


def draw(task: FashionNet, pixels: np.ndarray, prediction: dict[str, Any]) -> np.ndarray:
    """Draw the landmarks with the category above and the attributes below."""
    name = prediction.get("category") or ("garment" if prediction["recognized"] else "nothing recognized")
    named = {**prediction, "garment": name, "garment_score": prediction.get("category_score")}
    drawn = draw_landmarks(pixels, named, task.landmarks)
    lines = [one["name"].rpartition("/")[2].replace("_", " ") for one in prediction["attributes"]]
    lines = [line for line in lines if line.isascii()]
    if not lines:
        return drawn
    image = Image.fromarray(drawn)
    unit = max(image.size) / 800
    pen, font, pad, step = ImageDraw.Draw(image), label_font(15 * unit), 8 * unit, 20 * unit
    width, top = max(pen.textlength(line, font) for line in lines), image.height - step * len(lines) - 2 * pad
    pen.rectangle((0, top, width + 2 * pad, image.height), INK)
    for row, line in enumerate(lines):
        pen.text((pad, top + pad + (row + 0.5) * step), line, WHITE, font, anchor="lm")
    return np.asarray(image)


def check_category(task: FashionNet, category: str | None) -> None:
    """Raise `UsageError` unless `category` is None or a category of the run."""
    if category is not None and category not in task.labels.categories:
        known = ", ".join(task.labels.categories) or "none: the run did not learn categories"
        raise UsageError(f"unknown category {category!r}; choose from {known}")


def _points(landmarks: LandmarkSet, results: Results, index: int) -> list[dict[str, Any]]:
    """Return the landmarks more likely present than not; `score` is that probability."""
    points: list[dict[str, Any]] = []
    for point, name in enumerate(landmarks.names):
        shares = results["visibility_scores"][index, point]
        score = float(1 - shares[2])
        if score >= 0.5:
            x, y = (round(float(value), 2) for value in results["points"][index, point])
            seen = _VISIBILITIES[int(shares[:2].argmax())]
            points.append({"name": name, "x": x, "y": y, "score": _rounded(score), "visibility": seen})
    return points


def named_attributes(learned: FashionNetLabels, results: Results, index: int) -> list[dict[str, Any]]:
    """Return the best attribute of each exclusive group, else the top attributes with a score of at least 0.5."""
    if "attribute_scores" not in results:
        return []
    shares = results["attribute_scores"][index]
    if learned.exclusive:
        found = [(list(ids)[int(shares[list(ids)].argmax())], group) for group, ids in learned.types.items()]
        return [
            {"name": learned.attributes[one], "group": group, "score": _rounded(shares[one])} for one, group in found
        ]
    order = np.argsort(-shares, kind="stable")[:_FIRST_ATTRIBUTES]
    return [
        {"name": learned.attributes[one], "score": _rounded(shares[one])}
        for one in order
        if shares[one] >= _MIN_ATTRIBUTE
    ]


def _rounded(value: Any) -> float:
    return round(float(value), 4)
