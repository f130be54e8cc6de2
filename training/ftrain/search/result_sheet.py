"""Contact sheet of a query: the query image on the left, then its results with rank, score, item and category."""

from typing import Any

import cv2
import numpy as np

from fschemas.shard_set import ShardSet
from ftrain.data.image import decode_exactly
from ftrain.plots.sheet import Tile, sheet

_COLUMNS = 6
_SIDE = 320  # pixels; larger images are shrunk for their tile
_EMPTY = np.full((64, 64, 3), 238, np.uint8)


def draw_result(image: np.ndarray, answer: dict[str, Any], shards: ShardSet | None) -> bytes:
    """Render the results of one query image, uint8 H, W, 3, as PNG; without `shards`, the results have no images.

    If the item of the query is known, results with the same item are framed green, others red.
    """
    shown = [answer["item"] or "unknown item", f"in the index as {answer['in_index'][0]}" if answer["in_index"] else ""]
    tiles: list[Tile | None] = [Tile(small(image), ["query", *(line for line in shown if line)])]
    for number, match in enumerate(answer["matches"]):
        if number and number % (_COLUMNS - 1) == 0:
            tiles.append(None)  # the first column is the query's
        image = _EMPTY if shards is None else small(decode_exactly(shards.read(match["row"])[0]))
        tiles.append(Tile(image, _lines(match, answer), match["hit"]))
    meaning = {"good": "green frame: the same item", "bad": "red frame: another item"}
    return sheet(tiles, _title(answer), _subtitle(answer, shards), _COLUMNS, meaning=meaning)


def _title(answer: dict[str, Any]) -> str:
    hits = [match["rank"] for match in answer["matches"] if match["hit"]]
    name = answer["image"].rpartition("/")[2]
    if not answer["item"]:
        return f"Most similar to {name}"
    found = (
        f"{len(hits)} of {len(answer['matches'])} show the same item, the first at rank {hits[0]}"
        if hits
        else "none shows the same item"
    )
    return f"Most similar to {name}: {found}"


def _subtitle(answer: dict[str, Any], shards: ShardSet | None) -> str:
    weight, similarity = answer["color_weight"], _SIMILARITY[answer["metric"]]
    parts = [f"score: {similarity} of deep features" + (f" + {weight:g} x that of colors" if weight else "")]
    if answer["reranked"]:
        parts = [
            f"re-ranked by k-reciprocal neighbors; score: minus their distance; similarity: {parts[0].partition(': ')[2]}"
        ]
    if shards is None:
        parts.append("the shard set is not where the index says, pass it with --shards to see images")
    return "; ".join(parts)


_SIMILARITY = {"cosine": "cosine", "euclidean": "minus the Euclidean distance"}


def _lines(match: dict[str, Any], answer: dict[str, Any]) -> list[str]:
    lines = [
        f"{match['rank']}   {match['score']:.3f}",
        match["item"] or match["key"],
        match["category"].replace("_", " "),
    ]
    if answer["color_weight"]:
        lines.append(f"deep {match['deep']:.3f}, color {match['color']:.3f}")
    elif answer["reranked"]:
        lines.append(f"deep {match['deep']:.3f}")
    return lines


def small(image: np.ndarray) -> np.ndarray:
    """Shrink an image, uint8 H, W, 3, to tile size."""
    factor = _SIDE / max(image.shape[:2])
    if factor >= 1:
        return image
    size = max(1, round(image.shape[1] * factor)), max(1, round(image.shape[0] * factor))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)
