"""Predictions of the style task for one image, with scores and attention: as JSON, and drawn on the image."""

from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageDraw

from ftrain.data.types import Results
from ftrain.plots.overlay import INK, WHITE, label_font
from ftrain.tasks.style.task import Style

_MAX_CANDIDATES = 5  # candidates listed
_GLOW = np.array([255, 214, 120], np.float32)  # color of the attended areas
_ACCENT = (15, 159, 184)
_TILE = 420  # pixels, longer side of the image of one attribute


def describe(task: Style, results: Results, index: int) -> dict[str, Any]:
    """Return size, the style (or the value of each attribute) with its score, and the attention.

    The value is "" unless the best score exceeds `least_score`: chance plus `score_threshold` of the distance from
    chance to 1. `attention` is a grid of 0 … 255 over `region`, the square covered by the network input; `box` is the
    part of it covered by the local branch. Both are x1, y1, x2, y2 in pixels, edge to edge, and may extend beyond the
    image.
    """
    labels, least_certainty = task.labels, task.config.score_threshold
    width, height = (int(side) for side in results["size"][index])
    prediction: dict[str, Any] = {"width": width, "height": height, "region": _rounded(results["region"][index])}
    parts: dict[str, dict[str, Any]] = {}
    scores, start = results.get("scores"), 0
    for attribute_index, (attribute, values) in enumerate(zip(labels.attributes, labels.values, strict=True)):
        part = {} if scores is None else _named(values, scores[index, start : start + len(values)], least_certainty)
        start += len(values)
        parts[attribute] = {**part, **_attention(results, index, attribute_index)}
    if labels.classes is None:
        return {**prediction, "attributes": parts}
    style = parts["style"]
    named = [{"style": entry.pop("value"), **entry} for entry in style.pop("best")]
    found = style.pop("value")
    style = {"style_score" if name == "score" else name: value for name, value in style.items()}
    original = labels.originals[labels.values[0].index(found)] if found else ""
    return {
        **prediction,
        "recognized": bool(found),
        "style": found,
        **({"label": original} if original != found else {}),
        **style,
        "styles": named,
    }


def _named(values: tuple[str, ...], scores: np.ndarray, least_certainty: float) -> dict[str, Any]:
    chance = 1 / len(values)
    least = round(chance + least_certainty * (1 - chance), 4)
    order = np.argsort(-scores, kind="stable")[:_MAX_CANDIDATES]
    best = [{"value": values[index], "score": round(float(scores[index]), 4)} for index in order]
    found = best[0]["value"] if best[0]["score"] > least else ""
    return {"value": found, "score": best[0]["score"], "least_score": least, "best": best}


def _attention(results: Results, index: int, attribute_index: int) -> dict[str, Any]:
    grid = results["attention"][index, attribute_index].astype(np.float32)
    span = float(grid.max() - grid.min())
    stretched = (grid - grid.min()) / span if span > 0 else np.zeros_like(grid)
    attention: dict[str, Any] = {"attention": np.round(255 * stretched).astype(int).tolist()}
    if "box" in results:
        region = results["region"][index]
        side = region[2:] - region[:2]
        attention["box"] = _rounded(
            np.concatenate([region[:2], region[:2]]) + results["box"][index, attribute_index] * np.tile(side, 2)
        )
    return attention


def _rounded(numbers: np.ndarray) -> list[float]:
    return [round(float(value), 2) + 0.0 for value in numbers]  # + 0.0: no -0.0


def glow(pixels: np.ndarray, attention: np.ndarray, region: np.ndarray) -> np.ndarray:
    """Dim the parts of an image, uint8 H, W, 3, with little attention, and tint those with much.

    `attention` h, w (0 … 1) covers `region` (edges x1, y1, x2, y2 in pixels of this image).
    """
    height, width = pixels.shape[:2]
    rows, columns = attention.shape
    step = (region[2:] - region[:2]) / (columns, rows)
    # Pixel center -> grid coordinate; 0 is the center of the first cell.
    matrix = np.array(
        [[1 / step[0], 0, (0.5 - region[0]) / step[0] - 0.5], [0, 1 / step[1], (0.5 - region[1]) / step[1] - 0.5]]
    )
    grid = np.ascontiguousarray(attention, np.float32)
    heat = cv2.warpAffine(
        grid, matrix, (width, height), flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REPLICATE
    )
    heat = np.sqrt(np.clip(heat, 0, 1))[..., None]
    lit = pixels * (0.45 + 0.55 * heat)
    return np.clip(lit + (_GLOW - lit) * 0.28 * heat, 0, 255).astype(np.uint8)


