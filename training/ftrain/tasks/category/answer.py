"""Predictions of the category task for one image: as JSON, and drawn as a box and a panel of labels with score bars."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageDraw

from ftrain.data.types import Results
from ftrain.plots.overlay import INK, WHITE, label_font
from ftrain.tasks.category.labels import CategoryLabels
from ftrain.tasks.category.task import Category

_RIVALS = 5  # categories listed
_PER_TYPE = 3  # attributes listed per type
_LINES = 9  # lines of the panel
_BOX, _BAR, _FAINT = (15, 159, 184), (64, 190, 212), (176, 184, 190)
_MADE_FOR = 800  # longer side, in pixels, at which font and line sizes apply unscaled


def describe(task: Category, results: Results, index: int) -> dict[str, Any]:
    """Return size, category with score and runners-up, attributes, and bounding box in pixels.

    `recognized` is false if the best score is below `least_score`: the score of the category or, without categories,
    the mean of the best attribute of each group. `category` is then None, but the candidates are still listed.
    """
    learned, least_score = task.labels, task.config.score_threshold
    width, height = (int(side) for side in results["size"][index])
    prediction: dict[str, Any] = {"width": width, "height": height, "recognized": True, "least_score": least_score}
    sure: list[float] = []
    if learned.categories:
        scores = results["category_scores"][index]
        prediction |= _category(learned, scores)
        sure.append(float(scores.max()))
    if learned.attributes:
        scores = results["attribute_scores"][index]
        prediction["attributes"] = _attributes(learned, scores)
        if not sure:
            sure.append(float(np.mean([entries[0]["score"] for entries in prediction["attributes"].values()])))
    if learned.has_boxes:
        prediction["box"] = [round(float(edge), 2) for edge in results["boxes"][index]]
    if not sure or sure[0] < least_score:
        prediction |= {"recognized": False, **({"category": None} if "category" in prediction else {})}
    return prediction


def draw(task: Category, image: np.ndarray, prediction: dict[str, Any]) -> np.ndarray:
    """Draw the bounding box and the predicted labels."""
    del task
    lines = [Line(f"nothing recognized (all scores below {prediction['least_score']:.2f})")]
    if prediction["recognized"]:
        lines = [Line(prediction["category"], prediction["category_score"])] if "category" in prediction else []
        kinds = prediction.get("attributes", {})
        best = [Line(top["name"], top["score"], kind, probability=False) for kind, (top, *_) in kinds.items()]
        lines += best[: _LINES - len(lines)]
    return draw_labels(image, lines, size=(prediction["width"], prediction["height"]), box=prediction.get("box"))


def _category(learned: CategoryLabels, scores: np.ndarray) -> dict[str, Any]:
    order = np.argsort(-scores, kind="stable")[:_RIVALS]
    prediction: dict[str, Any] = {
        "category": learned.categories[order[0]],
        "category_score": round(float(scores[order[0]]), 4),
        "categories": [{"name": learned.categories[index], "score": round(float(scores[index]), 4)} for index in order],
    }
    if learned.types:
        shares = {name: float(scores[list(members)].sum()) for name, members in learned.types.items()}
        prediction["type"] = next((name for name, members in learned.types.items() if order[0] in members), None)
        # Best category of each type: an image may show several garments, one of each.
        prediction["types"] = {
            name: {
                "score": round(shares[name], 4),
                "category": learned.categories[members[int(scores[list(members)].argmax())]],
            }
            for name, members in learned.types.items()
        }
    return prediction


def _attributes(learned: CategoryLabels, scores: np.ndarray) -> dict[str, list[dict[str, Any]]]:
    kinds = learned.groups or {"all": list(range(len(learned.attributes)))}
    listed = 1 if learned.exclusive else _PER_TYPE
    best: dict[str, list[dict[str, Any]]] = {}
    for kind, members in kinds.items():
        order = sorted(members, key=lambda index: -scores[index])[:listed]
        best[kind] = [{"name": learned.attributes[index], "score": round(float(scores[index]), 4)} for index in order]
    return best


@dataclass(frozen=True)
class Line:
    """One line of a panel: name, text and score (None: no bar). The first line is larger.

    Probabilities are shown in percent; other scores, such as those of attributes trained with balanced losses, are not.
    """

    text: str
    score: float | None = None
    name: str = ""
    probability: bool = True


def draw_labels(
    image: np.ndarray, lines: Sequence[Line], *, size: tuple[int, int], box: Sequence[float] | None = None
) -> np.ndarray:
    """Draw a panel at the lower left of `image` (uint8 RGB H, W, 3) and the box (pixels of `size`: width, height)."""
    canvas = np.ascontiguousarray(image).copy()
    height, width = canvas.shape[:2]
    unit = max(width, height) / _MADE_FOR
    if box is not None:
        factors = np.array([width / size[0], height / size[1]] * 2)
        edges = (np.asarray(box, float) + [-0.5, -0.5, 0.5, 0.5] + 0.5) * factors - 0.5
        first, last = (tuple(int(value) for value in edges[part].round()) for part in (slice(2), slice(2, 4)))
        for color, thickness in ((WHITE, 6), (_BOX, 3)):
            cv2.rectangle(canvas, first, last, color, max(1, round(thickness * unit)), cv2.LINE_AA)
    return np.asarray(_panel(Image.fromarray(canvas), lines, unit)) if lines else canvas


def _panel(image: Image.Image, lines: Sequence[Line], unit: float) -> Image.Image:
    sizes = [20 * unit if number == 0 else 14.5 * unit for number in range(len(lines))]
    pad, step, bar = 10 * unit, 1.42, 70 * unit
    pen = ImageDraw.Draw(image)
    names = max(pen.textlength(line.name, label_font(14.5 * unit)) for line in lines)
    names += 8 * unit if names else 0
    texts = max(
        pen.textlength(line.text, label_font(s, bold=n == 0))
        for n, (line, s) in enumerate(zip(lines, sizes, strict=True))
    )
    bars = bar + 50 * unit if any(line.score is not None for line in lines) else 0
    width = min(image.width, round(names + texts + bars + 3 * pad))
    height = min(image.height, round(sum(sizes) * step + 1.6 * pad))
    panel = Image.new("RGB", (width, height), INK)
    corner = (0, image.height - height)
    panel = Image.blend(image.crop((*corner, width, image.height)), panel, 0.82)
    pen, top = ImageDraw.Draw(panel), 0.8 * pad
    for number, (line, letters) in enumerate(zip(lines, sizes, strict=True)):
        middle = top + letters * step / 2
        left = pad if number == 0 and not line.name else pad + names
        pen.text((pad, middle), line.name, _FAINT, label_font(14.5 * unit), anchor="lm")
        pen.text((left, middle), line.text, WHITE, label_font(letters, bold=number == 0), anchor="lm")
        if line.score is not None:
            start = width - pad - bars + 2 * unit
            pen.rectangle((start, middle - 3 * unit, start + bar, middle + 3 * unit), (70, 76, 82))
            pen.rectangle((start, middle - 3 * unit, start + bar * min(1.0, line.score), middle + 3 * unit), _BAR)
            written = f"{100 * line.score:.0f}%" if line.probability else f"{line.score:.2f}"
            pen.text((width - pad, middle), written, WHITE, label_font(13 * unit), anchor="rm")
        top += letters * step
    image.paste(panel, corner)
    return image
