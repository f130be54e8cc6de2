"""What the category task says of one photograph: in JSON, and drawn on it."""

from __future__ import annotations

from typing import Any

import numpy as np

from ftrain.data.types import Results
from ftrain.tasks.category.drawing import Line, draw_labels
from ftrain.tasks.category.labels import CategoryLabels

_RIVALS = 5  # categories that are listed
_PER_TYPE = 3  # attributes of a type that are listed
_LINES = 9  # of the panel


def answer(learned: CategoryLabels, least_score: float, results: Results, number: int) -> dict[str, Any]:
    """The answer for image `number` of a predicted batch.

    `recognized` is false where the best score (of the category, or without one the mean of the best of each group of attributes)
    is below `least_score`: then nothing is claimed, but the candidates stand there all the same.
    """
    width, height = (int(side) for side in results["size"][number])
    said: dict[str, Any] = {"width": width, "height": height, "recognized": True, "least_score": least_score}
    sure: list[float] = []
    if learned.categories:
        scores = results["category_scores"][number]
        said |= _category(learned, scores)
        sure.append(float(scores.max()))
    if learned.attributes:
        scores = results["attribute_scores"][number]
        said["attributes"] = _attributes(learned, scores)
        if not sure:
            sure.append(float(np.mean([entries[0]["score"] for entries in said["attributes"].values()])))
    if learned.has_boxes:
        said["box"] = [round(float(edge), 2) for edge in results["boxes"][number]]
    if not sure or sure[0] < least_score:
        said |= {"recognized": False, **({"category": None} if "category" in said else {})}
    return said


def draw(image: np.ndarray, said: dict[str, Any]) -> np.ndarray:
    """The answer on its image, which may have been resized since."""
    lines = [Line(f"nothing recognized (all scores below {said['least_score']:.2f})")]
    if said["recognized"]:
        lines = [Line(said["category"], said["category_score"])] if "category" in said else []
        kinds = said.get("attributes", {})
        best = [
            Line(entries[0]["name"], entries[0]["score"], kind, probability=False) for kind, entries in kinds.items()
        ]
        lines += best[: _LINES - len(lines)]
    return draw_labels(image, lines, size=(said["width"], said["height"]), box=said.get("box"))


def _category(learned: CategoryLabels, scores: np.ndarray) -> dict[str, Any]:
    order = np.argsort(-scores, kind="stable")[:_RIVALS]
    said: dict[str, Any] = {
        "category": learned.categories[order[0]],
        "category_score": round(float(scores[order[0]]), 4),
        "categories": [{"name": learned.categories[index], "score": round(float(scores[index]), 4)} for index in order],
    }
    if learned.types:
        shares = {name: float(scores[list(members)].sum()) for name, members in learned.types.items()}
        said["type"] = next((name for name, members in learned.types.items() if order[0] in members), None)
        # The best of each type: a photograph may show several garments, one of each.
        said["types"] = {
            name: {
                "score": round(shares[name], 4),
                "category": learned.categories[members[int(scores[list(members)].argmax())]],
            }
            for name, members in learned.types.items()
        }
    return said


def _attributes(learned: CategoryLabels, scores: np.ndarray) -> dict[str, list[dict[str, Any]]]:
    kinds = learned.groups or {"all": list(range(len(learned.attributes)))}
    listed = 1 if learned.exclusive else _PER_TYPE
    said: dict[str, list[dict[str, Any]]] = {}
    for kind, members in kinds.items():
        order = sorted(members, key=lambda index: -scores[index])[:listed]
        said[kind] = [{"name": learned.attributes[index], "score": round(float(scores[index]), 4)} for index in order]
    return said