def draw(task: Style, pixels: np.ndarray, prediction: dict[str, Any]) -> np.ndarray:
    """Draw the attention, the attended square and the top predictions; for attributes, a grid of images."""
    del task
    if "attributes" not in prediction:
        return _draw_one(
            pixels, prediction, prediction, "", [(entry["style"], entry["score"]) for entry in prediction["styles"]]
        )
    scale = _TILE / max(pixels.shape[:2])
    size = max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale))
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    tiles = [
        _draw_one(
            small,
            prediction,
            part,
            name.replace("_", " "),
            [(entry["value"], entry["score"]) for entry in part.get("best", [])[:2]],
        )
        for name, part in prediction["attributes"].items()
    ]
    columns = min(4, len(tiles))
    blank = np.full_like(tiles[0], 255)
    tiles += [blank] * (-len(tiles) % columns)
    return np.vstack([np.hstack(tiles[start : start + columns]) for start in range(0, len(tiles), columns)])


def _draw_one(
    pixels: np.ndarray, whole: dict[str, Any], part: dict[str, Any], title: str, named: list[tuple[str, float]]
) -> np.ndarray:
    height, width = pixels.shape[:2]
    factor = np.array([width / whole["width"], height / whole["height"]] * 2)
    canvas = glow(pixels, np.array(part["attention"]) / 255, np.array(whole["region"]) * factor)
    unit = max(width, height) / 800  # line and font sizes are for 800 pixels
    if "box" in part:
        left, top, right, bottom = (round(value) for value in np.array(part["box"]) * factor)
        for color, thickness in ((WHITE, 4.5), (_ACCENT, 2.2)):
            cv2.rectangle(
                canvas, (left, top), (right - 1, bottom - 1), color, max(1, round(thickness * unit)), cv2.LINE_AA
            )
    image = Image.fromarray(canvas)
    _write(image, title, part, named, max(unit, 0.7))
    return np.asarray(image)


def _write(image: Image.Image, title: str, part: dict[str, Any], named: list[tuple[str, float]], unit: float) -> None:
    """Draw a title, and one line with a bar per candidate; the first is bold if it is recognized."""
    pen, pad, line = ImageDraw.Draw(image), 9 * unit, 27 * unit
    lines: list[tuple[str, float | None, bool]] = [(title, None, True)] if title else []
    if "value" in part or "style" in part:
        recognized = bool(part.get("value") or part.get("style"))
        if not recognized:
            lines.append((f"nothing recognized (below {100 * part['least_score']:.0f}%)", None, False))
        lines += [(text, score, recognized and number == 0) for number, (text, score) in enumerate(named)]
    if not lines:
        return
    fonts = {bold: label_font(18 * unit, bold=bold) for bold in (False, True)}
    texts = [text if score is None else f"{text}  {100 * score:.0f}%" for text, score, _ in lines]
    width = max(pen.textlength(text, fonts[bold]) for text, (_, _, bold) in zip(texts, lines, strict=True)) + 2 * pad
    pen.rectangle((0, 0, width, line * len(lines) + pad), INK)
    for number, (text, (_, score, bold)) in enumerate(zip(texts, lines, strict=True)):
        top = pad / 2 + line * number
        if score is not None:
            pen.rectangle((pad, top + line - 5 * unit, pad + (width - 2 * pad) * score, top + line - 2 * unit), _ACCENT)
        pen.text((pad, top + line / 2 - 2 * unit), text, WHITE, fonts[bold], anchor="lm")
