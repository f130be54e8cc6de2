"""What the category task says of one photograph: in JSON, and drawn on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ftrain.reports.label_drawing import Line, draw_labels
from ftrain.task import Results

if TYPE_CHECKING:
    from ftrain.tasks.category import Category

_RIVALS = 5  # categories that are listed
_PER_TYPE = 3  # attributes of a type that are listed
_LINES = 9  # of the panel


def answer(task: Category, results: Results, number: int) -> dict[str, Any]:
    """The answer for picture `number` of a predicted batch.

    `recognized` is false where the best score (of the category, or without one the mean of the best of each group of attributes)
    is below `least_score`: then nothing is claimed, but the candidates stand there all the same.
    """
    width, height = (int(side) for side in results["size"][number])
    said: dict[str, Any] = {"width": width, "height": height, "recognized": True, "least_score": task.config.least_score}
    sure: list[float] = []
    if task.categories:
        scores = results["category_scores"][number]
        said |= _category(task, scores)
        sure.append(float(scores.max()))
    if task.attributes:
        scores = results["attribute_scores"][number]
        said["attributes"] = _attributes(task, scores)
        if not sure:
            sure.append(float(np.mean([entries[0]["score"] for entries in said["attributes"].values()])))
    if task.has_boxes:
        said["box"] = [round(float(edge), 2) for edge in results["boxes"][number]]
    if not sure or sure[0] < task.config.least_score:
        said |= {"recognized": False, **({"category": None} if "category" in said else {})}
    return said


def draw(picture: np.ndarray, said: dict[str, Any]) -> np.ndarray:
    """The answer on its picture, which may have been resized since."""
    lines = [Line(f"nothing recognized (all scores below {said['least_score']:.2f})")]
    if said["recognized"]:
        lines = [Line(said["category"], said["category_score"])] if "category" in said else []
        kinds = said.get("attributes", {})
        best = [Line(entries[0]["name"], entries[0]["score"], kind, probability=False) for kind, entries in kinds.items()]
        lines += best[: _LINES - len(lines)]
    return draw_labels(picture, lines, size=(said["width"], said["height"]), box=said.get("box"))


def _category(task: Category, scores: np.ndarray) -> dict[str, Any]:
    order = np.argsort(-scores, kind="stable")[:_RIVALS]
    said: dict[str, Any] = {
        "category": task.categories[order[0]],
        "category_score": round(float(scores[order[0]]), 4),
        "categories": [{"name": task.categories[index], "score": round(float(scores[index]), 4)} for index in order],
    }
    if task.types:
        shares = {name: float(scores[list(members)].sum()) for name, members in task.types.items()}
        said["type"] = next((name for name, members in task.types.items() if order[0] in members), None)
        # The best of each type: a photograph may show several garments, one of each.
        said["types"] = {
            name: {"score": round(shares[name], 4), "category": task.categories[members[int(scores[list(members)].argmax())]]}
            for name, members in task.types.items()
        }
    return said


def _attributes(task: Category, scores: np.ndarray) -> dict[str, list[dict[str, Any]]]:
    kinds = task.groups or {"all": list(range(len(task.attributes)))}
    listed = 1 if task.exclusive else _PER_TYPE
    said: dict[str, list[dict[str, Any]]] = {}
    for kind, members in kinds.items():
        order = sorted(members, key=lambda index: -scores[index])[:listed]
        said[kind] = [{"name": task.attributes[index], "score": round(float(scores[index]), 4)} for index in order]
    return said
